//! From pairs to a dataset's folder.

use anyhow::Result;
use millrace_training::DatasetError;
use millrace_training::dataset::{
    BuildOptions, Dataset, Judged, SplitBy, build, judged, pairs_of_file,
};

use crate::small;

#[tokio::test]
async fn triples_are_once_each_with_negatives_that_do_not_answer() -> Result<()> {
    let work = tempfile::tempdir()?;
    let mut source = small::source();
    // The same pair again, and a second answer to the first query, which looks like the first.
    let mut again = source.pairs[..1].to_vec();
    again.push(again[0].clone());
    again[1].positive.push_str(" w59");
    source.passages.push(again[1].positive.clone());
    source.pairs.extend(again);
    let folder = work.path().join("data");
    let options = BuildOptions {
        negative_ranks: 2..=4,
        dev_share: 0.2,
        seed: 3,
    };
    let manifest = build(source, &options, &folder, &mut |_, _| {}).await?;
    let counts = manifest.counts;
    assert_eq!((counts.queries, counts.duplicates), (30, 1));
    assert_eq!(counts.train + counts.dev, 31);
    assert_eq!(manifest.split, SplitBy::Seed(3));

    let dataset = Dataset::read(&folder)?;
    assert_eq!(dataset.manifest, manifest);
    let triples: Vec<_> = dataset.train.iter().chain(&dataset.dev).collect();
    let found: usize = triples.iter().map(|triple| triple.negatives.len()).sum();
    assert_eq!(found, counts.negatives);
    assert!(found > 31, "hardly any negatives: {found}");
    for triple in &triples {
        assert!(triple.negatives.len() <= 3);
        for other in &triples {
            let answers = other.query == triple.query && triple.negatives.contains(&other.positive);
            assert!(
                !answers,
                "{} is a negative of its own query",
                other.positive
            );
        }
    }

    // The same again is the same, byte for byte.
    let second = work.path().join("again");
    let source = small::source();
    let one = build(source.clone(), &options, &second, &mut |_, _| {}).await?;
    let third = work.path().join("third");
    let two = build(source, &options, &third, &mut |_, _| {}).await?;
    assert_eq!(one.files, two.files);
    Ok(())
}

#[tokio::test]
async fn a_judged_corpus_becomes_pairs() -> Result<()> {
    let work = tempfile::tempdir()?;
    let corpus = work.path().join("corpus.jsonl");
    let lines = [
        r#"{"_id": "a", "title": "Tides", "text": "The moon moves the sea."}"#,
        r#"{"_id": "b", "title": "", "text": "Ships sail on the sea."}"#,
        r#"{"_id": "c", "title": "Empty", "text": ""}"#,
    ];
    std::fs::write(&corpus, lines.join("\n"))?;
    let asked = |relevant: &[(&str, &str)]| Judged {
        corpus: corpus.clone(),
        queries: [("q".to_owned(), "what moves the sea?".to_owned())].into(),
        relevant: relevant
            .iter()
            .map(|(query, passage)| ((*query).to_owned(), (*passage).to_owned()))
            .collect(),
        files: Vec::new(),
    };
    let source = judged(asked(&[("q", "a"), ("q", "gone"), ("other", "a")]))?;
    assert_eq!(source.incomplete, 2);
    assert_eq!(source.pairs[0].positive, "Tides The moon moves the sea.");
    assert_eq!(source.passages.len(), 3);
    let nothing = judged(asked(&[("other", "b")])).unwrap_err().to_string();
    assert!(nothing.contains("of one collection"), "{nothing}");
    Ok(())
}

#[test]
fn what_is_no_pair_is_named() -> Result<()> {
    let work = tempfile::tempdir()?;
    let path = work.path().join("pairs.jsonl");
    let refused = |text: &str| -> Result<DatasetError> {
        std::fs::write(&path, text)?;
        Ok(pairs_of_file(&path).unwrap_err())
    };
    let pair = "{\"query\": \"q\", \"positive\": \"p\"}\n";
    assert!(matches!(refused("\n")?, DatasetError::NoPairs { .. }));
    let line = refused(&format!("{pair}{{\"question\": \"q\"}}\n"))?;
    assert!(matches!(line, DatasetError::Line { line: 2, .. }), "{line}");
    let empty = refused(&format!(
        "{pair}{pair}{{\"query\": \" \", \"positive\": \"p\"}}\n"
    ))?;
    assert!(
        empty.to_string().contains("line 3: query is empty"),
        "{empty}"
    );
    let giant = format!(
        "{pair}{{\"query\": \"q\", \"positive\": \"{}\"}}\n",
        "x".repeat(5 << 20)
    );
    let giant = refused(&giant)?;
    assert!(
        matches!(giant, DatasetError::GiantText { line: 2, .. }),
        "{giant}"
    );
    assert!(
        giant.to_string().contains("cut the document into passages"),
        "{giant}"
    );
    Ok(())
}

#[tokio::test]
async fn a_source_that_was_changed_meanwhile_is_refused() -> Result<()> {
    let work = tempfile::tempdir()?;
    let (path, folder) = (work.path().join("pairs.jsonl"), work.path().join("data"));
    let pair = "{\"query\": \"w1 w2\", \"positive\": \"w2 w3\"}\n";
    std::fs::write(&path, pair)?;
    let source = pairs_of_file(&path)?;
    std::fs::write(&path, pair.repeat(2))?;
    let options = BuildOptions {
        dev_share: 0.0,
        ..BuildOptions::default()
    };
    let built = build(source, &options, &folder, &mut |_, _| {}).await;
    let error = built.unwrap_err();
    assert!(
        matches!(error, DatasetError::SourceChanged { .. }),
        "{error}"
    );
    assert_eq!(std::fs::read_dir(work.path())?.count(), 1);

    let manifest = build(pairs_of_file(&path)?, &options, &folder, &mut |_, _| {}).await?;
    assert_eq!(manifest.read[0].bytes, std::fs::metadata(&path)?.len());
    assert_eq!(std::fs::read_dir(work.path())?.count(), 2);
    Ok(())
}

#[cfg(unix)]
#[tokio::test]
async fn a_dataset_can_be_read_by_whoever_may_read_its_neighbours() -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let work = tempfile::tempdir()?;
    let (folder, other) = (work.path().join("data"), work.path().join("other"));
    small::dataset(&folder, 0.2).await?;
    std::fs::create_dir(&other)?;
    std::fs::write(other.join("file"), "")?;
    let mode = |path: &std::path::Path| path.metadata().map(|metadata| metadata.mode());
    assert_eq!(mode(&folder)?, mode(&other)?);
    for name in ["manifest.json", "train.jsonl.gz", "dev.jsonl.gz"] {
        assert_eq!(
            mode(&folder.join(name))?,
            mode(&other.join("file"))?,
            "{name}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_dataset_that_was_changed_is_refused() -> Result<()> {
    let work = tempfile::tempdir()?;
    let folder = work.path().join("data");
    small::dataset(&folder, 0.2).await?;
    std::fs::copy(folder.join("dev.jsonl.gz"), folder.join("train.jsonl.gz"))?;
    let error = Dataset::read(&folder).unwrap_err();
    assert!(matches!(error, DatasetError::Changed { .. }), "{error}");
    // Nor is one built over another.
    let built = small::dataset(&folder, 0.2).await.unwrap_err();
    assert!(
        format!("{built:#}").contains("it is there already"),
        "{built:#}"
    );
    Ok(())
}
