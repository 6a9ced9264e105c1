//! Creating, verifying and swapping.

use millrace_index::{IndexError, IndexSpec};

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

pub async fn a_swap_moves_searches_and_nothing_else(f: Fixture) -> anyhow::Result<()> {
    f.load(vec![chunk("old", 0, 1, "flutter", [1.0, 0.0, 0.0])])
        .await?;
    let second = IndexSpec {
        generation: 2,
        ..f.spec.clone()
    };
    f.index.ensure(&second).await?;
    f.load(vec![chunk("new", 0, 1, "flutter", [1.0, 0.0, 0.0])])
        .await?;
    let found = async || -> anyhow::Result<String> {
        let hits = f.index.search(&text_query("flutter")).await?;
        Ok(hits
            .iter()
            .map(|hit| hit.doc_id.as_str())
            .collect::<Vec<_>>()
            .join(" "))
    };
    assert_eq!(
        found().await?,
        "old",
        "building a generation does not move searches"
    );
    assert!(f.get("new#0").await?.is_some() && f.get("old#0").await?.is_none());
    let missing = f.index.swap_alias(3).await.expect_err("there is no third");
    assert!(
        matches!(missing, IndexError::NoSuchGeneration { .. }),
        "{missing}"
    );
    assert_eq!(found().await?, "old");
    f.index.swap_alias(2).await?;
    assert_eq!(found().await?, "new");
    f.index.swap_alias(1).await?;
    assert_eq!(found().await?, "old", "and back");
    assert_eq!(f.index.describe().await?.reads, f.spec.index_name());
    assert_eq!(f.index.describe().await?.writes, second.index_name());
    Ok(())
}

pub async fn nothing_works_before_ensure(f: Fixture) -> anyhow::Result<()> {
    let Fixture {
        index,
        other_handle,
        _keep,
        ..
    } = f;
    drop(index);
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
