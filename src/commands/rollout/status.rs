//! `millrace rollout status`: how far it is, once or until it can be switched.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use millrace_retry::FullJitter;
use millrace_schemas::RolloutPhase;

use super::report;
use crate::api::client::{ApiClient, is_away};
use crate::output::{Output, printable};
use crate::stack::rollouts::RolloutStatus;

/// How often it is asked.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often it is told how far it is, where no bar is seen.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// How long brokers, index or the process may be away before who waits for them gives up.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Tell how far the rollout is.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Wait with a progress bar until it is built; fails where it is aborted or can't go on.
    #[arg(long)]
    watch: bool,
}

impl Args {
    pub async fn run(&self, api: &ApiClient, output: Output) -> anyhow::Result<ExitCode> {
        let status = match self.watch {
            true => built(api, output).await?,
            false => api.rollout().await?,
        };
        output.result(&status, || report::status(&status))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// How far the rollout is; where that can't be told now, says so and asks again.
///
/// # Errors
/// It is no outage, or one longer than [`PATIENCE`].
pub async fn asked(api: &ApiClient) -> anyhow::Result<RolloutStatus> {
    let began = Instant::now();
    let mut delays = FullJitter::default();
    let mut told = None;
    loop {
        let error = match api.rollout().await {
            Ok(status) => return Ok(status),
            Err(error) if is_away(&error) && began.elapsed() < PATIENCE => error,
            Err(error) => return Err(error),
        };
        let reason = error.to_string();
        if told.as_ref() != Some(&reason) {
            eprintln!("waiting, and asking again: {}", printable(&reason));
            told = Some(reason);
        }
        tokio::time::sleep(delays.next_delay()).await;
    }
}

/// Waits until the new generation is built, with a progress bar or, where none is seen, a line now and then.
///
/// # Errors
/// There is none on its way, or it can't go on.
pub async fn built(api: &ApiClient, output: Output) -> anyhow::Result<RolloutStatus> {
    let bar = output.progress(None, "records");
    let shows_bar = std::io::stderr().is_terminal();
    let mut told: Option<Instant> = None;
    let built = async {
        loop {
            let status = asked(api).await?;
            let phase = status.rollout.as_ref().map(|rollout| rollout.phase);
            match (phase, &status.progress) {
                (Some(RolloutPhase::Building), Some(progress)) => {
                    if let Some(reason) = &progress.failure {
                        bail!(
                            "the new generation's vectorizer can't go on, restart its process: {reason}"
                        );
                    }
                    if !shows_bar && told.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
                        told = Some(Instant::now());
                        let (done, total) = (progress.records, progress.records_total);
                        eprintln!("building: read {done} of {total} records");
                    }
                    bar.set_length(u64::try_from(progress.records_total).unwrap_or(0));
                    bar.set_position(u64::try_from(progress.records).unwrap_or(0));
                }
                (_, Some(_)) | (Some(RolloutPhase::Finished), None) => return Ok(status),
                _ => bail!("there is no rollout under way"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let built = built.await;
    bar.finish_and_clear();
    built
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::extract::State;
    use axum::http::StatusCode;
    use axum::response::{IntoResponse, Response};
    use axum::routing::get;
    use axum::{Json, Router};
    use serde_json::json;

    use super::*;
    use crate::stack::address::RunningAddress;

    /// Answers with these statuses, one after the other, the last for good.
    async fn serving(statuses: &'static [u16]) -> ApiClient {
        let answer = move |State(asked): State<Arc<AtomicUsize>>| async move {
            let turn = asked.fetch_add(1, Ordering::Relaxed);
            let status = statuses[turn.min(statuses.len() - 1)];
            let status = StatusCode::from_u16(status).unwrap();
            let body = match status.is_success() {
                true => {
                    json!({"serving": null, "model_version": null, "rollout": null, "progress": null})
                }
                false => json!({"message": "no answer from Kafka"}),
            };
            let answer: Response = (status, Json(body)).into_response();
            answer
        };
        let routes = Router::new().route("/v1/rollout", get(answer));
        let routes = routes.with_state(Arc::new(AtomicUsize::new(0)));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = RunningAddress {
            pid: 0,
            api: format!("http://{}", listener.local_addr().unwrap()),
            kafka: String::new(),
            topic_prefix: String::new(),
            control_token: "token".to_owned(),
        };
        tokio::spawn(async move { axum::serve(listener, routes).await });
        ApiClient::new(&address).unwrap()
    }

    #[tokio::test]
    async fn an_outage_is_waited_out() {
        let status = asked(&serving(&[503, 503, 200]).await).await.unwrap();
        assert!(status.rollout.is_none());
    }

    #[tokio::test]
    async fn what_waiting_does_not_mend_is_told_at_once() {
        let error = asked(&serving(&[404]).await).await.unwrap_err();
        assert_eq!(error.to_string(), "no answer from Kafka");
    }
}
