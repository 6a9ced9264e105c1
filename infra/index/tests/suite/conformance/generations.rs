//! Creating, verifying and swapping.

use millrace_index::{BulkAction, IndexError, IndexSpec, ItemOutcome, Record, SearchIndex};

use super::{Fixture, chunk, text_query};

pub async fn ensure_twice_is_ensure_once(f: Fixture) -> anyhow::Result<()> {
    f.load(vec![chunk("d", 0, 1, "flutter", [1.0, 0.0, 0.0])])
        .await?;
    f.index.ensure(&f.spec).await?;
    f.index.warm_up().await?;
    assert_eq!(f.index.search(&text_query("flutter")).await?.len(), 1);
    let description = f.index.describe().await?;
    assert_eq!(description.dimension, 3);
    assert_eq!(description.model_fingerprint, "f00d");
    assert_eq!(description.model_version, "test-1");
    assert_eq!(description.reads, f.spec.index_name());
    assert_eq!(description.writes, f.spec.index_name());
    Ok(())
}

pub async fn an_index_of_another_dimension_is_refused(f: Fixture) -> anyhow::Result<()> {
    let wider = IndexSpec {
        dimension: 5,
        ..f.spec.clone()
    };
    let error = f.index.ensure(&wider).await.expect_err("refused");
    assert!(
        matches!(
            error,
            IndexError::DimensionMismatch {
                stored: 3,
                wanted: 5,
                ..
            }
        ),
        "{error}"
    );
    let message = error.to_string();
    assert!(
        message.contains(&f.spec.index_name()) && message.contains("3 dimensions"),
        "{message}"
    );
    Ok(())
}

pub async fn an_index_of_another_model_is_refused(f: Fixture) -> anyhow::Result<()> {
    let other = IndexSpec {
        model_fingerprint: "beef".into(),
        ..f.spec.clone()
    };
    let error = f.index.ensure(&other).await.expect_err("refused");
    assert!(
        matches!(error, IndexError::FingerprintMismatch { .. }),
        "{error}"
    );
    let message = error.to_string();
    assert!(
        message.contains("f00d") && message.contains("beef"),
        "{message}"
    );
    Ok(())
}

/// The second generation, by another model of another dimension.
fn second(f: &Fixture) -> IndexSpec {
    IndexSpec {
        generation: 2,
        dimension: 2,
        model_version: "test-2".into(),
        model_fingerprint: "beef".into(),
        ..f.spec.clone()
    }
}

async fn write(index: &dyn SearchIndex, record: Record) -> anyhow::Result<()> {
    let outcomes = index.bulk(vec![BulkAction::upsert(record)]).await?;
    assert_eq!(outcomes, [ItemOutcome::Indexed]);
    index.refresh().await?;
    Ok(())
}

async fn found(index: &dyn SearchIndex) -> anyhow::Result<String> {
    let hits = index.search(&text_query("flutter")).await?;
    let ids: Vec<&str> = hits.iter().map(|hit| hit.doc_id.as_str()).collect();
    Ok(ids.join(" "))
}

/// A chunk whose vector has two dimensions.
fn narrow(doc_id: &str) -> Record {
    Record {
        vector: Some(vec![0.6, 0.8]),
        ..chunk(doc_id, 0, 1, "flutter", [0.0; 3])
    }
}

pub async fn two_generations_are_written_and_searched_at_once(f: Fixture) -> anyhow::Result<()> {
    assert_eq!(f.generations.look(&second(&f)).await?, None);
    assert_eq!(f.generations.list(&f.spec.name).await?.len(), 1);
    let candidate = f.generations.open(&second(&f)).await?;
    let looked = f.generations.look(&second(&f)).await?;
    assert_eq!(looked, Some(candidate.describe().await?));
    write(&*f.index, chunk("old", 0, 1, "flutter", [1.0, 0.0, 0.0])).await?;
    write(&*candidate, narrow("new")).await?;
    write(&*f.index, chunk("late", 0, 1, "other", [1.0, 0.0, 0.0])).await?;
    assert_eq!(found(&*f.index).await?, "old");
    assert_eq!(found(&*candidate).await?, "new");
    assert!(f.get("new#0").await?.is_none());
    assert!(candidate.get(&["old#0".to_owned()]).await?[0].is_none());
    assert_eq!(f.index.count().await?.chunks, 2);
    assert_eq!(candidate.count().await?.chunks, 1);
    let listed = f.generations.list(&f.spec.name).await?;
    let listed: Vec<(u32, usize, &str)> = listed
        .iter()
        .map(|it| (it.generation, it.dimension, it.model_version.as_str()))
        .collect();
    assert_eq!(listed, [(1, 3, "test-1"), (2, 2, "test-2")]);
    // Another model can't have the number.
    let third_model = IndexSpec {
        model_fingerprint: "cafe".into(),
        ..second(&f)
    };
    let Err(error) = f.generations.open(&third_model).await else {
        anyhow::bail!("two models had one generation");
    };
    let looked = f.generations.look(&third_model).await.expect_err("refused");
    for error in [error, looked] {
        assert!(
            matches!(error, IndexError::FingerprintMismatch { .. }),
            "{error}"
        );
    }
    Ok(())
}

