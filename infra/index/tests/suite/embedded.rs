//! The embedded index: the conformance suite, and what only a folder can do.

use std::sync::Arc;

use millrace_index::{EmbeddedIndex, Generations, IndexError, SearchIndex};

use crate::conformance::{
    Fixture, chunk, conformance_suite, header, spec, text_query, tombstone, vector_query,
};

async fn fresh() -> anyhow::Result<Fixture> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().to_owned();
    let index = EmbeddedIndex::open(&path)?;
    let spec = spec("documents".to_owned(), 3);
    index.ensure(&spec).await?;
    let index = Arc::new(index);
    Ok(Fixture {
        generations: Arc::clone(&index) as Arc<dyn Generations>,
        index,
        other_handle: Box::new(move || Ok(Arc::new(EmbeddedIndex::open(&path)?))),
        spec,
        _keep: Some(folder),
    })
}

conformance_suite!(fresh());

#[tokio::test]
async fn a_second_opener_is_refused_until_the_first_is_gone() -> anyhow::Result<()> {
    let f = fresh().await?;
    let Err(error) = (f.other_handle)() else {
        anyhow::bail!("two had the folder");
    };
    assert!(
        matches!(error.downcast_ref(), Some(IndexError::Locked { .. })),
        "{error}"
    );
    assert!(error.to_string().contains("another process"), "{error}");
    drop((f.index, f.generations));
    (f.other_handle)()?;
    Ok(())
}

#[tokio::test]
async fn reopening_rebuilds_what_was_there() -> anyhow::Result<()> {
    let f = fresh().await?;
    let gone = chunk("gone", 0, 1, "flutter", [1.0, 0.0, 0.0]);
    f.load(vec![
        header("a", 3, 1),
        chunk("a", 0, 3, "wing flutter", [0.6, 0.8, 0.0]),
        gone.clone(),
    ])
    .await?;
    f.one(tombstone(&gone, 2)).await?;
    let counts = f.index.count().await?;
    let before = (
        f.index.search(&text_query("flutter")).await?,
        f.index.search(&vector_query([1.0, 0.0, 0.0])).await?,
    );
    drop((f.index, f.generations));
    let index = (f.other_handle)()?;
    index.ensure(&f.spec).await?;
    assert_eq!(index.count().await?, counts);
    let after = (
        index.search(&text_query("flutter")).await?,
        index.search(&vector_query([1.0, 0.0, 0.0])).await?,
    );
    assert_eq!(after, before);
    let late = millrace_index::BulkAction::upsert(chunk("gone", 0, 1, "flutter", [1.0, 0.0, 0.0]));
    assert_eq!(
        index.bulk(vec![late]).await?,
        [millrace_index::ItemOutcome::Stale]
    );
    Ok(())
}

#[tokio::test]
async fn what_was_removed_stays_gone_and_its_leftovers_go_with_the_next_start() -> anyhow::Result<()>
{
    let f = fresh().await?;
    let second = millrace_index::IndexSpec {
        generation: 2,
        ..f.spec.clone()
    };
    let candidate = f.generations.open(&second).await?;
    drop(candidate);
    assert!(f.generations.delete(&f.spec.name, 2).await?);
    drop((f.index, f.generations));
    let folder = f._keep.as_ref().map(tempfile::TempDir::path);
    let leftover = folder.expect("it is kept").join("documents-000003.removed");
    std::fs::create_dir(&leftover)?;
    std::fs::write(leftover.join("index.json"), "{}")?;
    let index = (f.other_handle)()?;
    assert!(!leftover.exists(), "a removal that was cut off is finished");
    index.ensure(&f.spec).await?;
    assert_eq!(index.describe().await?.reads, f.spec.index_name());
    Ok(())
}
