//! A real OpenSearch: the conformance suite, and what only a cluster can do.

mod proxied;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use millrace_index::{
    BulkAction, BulkSink, EmbeddedIndex, FinalOutcome, Generations, IndexError, ItemOutcome,
    OpenSearchConfig, OpenSearchIndex, SearchIndex, SinkConfig, SinkState,
};
use opensearch::OpenSearch;
use opensearch::http::Method;
use opensearch::http::transport::Transport;
use serde_json::{Value, json};

use crate::conformance::{Fixture, chunk, conformance_suite, header, spec, text_query, tombstone};
use crate::cranfield;

/// How long anything may take: generous, since the machine may be busy.
const DEADLINE: Duration = Duration::from_secs(60);

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
    let index = Arc::new(index);
    Ok(Fixture {
        generations: Arc::clone(&index) as Arc<dyn Generations>,
        index,
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

/// Submits a write while `obstacle` is in the way, waits until the sink says why it halts, takes
/// the obstacle away, and waits until the write has gone through by itself.
async fn halts_and_resumes(
    index: Arc<dyn SearchIndex>,
    reason: &str,
    clear: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let sink = BulkSink::start(index, SinkConfig::default());
    let mut state = sink.state();
    let write = BulkAction::upsert(chunk("d", 0, 1, "flutter", [1.0, 0.0, 0.0]));
    let writing = tokio::spawn({
        let sink = sink.clone();
        async move { sink.submit(vec![write]).await }
    });
    let halted = state.wait_for(|state| matches!(state, SinkState::Halted { .. }));
    let halted = tokio::time::timeout(DEADLINE, halted).await??.clone();
    anyhow::ensure!(format!("{halted:?}").contains(reason), "{halted:?}");
    anyhow::ensure!(!writing.is_finished());
    clear().await?;
    let outcomes = tokio::time::timeout(DEADLINE, writing).await???;
    assert_eq!(outcomes, [FinalOutcome::Indexed]);
    tokio::time::timeout(
        DEADLINE,
        state.wait_for(|state| *state == SinkState::Running),
    )
    .await??;
    Ok(())
}

#[tokio::test]
async fn a_read_only_index_halts_the_sink_which_goes_on_by_itself() -> anyhow::Result<()> {
    a_block_halts_and_its_end_resumes("index.blocks.write").await
}

/// By what the server sets itself once a disk is 95 % full.
#[tokio::test]
async fn the_flood_stage_halts_the_sink_which_goes_on_by_itself() -> anyhow::Result<()> {
    a_block_halts_and_its_end_resumes("index.blocks.read_only_allow_delete").await
}

async fn a_block_halts_and_its_end_resumes(setting: &str) -> anyhow::Result<()> {
    let f = fresh().await?;
    let settings = format!("/{}/_settings", f.spec.index_name());
    let block = |on: bool| json!({ setting: on });
    ask(Method::Put, &settings, &block(true)).await?;
    halts_and_resumes(
        Arc::clone(&f.index),
        "cluster_block_exception",
        async || ask(Method::Put, &settings, &block(false)).await.map(drop),
    )
    .await
}

#[tokio::test]
async fn a_wrong_password_halts_the_sink_which_goes_on_once_it_is_right() -> anyhow::Result<()> {
    let f = fresh().await?;
    let door = Door::start(millrace_servers::opensearch()?).await?;
    let index = OpenSearchIndex::new(OpenSearchConfig {
        nodes: vec![door.url.clone()],
        username: Some("millrace".to_owned()),
        // As it stands in an environment variable: a text, whatever it looks like.
        password: Some("0123".to_owned()),
        ..config()?
    })?;
    door.wants("right");
    let refused = index.ensure(&f.spec).await.expect_err("the door is shut");
    assert!(matches!(refused, IndexError::Refused { .. }), "{refused:?}");
    door.wants("0123");
    index.ensure(&f.spec).await?;
    door.wants("right");
    halts_and_resumes(Arc::new(index), "401", async || {
        door.wants("0123");
        Ok(())
    })
    .await
}

/// A proxy before the server that lets one password pass: this server has no security plugin.
struct Door {
    url: String,
    password: Arc<Mutex<String>>,
}

impl Door {
    async fn start(server: String) -> anyhow::Result<Self> {
        let password = Arc::new(Mutex::new(String::new()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let client = reqwest::Client::builder().no_gzip().build()?;
        let pass = {
            let password = Arc::clone(&password);
            move |request: Request| {
                let wanted =
                    STANDARD.encode(format!("millrace:{}", password.lock().expect("sound")));
                let (server, client) = (server.clone(), client.clone());
                async move {
                    let shown = request.headers().get("authorization");
                    if shown.is_none_or(|shown| {
                        shown.as_bytes() != format!("Basic {wanted}").as_bytes()
                    }) {
                        return (StatusCode::UNAUTHORIZED, "Unauthorized").into_response();
                    }
                    forward(&client, &server, request)
                        .await
                        .unwrap_or_else(|error| {
                            (StatusCode::BAD_GATEWAY, error.to_string()).into_response()
                        })
                }
            }
        };
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(pass)).await });
        Ok(Self { url, password })
    }

    fn wants(&self, password: &str) {
        password.clone_into(&mut self.password.lock().expect("sound"));
    }
}

async fn forward(
    client: &reqwest::Client,
    server: &str,
    request: Request,
) -> anyhow::Result<Response> {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut sent = client.request(head.method.clone(), format!("{server}{path}"));
    for name in ["content-type", "content-encoding", "accept"] {
        if let Some(value) = head.headers.get(name) {
            sent = sent.header(name, value);
        }
    }
    let answer = sent
        .body(axum::body::to_bytes(body, usize::MAX).await?)
        .send()
        .await?;
    let (status, kind) = (
        answer.status(),
        answer.headers().get("content-type").cloned(),
    );
    let mut response = Response::new(Body::from(answer.bytes().await?));
    *response.status_mut() = status;
    if let Some(kind) = kind {
        response.headers_mut().insert("content-type", kind);
    }
    Ok(response)
}

/// Closing an index and opening it again reads it from disk, and forgets what was only in memory: the
/// deletions of the last minute, were they deletions.
#[tokio::test]
async fn a_removed_document_stays_removed_when_the_index_is_opened_again() -> anyhow::Result<()> {
    let f = fresh().await?;
    let record = chunk("d", 0, 5, "flutter", [1.0, 0.0, 0.0]);
    f.load(vec![header("d", 5, 1), record.clone()]).await?;
    for gone in [tombstone(&record, 7), tombstone(&header("d", 0, 0), 7)] {
        assert_eq!(f.one(gone).await?, ItemOutcome::Indexed);
    }
    let index = f.spec.index_name();
    for step in ["_close", "_open?wait_for_active_shards=1"] {
        ask(Method::Post, &format!("/{index}/{step}"), &json!({})).await?;
    }
    for late in [
        chunk("d", 0, 6, "late flutter", [1.0, 0.0, 0.0]),
        header("d", 6, 1),
    ] {
        assert_eq!(f.one(BulkAction::upsert(late)).await?, ItemOutcome::Stale);
    }
    assert!(f.get("d#0").await?.expect("the tombstone").deleted);
    f.index.refresh().await?;
    assert_eq!(f.index.search(&text_query("flutter")).await?, []);
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