pub async fn a_swap_moves_the_alias_and_no_search_that_has_begun(f: Fixture) -> anyhow::Result<()> {
    let name = f.spec.name.clone();
    write(&*f.index, chunk("old", 0, 1, "flutter", [1.0, 0.0, 0.0])).await?;
    let candidate = f.generations.open(&second(&f)).await?;
    write(&*candidate, narrow("new")).await?;
    let serving = async || anyhow::Ok(f.generations.resolve(&name).await?.expect("one serves"));
    let before = serving().await?;
    assert_eq!(
        (before.generation, before.model_fingerprint.as_str()),
        (1, "f00d"),
        "building a generation does not move the alias"
    );
    let missing = f.generations.swap_alias(&name, Some(1), 3).await;
    assert!(
        matches!(missing, Err(IndexError::NoSuchGeneration { .. })),
        "{missing:?}"
    );
    f.generations.swap_alias(&name, Some(1), 2).await?;
    let after = serving().await?;
    assert_eq!(after.generation, 2);
    assert_eq!(
        (after.dimension, after.model_version.as_str()),
        (2, "test-2")
    );
    // What had resolved the alias before goes on in that generation.
    assert_eq!(found(&*f.index).await?, "old");
    assert_eq!(found(&*candidate).await?, "new");
    let described = f.index.describe().await?;
    assert_eq!(described.reads, second(&f).index_name());
    assert_eq!(described.writes, f.spec.index_name());
    f.generations.swap_alias(&name, Some(2), 1).await?;
    assert_eq!(serving().await?.generation, 1, "and back");
    Ok(())
}

pub async fn an_alias_that_was_moved_is_left_where_it_is(f: Fixture) -> anyhow::Result<()> {
    let name = f.spec.name.clone();
    f.generations.open(&second(&f)).await?;
    for generation in [3, 4] {
        let spec = IndexSpec {
            generation,
            ..f.spec.clone()
        };
        f.generations.open(&spec).await?;
    }
    f.generations.swap_alias(&name, Some(1), 3).await?;
    for expected in [Some(1), None] {
        let error = f.generations.swap_alias(&name, expected, 2).await;
        let Err(IndexError::AliasMoved { found, .. }) = &error else {
            anyhow::bail!("{error:?}");
        };
        assert!(found.ends_with("-000003"), "{found}");
    }
    let serving = f.generations.resolve(&name).await?;
    assert_eq!(serving.map(|it| it.generation), Some(3));
    Ok(())
}

pub async fn a_generation_is_removed_unless_it_serves(f: Fixture) -> anyhow::Result<()> {
    let name = f.spec.name.clone();
    let candidate = f.generations.open(&second(&f)).await?;
    write(&*candidate, narrow("new")).await?;
    let error = f.generations.delete(&name, 1).await;
    assert!(matches!(error, Err(IndexError::Serves { .. })), "{error:?}");
    assert!(f.generations.delete(&name, 2).await?);
    assert!(!f.generations.delete(&name, 2).await?, "it is gone");
    let listed = f.generations.list(&name).await?;
    assert_eq!(listed.len(), 1);
    assert!(candidate.search(&text_query("flutter")).await.is_err());
    // A new one under its number knows nothing of it.
    let again = f.generations.open(&second(&f)).await?;
    assert_eq!(again.count().await?.chunks, 0);
    Ok(())
}

pub async fn nothing_works_before_ensure(f: Fixture) -> anyhow::Result<()> {
    let Fixture {
        index,
        generations,
        other_handle,
        _keep,
        ..
    } = f;
    drop((index, generations));
    let unready = other_handle()?;
    let error = unready.search(&text_query("x")).await.expect_err("refused");
    assert!(matches!(error, IndexError::NotEnsured), "{error}");
    let error = unready.bulk(Vec::new()).await;
    assert!(matches!(error, Ok(outcomes) if outcomes.is_empty()));
    let write = millrace_index::BulkAction::upsert(chunk("d", 0, 1, "x", [1.0, 0.0, 0.0]));
    let error = unready.bulk(vec![write]).await.expect_err("refused");
    assert!(matches!(error, IndexError::NotEnsured), "{error}");
    Ok(())
}
