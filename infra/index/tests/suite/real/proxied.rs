//! The sink on a real OpenSearch, with answers that are changed, cut off or made up on their way.

use std::io::{self, Read as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures::stream;
use millrace_index::{
    BulkAction, BulkSink, FinalOutcome, OpenSearchConfig, OpenSearchIndex, Record, SearchIndex,
    SinkConfig,
};
use serde_json::{Value, json};

use crate::conformance::{chunk, spec};

/// What becomes of a bulk request.
enum Fate {
    /// The server's answer, as it may have been changed.
    Answered(Value),
    /// The server has it, and nobody hears.
    Cut,
    /// The server never sees it.
    Refused(StatusCode),
}

/// Decides by the number of the request (from 0), the ids in it, and how to ask the server.
type Meddler = dyn Fn(usize, &[String], &mut Value) -> Fate + Send + Sync;

struct Proxy {
    server: String,
    client: reqwest::Client,
    meddler: Box<Meddler>,
    /// The ids of each bulk request.
    seen: Mutex<Vec<Vec<String>>>,
    count: AtomicUsize,
}

impl Proxy {
    async fn start(
        meddler: impl Fn(usize, &[String], &mut Value) -> Fate + Send + Sync + 'static,
    ) -> anyhow::Result<(Arc<Self>, String)> {
        let proxy = Arc::new(Self {
            server: millrace_servers::opensearch()?,
            client: reqwest::Client::builder().no_proxy().build()?,
            meddler: Box::new(meddler),
            seen: Mutex::default(),
            count: AtomicUsize::new(0),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("http://{}", listener.local_addr()?);
        let router = Router::new().fallback(pass).with_state(Arc::clone(&proxy));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok((proxy, address))
    }

    /// The ids of all bulk requests but the first so many, sorted: each item is sent again after a
    /// pause of its own, alone or with others.
    fn seen_after(&self, requests: usize) -> Vec<String> {
        let mut ids = self.seen.lock().expect("sound")[requests..].concat();
        ids.sort();
        ids
    }
}

async fn pass(State(proxy): State<Arc<Proxy>>, request: Request) -> Response {
    match meddle(&proxy, request).await {
        Ok(response) => response,
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response(),
    }
}

async fn meddle(proxy: &Proxy, request: Request) -> anyhow::Result<Response> {
    let (head, body) = request.into_parts();
    if !head.uri.path().ends_with("/_bulk") {
        let request = Request::from_parts(head, body);
        return super::forward(&proxy.client, &proxy.server, request).await;
    }
    let body = axum::body::to_bytes(body, usize::MAX).await?;
    let ids = ids(&body, head.headers.contains_key(CONTENT_ENCODING))?;
    let number = proxy.count.fetch_add(1, Ordering::SeqCst);
    proxy.seen.lock().expect("sound").push(ids.clone());
    // Asked once for what is refused before it reaches the server, and again with its answer.
    if let Fate::Refused(status) = (proxy.meddler)(number, &ids, &mut Value::Null) {
        return Ok(status.into_response());
    }
    let request = Request::from_parts(head, Body::from(body));
    let answer = super::forward(&proxy.client, &proxy.server, request).await?;
    let answer = axum::body::to_bytes(answer.into_body(), usize::MAX).await?;
    let mut answer: Value = serde_json::from_slice(&answer)?;
    Ok(match (proxy.meddler)(number, &ids, &mut answer) {
        Fate::Answered(answer) => {
            ([(CONTENT_TYPE, "application/json")], answer.to_string()).into_response()
        }
        Fate::Cut => {
            let broken = stream::once(async { Err::<Bytes, _>(io::Error::other("cut")) });
            Body::from_stream(broken).into_response()
        }
        Fate::Refused(status) => status.into_response(),
    })
}

fn ids(body: &[u8], compressed: bool) -> anyhow::Result<Vec<String>> {
    let mut text = String::new();
    match compressed {
        true => flate2::read::GzDecoder::new(body).read_to_string(&mut text)?,
        false => (&mut &body[..]).read_to_string(&mut text)?,
    };
    let id = |line: &str| -> anyhow::Result<String> {
        let action: Value = serde_json::from_str(line)?;
        Ok(action["index"]["_id"]
            .as_str()
            .unwrap_or_default()
            .to_owned())
    };
    text.lines().step_by(2).map(id).collect()
}

async fn sink(address: &str) -> anyhow::Result<(BulkSink, Arc<OpenSearchIndex>)> {
    let config = OpenSearchConfig {
        replicas: 0,
        ..OpenSearchConfig::new([address])
    };
    let index = Arc::new(OpenSearchIndex::new(config)?);
    index
        .ensure(&spec(millrace_servers::unique_name("proxied"), 3))
        .await?;
    let sink = BulkSink::start(
        Arc::clone(&index) as Arc<dyn SearchIndex>,
        SinkConfig::default(),
    );
    Ok((sink, index))
}

fn write(doc_id: &str, version: i64) -> BulkAction {
    BulkAction::upsert(chunk(doc_id, 0, version, "flutter", [1.0, 0.0, 0.0]))
}

async fn stored(index: &OpenSearchIndex, doc_id: &str) -> anyhow::Result<Option<Record>> {
    Ok(index.get(&[format!("{doc_id}#0")]).await?.remove(0))
}

fn error(status: u16, error_type: &str) -> Value {
    json!({"index": {"status": status, "error": {"type": error_type, "reason": "made up"}}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_item_of_a_mixed_answer_ends_in_one_state() -> anyhow::Result<()> {
    // 409 is the server's own; the others are put in their places in the first answer.
    let (proxy, address) = Proxy::start(|number, _, answer| {
        if number == 1 && !answer.is_null() {
            answer["items"][1] = error(429, "opensearch_rejected_execution_exception");
            answer["items"][2] = error(400, "mapper_parsing_exception");
            answer["items"][4] = error(503, "unavailable_shards_exception");
        }
        Fate::Answered(answer.take())
    })
    .await?;
    let (sink, index) = sink(&address).await?;
    assert_eq!(
        sink.submit(vec![write("stale", 9)]).await?,
        [FinalOutcome::Indexed]
    );
    let ids = ["fine", "busy", "rejected", "stale", "away"];
    let batch = ids.iter().map(|id| write(id, 5)).collect();
    let outcomes = sink.submit(batch).await?;
    assert!(
        matches!(
            &outcomes[..],
            [
                FinalOutcome::Indexed,
                FinalOutcome::Indexed,
                FinalOutcome::Reject(rejection),
                FinalOutcome::Stale,
                FinalOutcome::Indexed,
            ] if rejection.status == 400
        ),
        "{outcomes:?}"
    );
    let again = proxy.seen_after(2);
    assert_eq!(
        again,
        ["away#0", "busy#0"],
        "only what failed is sent again"
    );
    assert_eq!(
        stored(&index, "stale").await?.expect("it is there").version,
        9
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_means_the_same_version_again() -> anyhow::Result<()> {
    let (proxy, address) = Proxy::start(|number, _, answer| match number {
        0 if !answer.is_null() => Fate::Cut,
        _ => Fate::Answered(answer.take()),
    })
    .await?;
    let (sink, index) = sink(&address).await?;
    let outcomes = sink.submit(vec![write("a", 5), write("b", 5)]).await?;
    assert_eq!(outcomes, [FinalOutcome::Indexed, FinalOutcome::Indexed]);
    assert_eq!(proxy.seen_after(1), ["a#0", "b#0"]);
    assert_eq!(stored(&index, "a").await?.expect("it is there").version, 5);
    index.refresh().await?;
    assert_eq!(index.count().await?.chunks, 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_413_is_halved_down_to_the_oversize_document() -> anyhow::Result<()> {
    let (_, address) =
        Proxy::start(
            |_, ids, answer| match ids.len() > 3 || ids.iter().any(|id| id == "huge#0") {
                true => Fate::Refused(StatusCode::PAYLOAD_TOO_LARGE),
                false => Fate::Answered(answer.take()),
            },
        )
        .await?;
    let (sink, index) = sink(&address).await?;
    let mut batch: Vec<BulkAction> = (0..10).map(|n| write(&format!("d{n}"), 1)).collect();
    batch.insert(6, write("huge", 1));
    let outcomes = sink.submit(batch).await?;
    for (at, outcome) in outcomes.iter().enumerate() {
        match at {
            6 => assert!(matches!(outcome, FinalOutcome::Reject(r) if r.status == 413)),
            _ => assert_eq!(*outcome, FinalOutcome::Indexed),
        }
    }
    assert!(stored(&index, "huge").await?.is_none());
    index.refresh().await?;
    assert_eq!(index.count().await?.chunks, 10);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fewer_answers_than_items_mean_the_whole_request_again() -> anyhow::Result<()> {
    let (proxy, address) = Proxy::start(|number, _, answer| {
        if number == 0
            && let Some(items) = answer["items"].as_array_mut()
        {
            items.pop();
        }
        Fate::Answered(answer.take())
    })
    .await?;
    let (sink, _) = sink(&address).await?;
    let outcomes = sink.submit(vec![write("a", 1), write("b", 1)]).await?;
    assert_eq!(outcomes, [FinalOutcome::Indexed, FinalOutcome::Indexed]);
    assert_eq!(proxy.seen_after(1), ["a#0", "b#0"]);
    Ok(())
}
