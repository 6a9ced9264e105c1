//! `millrace-models`' remote encoder against this server, in each dialect, and against servers that
//! do what they should not.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::post;
use axum::{Json, Router};
use millrace_model_server::ModelServerConfig;
use millrace_models::{Encoder, ModelError, RemoteConfig, RemoteDialect};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::fixture::{Fixture, MODEL, assert_same};

const TEXTS: [&str; 2] = ["A shark terrorises a seaside town.", "unbelievably 東京"];

async fn connect(folder: PathBuf, remote: RemoteConfig) -> Result<Result<Encoder, ModelError>> {
    let runtime = Handle::current();
    let connect = move || Encoder::connect(&folder, remote, runtime);
    Ok(tokio::task::spawn_blocking(connect).await?)
}

async fn encode(encoder: &Arc<Encoder>) -> Result<Result<Vec<Vec<f32>>, ModelError>> {
    let encoder = Arc::clone(encoder);
    Ok(tokio::task::spawn_blocking(move || encoder.encode(&TEXTS)).await?)
}

/// Serves `routes` on a free port until the runtime ends.
async fn serve(routes: Router) -> Result<String> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok(url)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_dialect_gives_the_vectors_of_this_process() -> Result<()> {
    let fixture = Fixture::start(&[MODEL, "emb:v1"], ModelServerConfig::default()).await?;
    let local = fixture.encoder(MODEL)?;
    let wanted = local.encode(&TEXTS)?;
    for dialect in [
        RemoteDialect::OpenAi,
        RemoteDialect::Tei,
        RemoteDialect::TorchServe,
    ] {
        let remote = RemoteConfig {
            urls: vec![fixture.url.clone()],
            dialect,
            // Each text is a request of its own.
            request_tokens: 8,
            ..RemoteConfig::default()
        };
        let encoder = connect(fixture.root.path().join(MODEL), remote.clone()).await??;
        assert_eq!(encoder.version(), local.version());
        assert_eq!(encoder.dimension(), local.dimension());
        let found = encode(&Arc::new(encoder)).await??;
        for (found, wanted) in found.iter().zip(&wanted) {
            assert_same(found, wanted);
        }
        // The server's default model is not this one.
        let named = RemoteConfig {
            model: Some(MODEL.to_owned()),
            ..remote
        };
        let refused = connect(fixture.root.path().join("emb:v2"), named).await?;
        let message = refused
            .err()
            .context("another model was accepted")?
            .to_string();
        let other = fixture.encoder("emb:v2")?;
        for fingerprint in [local.fingerprint(), other.fingerprint()] {
            assert!(message.contains(fingerprint.as_str()), "{message}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_sign_is_compared_by_its_vectors() -> Result<()> {
    let fixture = Fixture::start(&[MODEL], ModelServerConfig::default()).await?;
    let folder = fixture.root.path().join(MODEL);
    let (client, upstream) = (fixture.client.clone(), fixture.url.clone());
    // A proxy that drops the headers, as any other server has none.
    let unsigned = post(async move |body: String| {
        let request = client.post(format!("{upstream}/v1/embeddings")).body(body);
        let answer = request.send().await.unwrap().text().await.unwrap();
        ([("content-type", "application/json")], answer).into_response()
    });
    let remote = |url: String| RemoteConfig {
        urls: vec![url],
        ..RemoteConfig::default()
    };
    let url = serve(Router::new().route("/v1/embeddings", unsigned)).await?;
    let encoder = connect(folder.clone(), remote(url)).await??;
    encode(&Arc::new(encoder)).await??;

    let vectors = |dimension: usize| {
        post(async move |Json(body): Json<Value>| {
            let count = body["input"].as_array().map_or(0, Vec::len);
            let mut vector = vec![0.0; dimension];
            vector[0] = 1.0;
            let data = (0..count).map(|index| json!({ "index": index, "embedding": vector }));
            Json(json!({ "data": data.collect::<Vec<_>>() }))
        })
    };
    for (dimension, says) in [(384, "cosine"), (768, "768 dimensions")] {
        let url = serve(Router::new().route("/v1/embeddings", vectors(dimension))).await?;
        let refused = connect(folder.clone(), remote(url)).await?;
        let error = refused.err().context("other vectors were accepted")?;
        assert!(
            matches!(error, ModelError::RemoteMismatch { .. }),
            "{error}"
        );
        assert!(error.to_string().contains(says), "{error}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_mended_is_tried_again_elsewhere_and_what_may_not_is_not() -> Result<()> {
    let fixture = Fixture::start(&[MODEL], ModelServerConfig::default()).await?;
    let folder = fixture.root.path().join(MODEL);
    let asked = Arc::new(AtomicUsize::new(0));
    let answering = |status: StatusCode| {
        let asked = Arc::clone(&asked);
        let answer = post(async move || {
            asked.fetch_add(1, Relaxed);
            (status, "no")
        });
        serve(Router::new().route("/v1/embeddings", answer))
    };
    // A port that was just free, a server that is overloaded, one that has no such model, and ours.
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let remote = RemoteConfig {
        urls: vec![
            format!("http://{free}"),
            answering(StatusCode::TOO_MANY_REQUESTS).await?,
            answering(StatusCode::NOT_FOUND).await?,
            fixture.url.clone(),
        ],
        attempts: 4,
        ..RemoteConfig::default()
    };
    let encoder = Arc::new(connect(folder.clone(), remote.clone()).await??);
    assert_eq!(asked.load(Relaxed), 2);
    encode(&encoder).await??;

    let away = RemoteConfig {
        urls: remote.urls[..2].to_vec(),
        attempts: 2,
        ..RemoteConfig::default()
    };
    let error = connect(folder.clone(), away)
        .await?
        .err()
        .context("no server")?;
    assert!(matches!(error, ModelError::Unavailable { .. }) && error.is_transient());

    asked.store(0, Relaxed);
    let refusing = RemoteConfig {
        urls: vec![answering(StatusCode::BAD_REQUEST).await?],
        ..RemoteConfig::default()
    };
    let error = connect(folder, refusing).await?.err().context("refused")?;
    assert!(
        matches!(error, ModelError::RemoteRefused { status: 400, .. }),
        "{error}"
    );
    assert!(!error.is_transient() && asked.load(Relaxed) == 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_request_answers_for_one_that_hangs() -> Result<()> {
    let fixture = Fixture::start(&[MODEL], ModelServerConfig::default()).await?;
    let hangs = post(async || std::future::pending::<()>().await);
    let remote = RemoteConfig {
        urls: vec![
            serve(Router::new().route("/v1/embeddings", hangs)).await?,
            fixture.url.clone(),
        ],
        timeout_ms: 30_000,
        hedge_after_ms: Some(50),
        ..RemoteConfig::default()
    };
    let started = Instant::now();
    connect(fixture.root.path().join(MODEL), remote).await??;
    assert!(started.elapsed() < Duration::from_secs(20));
    Ok(())
}
