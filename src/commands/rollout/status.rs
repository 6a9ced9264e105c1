//! `millrace rollout status`: how far it is, once or until it can be switched.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use millrace_schemas::RolloutPhase;

use super::report;
use crate::api::client::ApiClient;
use crate::output::Output;
use crate::stack::rollouts::RolloutStatus;

/// How often it is asked.
const LOOK_EVERY: Duration = Duration::from_millis(500);

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

/// Waits with a progress bar until the new generation is built.
///
/// # Errors
/// There is none on its way, or it can't go on.
pub async fn built(api: &ApiClient, output: Output) -> anyhow::Result<RolloutStatus> {
    let bar = output.progress(None, "records");
    let built = async {
        loop {
            let status = api.rollout().await?;
            let phase = status.rollout.as_ref().map(|rollout| rollout.phase);
            match (phase, &status.progress) {
                (Some(RolloutPhase::Building), Some(progress)) => {
                    if let Some(reason) = &progress.failure {
                        bail!(
                            "the new generation's vectorizer can't go on, restart its process: {reason}"
                        );
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
