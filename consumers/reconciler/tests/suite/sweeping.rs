//! Tombstones keep late updates out until nothing can bring one any more; then they go.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use millrace_broker::{Broker, BrokerConfig};
use millrace_index::{
    BulkAction, EmbeddedIndex, IndexSpec, ItemOutcome, KnnEngine, Mode, OpenSearchConfig,
    OpenSearchIndex, Record, SearchIndex, SearchRequest,
};
use millrace_kafka::{Admin, KafkaConfig};
use millrace_reconciler::sweep::{HorizonError, horizon, sweep};
use millrace_schemas::DocumentVersion;

const HOUR: Duration = Duration::from_secs(3_600);

fn hours_ago(hours: u64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let then = now - HOUR * u32::try_from(hours).unwrap();
    DocumentVersion::new(i64::try_from(then.as_millis()).unwrap(), 0).get()
}

fn spec(name: &str) -> IndexSpec {
    IndexSpec {
        name: name.to_owned(),
        generation: 1,
        dimension: 3,
        model_version: "test-1".to_owned(),
        model_fingerprint: "f00d".to_owned(),
        engine: KnnEngine::Lucene,
    }
}

fn document(id: &str, text: &str, version: i64) -> Vec<BulkAction> {
    let header = Record {
        id: id.to_owned(),
        doc_id: id.to_owned(),
        version,
        uri: format!("file:///data/{id}"),
        model_version: "test-1".to_owned(),
        chunk_count: Some(1),
        ..Record::default()
    };
    let chunk = Record {
        id: format!("{id}#0"),
        chunk: Some(0),
        chunk_count: None,
        text: Some(text.to_owned()),
        vector: Some(vec![1.0, 0.0, 0.0]),
        ..header.clone()
    };
    vec![BulkAction::upsert(header), BulkAction::upsert(chunk)]
}

fn removal(id: &str, version: i64) -> Vec<BulkAction> {
    let tombstone = |chunk: Option<u32>| BulkAction::Tombstone {
        id: chunk.map_or(id.to_owned(), |n| format!("{id}#{n}")),
        doc_id: id.to_owned(),
        chunk,
        version,
        uri: format!("file:///data/{id}"),
    };
    vec![tombstone(Some(0)), tombstone(None)]
}

async fn score(index: &dyn SearchIndex) -> Result<Option<f32>> {
    index.refresh().await?;
    let request = SearchRequest {
        text: Some("harbour".to_owned()),
        mode: Mode::Text,
        ..SearchRequest::default()
    };
    let hits = index.search(&request).await?;
    ensure!(hits.len() == 1, "{hits:?}");
    Ok(hits[0].text_score)
}

async fn write(index: &dyn SearchIndex, actions: Vec<BulkAction>) -> Result<Vec<ItemOutcome>> {
    Ok(index.bulk(actions).await?)
}

/// Delete, a late older update, a restart of the index, the same update again: it stays deleted.
/// After the horizon the tombstones are gone, and the scores are as if nothing had been there.
async fn a_removed_document_stays_removed_until_it_is_swept(
    open: impl AsyncFn() -> Result<Arc<dyn SearchIndex>>,
) -> Result<()> {
    let index = open().await?;
    let kept = [
        document("kept", "the harbour at dawn", hours_ago(60)),
        document("other", "a market in the rain", hours_ago(60)),
    ];
    write(&*index, kept.concat()).await?;
    let before = score(&*index).await?;
    write(
        &*index,
        document("gone", "the harbour at night", hours_ago(50)),
    )
    .await?;
    write(&*index, removal("gone", hours_ago(40))).await?;
    let late = document("gone", "the harbour, an old tale", hours_ago(45));
    let stale = [ItemOutcome::Stale, ItemOutcome::Stale];
    ensure!(write(&*index, late.clone()).await? == stale);
    drop(index);
    let index = open().await?;
    ensure!(write(&*index, late).await? == stale);
    score(&*index).await?;

    ensure!(
        sweep(&*index, HOUR * 41).await? == 0,
        "younger than the horizon"
    );
    ensure!(index.count().await?.tombstones == 2);
    ensure!(sweep(&*index, HOUR * 39).await? == 2);
    ensure!(sweep(&*index, HOUR * 39).await? == 0);
    let after = score(&*index).await?;
    let counts = index.count().await?;
    ensure!(
        (counts.documents, counts.chunks, counts.tombstones) == (2, 2, 0),
        "{counts:?}"
    );
    // Replaced chunks count until their segment is merged, in Lucene as in tantivy: close, not equal.
    let (before, after) = (before.unwrap(), after.unwrap());
    ensure!((before - after).abs() <= 0.35 * before, "{before} {after}");
    Ok(())
}

mod embedded {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_removed_document_stays_removed_until_it_is_swept() -> Result<()> {
        let folder = tempfile::tempdir()?;
        super::a_removed_document_stays_removed_until_it_is_swept(async || {
            let index: Arc<dyn SearchIndex> = Arc::new(EmbeddedIndex::open(folder.path())?);
            index.ensure(&spec("sweep")).await?;
            Ok(index)
        })
        .await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_horizon_below_what_topics_keep_is_refused_with_both_numbers() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let broker = Broker::start(BrokerConfig::new(folder.path()))?;
        super::a_horizon_below_what_topics_keep_is_refused_with_both_numbers(KafkaConfig {
            bootstrap: broker.bootstrap(),
            ..KafkaConfig::default()
        })
        .await
    }
}

mod real {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_removed_document_stays_removed_until_it_is_swept() -> Result<()> {
        let name = millrace_servers::unique_name("sweep");
        let nodes = [millrace_servers::opensearch()?];
        super::a_removed_document_stays_removed_until_it_is_swept(async || {
            let index = OpenSearchIndex::new(OpenSearchConfig::new(nodes.clone()))?;
            index.ensure(&spec(&name)).await?;
            Ok(Arc::new(index) as Arc<dyn SearchIndex>)
        })
        .await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_horizon_below_what_topics_keep_is_refused_with_both_numbers() -> Result<()> {
        super::a_horizon_below_what_topics_keep_is_refused_with_both_numbers(KafkaConfig {
            bootstrap: millrace_servers::kafka()?,
            topic_prefix: format!("{}.", millrace_servers::unique_name("sweep")),
            ..KafkaConfig::default()
        })
        .await
    }
}

async fn a_horizon_below_what_topics_keep_is_refused_with_both_numbers(
    kafka: KafkaConfig,
) -> Result<()> {
    Admin::connect(&kafka)?.create_declared().await?;
    let error = horizon(&kafka, Some(HOUR * 100)).await.unwrap_err();
    ensure!(matches!(error, HorizonError::TooShort { .. }), "{error:?}");
    let error = error.to_string();
    ensure!(
        error.contains("100 h") && error.contains("168 h"),
        "{error}"
    );
    ensure!(horizon(&kafka, Some(HOUR * 168)).await? == Some(HOUR * 168));
    // Dead letters are kept longest.
    ensure!(horizon(&kafka, None).await? == Some(HOUR * 720));
    Ok(())
}
