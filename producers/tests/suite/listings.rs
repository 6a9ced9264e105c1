//! One-shot listings, corpora among them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt};
use millrace_kafka::topics;
use millrace_objects::ObjectUri;
use millrace_producers::listing::{Listed, ListingError, list};
use millrace_producers::{Noticed, Published};
use millrace_schemas::Layout;

use crate::fixture::{Kafka, name, stores};

async fn ingest(kafka: &Kafka, path: &Path) -> Result<Vec<Published>> {
    let stores = stores(path)?;
    let noticed = list(&stores, &ObjectUri::file(path)?)
        .try_filter_map(|listed| async {
            Ok::<Option<Noticed>, ListingError>(match listed {
                Listed::Noticed(noticed) => Some(noticed),
                Listed::Corpus(_) | Listed::CorpusEnd(_) => None,
            })
        })
        .map(|noticed| noticed.expect("everything can be listed"));
    let publisher = kafka.publisher()?;
    let published = publisher.publish_all(noticed).try_collect().await?;
    Ok(published)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_becomes_notices_and_its_corpora_passages() -> Result<()> {
    let kafka = Kafka::start().await?;
    let folder = tempfile::tempdir()?;
    fs::create_dir(folder.path().join("sub"))?;
    fs::write(folder.path().join("sub/a #1.md"), "# text")?;
    fs::write(folder.path().join("log.jsonl"), "{\"message\":\"x\"}\n")?;
    fs::write(
        folder.path().join("corpus.jsonl"),
        "{\"_id\":\"1\",\"text\":\"x\"}\nbroken\n{\"_id\":\"1\",\"text\":\"y\"}\n",
    )?;
    let published = ingest(&kafka, folder.path()).await?;
    let rejected = published
        .iter()
        .filter(|p| matches!(p, Published::Rejected(_)))
        .count();
    assert_eq!((published.len(), rejected), (5, 1));

    let notices = kafka.notices().await?;
    let mut names: Vec<_> = notices.iter().map(|n| name(&n.uri)).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "a%20%231.md",
            "corpus.jsonl#1",
            "corpus.jsonl#1",
            "log.jsonl"
        ]
    );
    let file = notices
        .iter()
        .find(|n| n.uri.ends_with(".md"))
        .context("the file")?;
    assert!(
        file.etag.is_some() && file.content.is_none() && file.layout == Layout::Document,
        "{file:?}"
    );
    // Of two lines with one id the later stands behind the earlier in one partition.
    let texts: Vec<_> = notices
        .iter()
        .filter_map(|n| n.content.as_deref())
        .collect();
    assert_eq!(texts, [b"x", b"y"]);

    let dead = kafka.records(topics::DOCUMENTS_DLQ).await?;
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].header("__connect.errors.offset"), Some(&b"2"[..]));
    assert_eq!(dead[0].value.as_deref(), Some(&b"broken"[..]));
    let read = millrace_kafka::read_dead_letters(
        &kafka.config,
        topics::DOCUMENTS,
        &millrace_kafka::ReadFrom::Beginning,
    )
    .await?;
    assert_eq!(read.collect().await?.len(), 1);
    Ok(())
}

/// Every position is returned, in the order of the stream, and is where the record stands.
#[tokio::test(flavor = "multi_thread")]
async fn positions_are_those_of_the_records() -> Result<()> {
    let kafka = Kafka::start().await?;
    let folder = tempfile::tempdir()?;
    let lines: String = (0..5000)
        .map(|n| format!("{{\"_id\":\"{}\",\"text\":\"text {n}\"}}\n", n % 700))
        .collect();
    let path = folder.path().join("corpus.jsonl");
    fs::write(&path, lines)?;
    let published = ingest(&kafka, &path).await?;
    assert_eq!(published.len(), 5000);
    let records = kafka.records(topics::DOCUMENTS).await?;
    assert_eq!(records.len(), 5000);
    let at: std::collections::HashMap<_, _> = records
        .iter()
        .map(|r| ((r.partition, r.offset), r))
        .collect();
    for (n, published) in published.iter().enumerate() {
        let Published::Document(position) = published else {
            panic!("{published:?}")
        };
        let record = at[&(position.partition, position.offset)];
        let notice: millrace_schemas::DocumentNotice =
            millrace_schemas::decode(record.value.as_ref().context("a value")?)?;
        assert_eq!(
            notice.content.as_deref(),
            Some(format!("text {n}").as_bytes())
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shared_corpora_are_read_whole() -> Result<()> {
    for (file, documents, without_text) in [
        ("scifact/corpus.jsonl.gz", 5183, 0),
        ("cranfield/corpus.jsonl.gz", 1400, 2),
        ("ranklens/events.jsonl.gz", 2512, 0),
    ] {
        let path = millrace_servers::shared_data(file)?;
        let corpus = millrace_producers::corpus::Corpus::open(&path, 0)?.context("a corpus")?;
        let (mut count, mut empty) = (0, 0);
        for item in corpus {
            let millrace_producers::corpus::CorpusItem::Document(document) = item? else {
                panic!("a line of {file} was rejected");
            };
            count += 1;
            empty += usize::from(document.content.as_ref().is_none_or(Vec::is_empty));
        }
        assert_eq!((count, empty), (documents, without_text), "{file}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_not_allowed_or_not_there_is_said() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let stores = stores(folder.path())?;
    for (path, part) in [("/etc", "allowed_roots"), ("nothing", "no such object")] {
        let uri = ObjectUri::file(&folder.path().join(path))?;
        let error = list(&stores, &uri)
            .next()
            .await
            .context("an item")?
            .unwrap_err();
        let told = format!("{:#}", anyhow::Error::from(error));
        assert!(told.contains(part), "{told}");
    }
    Ok(())
}
