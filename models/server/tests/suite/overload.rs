//! More is asked than can be computed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use millrace_model_server::ModelServerConfig;
use serde_json::json;

use crate::fixture::{Fixture, MODEL};

/// What every request has.
const TIMEOUT: Duration = Duration::from_millis(1_500);
/// What may come on top: writing the answer, and a machine with other things to do.
const SLACK: Duration = Duration::from_millis(1_500);
const CLIENTS: usize = 48;
const REQUESTS_EACH: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn each_request_has_its_vectors_in_time_or_is_told_to_come_back() -> Result<()> {
    let config = ModelServerConfig {
        timeout_ms: u64::try_from(TIMEOUT.as_millis())?,
        ..ModelServerConfig::default()
    };
    let fixture = Arc::new(Fixture::start(&[MODEL], config).await?);
    // 4 texts at the model's limit are 1,024 tokens: a few requests are what two cores compute in
    // the time.
    let text = "the shore breathes with the ocean ".repeat(60);
    let body = Arc::new(json!({ "model": MODEL, "input": vec![text; 4] }));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let (fixture, body) = (Arc::clone(&fixture), Arc::clone(&body));
        clients.spawn(async move {
            let mut seen = Vec::new();
            for _ in 0..REQUESTS_EACH {
                let started = Instant::now();
                let response = fixture.post("/v1/embeddings", &body).send().await?;
                let status = response.status().as_u16();
                let retry_after = response.headers().get("retry-after").cloned();
                response.bytes().await?;
                seen.push((status, started.elapsed(), retry_after));
            }
            anyhow::Ok(seen)
        });
    }
    let (mut answered, mut refused) = (0, 0);
    while let Some(client) = clients.join_next().await {
        for (status, took, retry_after) in client?? {
            assert!(took < TIMEOUT + SLACK, "{status} after {took:?}");
            match status {
                200 => answered += 1,
                429 | 503 => {
                    let seconds = retry_after.context("no Retry-After")?;
                    assert!(seconds.to_str()?.parse::<u64>()? >= 1);
                    refused += usize::from(status == 429);
                }
                other => anyhow::bail!("{other}"),
            }
        }
    }
    assert!(
        answered > 0 && refused > 0,
        "{answered} answered, {refused} refused"
    );
    // All that was let in leaves again.
    until_empty(&fixture).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_waits_for_any_more_is_not_computed() -> Result<()> {
    let config = ModelServerConfig {
        batches: 1,
        ..ModelServerConfig::default()
    };
    let fixture = Fixture::start(&[MODEL], config).await?;
    let text = "the shore breathes with the ocean ".repeat(60);
    let body = json!({ "model": MODEL, "input": vec![text; 32] });
    let request = fixture.post("/v1/embeddings", &body);
    let before = fixture.metric("server_batches_total")?;
    let caller = tokio::spawn(request.send());
    let until = Instant::now() + Duration::from_secs(30);
    // The first of several batches: the others are still to be computed.
    while fixture.metric("server_batches_total")? == before {
        anyhow::ensure!(Instant::now() < until, "nothing was computed");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    caller.abort();
    until_empty(&fixture).await?;
    let abandoned = fixture.metric("reason=\"abandoned\"")?;
    anyhow::ensure!(abandoned > Some(0.0), "{abandoned:?} rows were dropped");
    Ok(())
}

async fn until_empty(fixture: &Fixture) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(30);
    while fixture.metric("server_queued_tokens")? != Some(0.0) {
        anyhow::ensure!(Instant::now() < until, "tokens are still queued");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
