//! What comes back by itself is waited for, and holds up neither the stop nor what is lost by it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use axum::routing::get;
use axum::{Json, Router};
use millrace_kafka::HttpSchemaRegistry;
use millrace_objects::{S3Config, Secret};
use millrace_schemas::{DocumentNotice, Framing, Message, OutcomeKind, encode};
use millrace_vectorizer::Outsiders;
use serde_json::json;
use tokio::net::TcpListener;

use crate::stack::{DEADLINE, Stack, text};

/// Waits until `done`, asking again and again.
async fn until(what: &str, mut done: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    while !done() {
        ensure!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_down_is_waited_for_and_nothing_is_lost() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut stack = Stack::idle().await?;
    let registry = HttpSchemaRegistry::new(&format!("http://{}", listener.local_addr()?))?;
    stack.registry = Some(Arc::new(registry));
    stack.start().await?;
    let framed = stack.put("framed.txt", "Behind a registry.")?;
    let value = encode(&framed, &Framing::Confluent { schema_id: 7 })?;
    let framed = stack.publish_raw(&framed.uri, &value).await?;
    let plain = stack
        .publish(&stack.put("plain.txt", "In need of no registry.")?)
        .await?;
    // It is down: each connection ends without an answer, and another one follows.
    for _ in 0..3 {
        let attempt = tokio::time::timeout(DEADLINE, listener.accept()).await;
        drop(attempt.context("the consumer gave up")??);
    }
    ensure!(stack.dead_letters().await?.is_empty());
    ensure!(stack.header("framed.txt").await?.is_none());

    let schema = || async { Json(json!({ "schema": DocumentNotice::SCHEMA })) };
    let routes = Router::new().route("/schemas/ids/7", get(schema));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    for origin in [framed, plain] {
        ensure!(stack.outcome(&origin).await?.outcome == OutcomeKind::Indexed);
    }
    ensure!(stack.dead_letters().await?.is_empty());
    Ok(())
}

/// A bucket whose store is not there.
fn unreachable_bucket(stack: &mut Stack) -> Result<DocumentNotice> {
    // A port that was just free.
    let port = std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port();
    stack.stores.allowed_buckets = vec!["s3://away".to_owned()];
    stack.stores.s3 = S3Config {
        endpoint: Some(format!("http://127.0.0.1:{port}")),
        access_key_id: Some("id".to_owned()),
        secret_access_key: Some(Secret::new("secret")),
        ..S3Config::default()
    };
    Ok(DocumentNotice {
        uri: "s3://away/a.txt".to_owned(),
        ..stack.notice("a.txt")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_waits_for_its_store_does_not_hold_up_the_stop() -> Result<()> {
    let mut stack = Stack::idle().await?;
    let waiting = unreachable_bucket(&mut stack)?;
    stack.start().await?;
    let waiting = stack.publish(&waiting).await?;
    let stats = || stack.handle().stats();
    until("the document is in flight", || {
        stats().in_flight_documents == 1
    })
    .await?;
    let done = stack.settle(&stack.put("b.txt", text(3))?).await?;
    ensure!(done.outcome == OutcomeKind::Indexed);
    let started = Instant::now();
    let unfinished = stack.stop(DEADLINE).await;
    ensure!(unfinished == 1, "{unfinished} unfinished");
    // It would have waited for all of it.
    ensure!(started.elapsed() < DEADLINE / 2, "{:?}", started.elapsed());

    // The offset stayed: it comes again, and is done where it can be read.
    stack.stores = Default::default();
    stack.start().await?;
    let letter = stack.dead_letter(&waiting).await?;
    ensure!(letter.error_type == "object_not_allowed", "{letter:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_read_here_can_be_left_to_a_pipeline_that_may() -> Result<()> {
    let mut stack = Stack::idle().await?;
    stack.outsiders = Outsiders::Wait;
    let elsewhere = tempfile::tempdir()?;
    let path = elsewhere.path().canonicalize()?.join("a.txt");
    std::fs::write(&path, "In another folder.")?;
    let outside = DocumentNotice {
        uri: millrace_objects::ObjectUri::file(&path)?.to_string(),
        ..stack.notice("a.txt")
    };
    stack.start().await?;
    let outside = stack.publish(&outside).await?;
    let own = stack.settle(&stack.put("b.txt", text(3))?).await?;
    ensure!(own.outcome == OutcomeKind::Indexed);
    let metrics = || stack.handle().consumer().metrics();
    until("the foreign notice was let go", || {
        metrics().dropped_unfinished == 1
    })
    .await?;
    ensure!(stack.dead_letters().await?.is_empty());
    ensure!(stack.stop(DEADLINE).await >= 1, "its offset must stay");

    stack.outsiders = Outsiders::DeadLetter;
    stack.stores.allowed_roots.push(elsewhere.path().to_owned());
    stack.start().await?;
    ensure!(stack.outcome(&outside).await?.outcome == OutcomeKind::Indexed);
    Ok(())
}
