//! A real OpenSearch: the conformance suite, and what only a cluster can do.

use std::sync::Arc;

use std::collections::BTreeSet;

use millrace_index::{
    BulkAction, EmbeddedIndex, IndexError, ItemOutcome, OpenSearchConfig, OpenSearchIndex,
    SearchIndex,
};
use opensearch::OpenSearch;
use opensearch::http::Method;
use opensearch::http::transport::Transport;
use serde_json::{Value, json};

use crate::conformance::{Fixture, chunk, conformance_suite, spec};
use crate::cranfield;

pub fn config() -> anyhow::Result<OpenSearchConfig> {
    Ok(OpenSearchConfig {
        replicas: 0,
        ..OpenSearchConfig::new([millrace_servers::opensearch()?])
    })
}

async fn fresh() -> anyhow::Result<Fixture> {
    let config = config()?;
    let index = OpenSearchIndex::new(config.clone())?;
    let spec = spec(millrace_servers::unique_name("index"), 3);
    index.ensure(&spec).await?;
    Ok(Fixture {
        index: Arc::new(index),
        other_handle: Box::new(move || Ok(Arc::new(OpenSearchIndex::new(config.clone())?))),
        spec,
        _keep: None,
    })
}

conformance_suite!(fresh());

/// Asks the server directly, past the adapter.
async fn ask(method: Method, path: &str, body: &Value) -> anyhow::Result<Value> {
    let client = OpenSearch::new(Transport::single_node(&millrace_servers::opensearch()?)?);
    let headers = opensearch::http::headers::HeaderMap::new();
    let body = Some(body.to_string());
    let response = client
        .send(method, path, headers, None::<&()>, body, None)
        .await?;
    anyhow::ensure!(
        response.status_code().is_success(),
        "{}",
        response.text().await?
    );
    Ok(response.json().await?)
}

#[tokio::test]
async fn the_embedded_analyzer_makes_what_lucenes_makes() -> anyhow::Result<()> {
    let words: BTreeSet<String> = cranfield::corpus()?
        .iter()
        .flat_map(|document| {
            document
                .text
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect();
    let words: Vec<String> = words.into_iter().collect();
    anyhow::ensure!(words.len() > 5_000, "only {} words", words.len());
    let mut differ = Vec::new();
    for some in words.chunks(500) {
        // One request, one text a word; positions of the texts lie far apart.
        let body = json!({"analyzer": "english", "text": some});
        let answer = ask(Method::Post, "/_analyze", &body).await?;
        let tokens = answer["tokens"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let lucene: Vec<&str> = tokens
            .iter()
            .filter_map(|token| token["token"].as_str())
            .collect();
        let ours: Vec<String> = some
            .iter()
            .flat_map(|word| millrace_index::embedded::tokens(word))
            .collect();
        if lucene.len() != ours.len() {
            anyhow::bail!(
                "{} tokens against Lucene's {} in {some:?}",
                ours.len(),
                lucene.len()
            );
        }
        differ.extend(
            ours.into_iter()
                .zip(lucene)
                .filter(|(a, b)| a != b)
                .map(|(a, b)| format!("{a}/{b}")),
        );
    }
    assert!(
        differ.len() * 1_000 <= words.len(),
        "{} of {}: {differ:?}",
        differ.len(),
        words.len()
    );
    Ok(())
}

#[tokio::test]
async fn a_read_only_index_halts_and_recovers() -> anyhow::Result<()> {
    let f = fresh().await?;
    let write = || BulkAction::upsert(chunk("d", 0, 1, "flutter", [1.0, 0.0, 0.0]));
    let settings = format!("/{}/_settings", f.spec.index_name());
    ask(Method::Put, &settings, &json!({"index.blocks.write": true})).await?;
    let ItemOutcome::Halt(obstacle) = f.one(write()).await? else {
        anyhow::bail!("a read-only index did not halt");
    };
    assert_eq!(obstacle.error_type, "cluster_block_exception");
    ask(
        Method::Put,
        &settings,
        &json!({"index.blocks.write": false}),
    )
    .await?;
    assert_eq!(f.one(write()).await?, ItemOutcome::Indexed);
    Ok(())
}

#[tokio::test]
async fn a_missing_write_alias_halts_and_creates_nothing() -> anyhow::Result<()> {
    let f = fresh().await?;
    let index = f.spec.index_name();
    let remove = json!({"actions": [{"remove": {"index": index, "alias": f.spec.write_alias()}}]});
    ask(Method::Post, "/_aliases", &remove).await?;
    let outcome = f
        .one(BulkAction::upsert(chunk("d", 0, 1, "x", [1.0, 0.0, 0.0])))
        .await?;
    assert!(
        matches!(&outcome, ItemOutcome::Halt(o) if o.error_type == "index_not_found_exception")
    );
    let left = ask(
        Method::Get,
        &format!("/_cat/indices/{}*?format=json", f.spec.name),
        &json!({}),
    )
    .await?;
    assert_eq!(left.as_array().map(Vec::len), Some(1), "{left}");
    Ok(())
}

#[tokio::test]
async fn an_absent_server_is_retried_and_said() -> anyhow::Result<()> {
    let f = fresh().await?;
    // A port that was just free; the live node answers in its place.
    let port = std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port();
    let dead = format!("http://127.0.0.1:{port}");
    let mut config = config()?;
    config.nodes.insert(0, dead.clone());
    let both = OpenSearchIndex::new(config)?;
    both.ensure(&f.spec).await?;
    for version in 1..5 {
        let write = BulkAction::upsert(chunk("d", 0, version, "x", [1.0, 0.0, 0.0]));
        assert_eq!(both.bulk(vec![write]).await?, [ItemOutcome::Indexed]);
    }
    let alone = OpenSearchIndex::new(OpenSearchConfig::new([dead.clone()]))?;
    let error = alone.ensure(&f.spec).await.expect_err("nobody is there");
    assert!(matches!(error, IndexError::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains(&dead), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rankings_on_cranfield_agree_with_the_embedded_index() -> anyhow::Result<()> {
    let collection = cranfield::encoded()?;
    let spec = spec(
        millrace_servers::unique_name("cranfield"),
        collection.dimension,
    );
    let server = OpenSearchIndex::new(config()?)?;
    let folder = tempfile::tempdir()?;
    let embedded = EmbeddedIndex::open(folder.path())?;
    let mut report = Vec::new();
    let both: [&dyn SearchIndex; 2] = [&embedded, &server];
    for index in both {
        index.ensure(&spec).await?;
        collection.load(index).await?;
        report.push(collection.ndcg_of_all_modes(index).await?);
    }
    println!(
        "nDCG@10 embedded {:?}\nnDCG@10 server   {:?}",
        report[0], report[1]
    );
    for (ours, theirs) in report[0].iter().zip(&report[1]) {
        assert!(
            (ours.1 - theirs.1).abs() <= 0.01,
            "{ours:?} against {theirs:?}"
        );
        assert!(
            theirs.1 > 0.2,
            "{theirs:?}: the collection was not searched"
        );
    }
    Ok(())
}
