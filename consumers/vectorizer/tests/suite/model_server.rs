//! Vectors from a model server: the same ones, and waited for while it is away.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use millrace_model_server::{ModelServer, ModelServerConfig};
use millrace_models::{Encoder, ModelStore, RemoteConfig};
use millrace_schemas::OutcomeKind;
use millrace_vectorizer::StartError;
use tokio::net::TcpListener;
use tokio::runtime::{Handle, Runtime};

use crate::stack::{DEADLINE, Stack, eventually};

const MODEL: &str = "all-MiniLM-L6-v2";

/// A real model server on a runtime of its own, which takes all its connections with it.
struct Server {
    runtime: Option<Runtime>,
    address: SocketAddr,
}

impl Server {
    fn start(address: SocketAddr) -> Result<Self> {
        let runtime = Runtime::new()?;
        let config = ModelServerConfig::default();
        let server = ModelServer::start(config, ModelStore::from_env()?, None)?;
        server.load(MODEL)?;
        server.loaded();
        let listener = runtime.block_on(TcpListener::bind(address))?;
        let address = listener.local_addr()?;
        let routes = server.routes();
        runtime.spawn(async move {
            let _server = server;
            axum::serve(listener, routes).await
        });
        Ok(Self {
            runtime: Some(runtime),
            address,
        })
    }

    async fn started(address: SocketAddr) -> Result<Self> {
        tokio::task::spawn_blocking(move || Self::start(address)).await?
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Once the port is free again.
async fn bind(address: SocketAddr) -> Result<TcpListener> {
    let mut listener = None;
    eventually("the port is free", async || {
        listener = TcpListener::bind(address).await.ok();
        Ok(listener.is_some())
    })
    .await?;
    listener.context("no listener")
}

async fn connected(address: SocketAddr) -> Result<Encoder> {
    let folder: PathBuf = ModelStore::from_env()?.folder(MODEL);
    let remote = RemoteConfig {
        urls: vec![format!("http://{address}")],
        ..RemoteConfig::default()
    };
    let runtime = Handle::current();
    let connect = move || Encoder::connect(&folder, remote, runtime);
    Ok(tokio::task::spawn_blocking(connect).await??)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_server_that_goes_and_comes_back_loses_nothing() -> Result<()> {
    let mut stack = Stack::idle().await?;
    let local = Arc::clone(&stack.encoder);
    let server = Server::started("127.0.0.1:0".parse()?).await?;
    let address = server.address;
    let remote = connected(address).await?;
    ensure!(remote.fingerprint() == local.fingerprint());
    stack.encoder = Arc::new(remote);
    stack.start().await?;
    // Long enough that batches are under way when the server goes.
    let sentence = "The moon pulls the ocean twice a day, and the shore breathes with it. ";
    let mut origins = Vec::new();
    for number in 0..12 {
        let text = format!("Document {number}. {}", sentence.repeat(150));
        let notice = stack.put(&format!("{number}.txt"), text)?;
        origins.push(stack.publish(&notice).await?);
    }
    eventually("the first document is embedded", async || {
        Ok(stack.handle().stats().tokens > 0)
    })
    .await?;
    drop(server);
    // It is away: connections are refused, or end without an answer, and other attempts follow.
    let listener = bind(address).await?;
    let late = stack.put("late.txt", "Published while the model server was away.")?;
    origins.push(stack.publish(&late).await?);
    for _ in 0..6 {
        let attempt = tokio::time::timeout(DEADLINE, listener.accept()).await;
        drop(attempt.context("the vectorizer gave up")??);
    }
    drop(listener);
    ensure!(stack.dead_letters().await?.is_empty());

    let server = Server::started(address).await?;
    for origin in &origins {
        let outcome = stack.outcome(origin).await?;
        ensure!(outcome.outcome == OutcomeKind::Indexed, "{outcome:?}");
    }
    ensure!(stack.dead_letters().await?.is_empty());
    drop(server);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_a_model_server_that_is_away() -> Result<()> {
    let mut stack = Stack::idle().await?;
    let server = Server::started("127.0.0.1:0".parse()?).await?;
    stack.encoder = Arc::new(connected(server.address).await?);
    drop(server);
    stack.start().await?;
    let notice = stack.put("waits.txt", "For a model server.")?;
    stack.publish(&notice).await?;
    eventually("the document is under way", async || {
        Ok(stack.handle().stats().in_flight_documents == 1)
    })
    .await?;
    let started = std::time::Instant::now();
    let unfinished = stack.stop(Duration::from_secs(30)).await;
    ensure!(unfinished == 1, "{unfinished} documents were left");
    ensure!(started.elapsed() < Duration::from_secs(20));
    ensure!(stack.dead_letters().await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_another_model_is_refused_and_both_are_named() -> Result<()> {
    let mut stack = Stack::idle().await?;
    let server = Server::started("127.0.0.1:0".parse()?).await?;
    stack.encoder = Arc::new(connected(server.address).await?);
    let mut spec = stack.spec.clone();
    spec.model_fingerprint = "0".repeat(64);
    let refused = stack.vectorizer(spec, Arc::clone(&stack.index)).await;
    let error = refused.err().context("another model was accepted")?;
    ensure!(matches!(error, StartError::ModelMismatch { .. }));
    let message = error.to_string();
    ensure!(message.contains(&"0".repeat(64)), "{message}");
    ensure!(
        message.contains(stack.encoder.fingerprint().as_str()),
        "{message}"
    );
    Ok(())
}
