//! `millrace rollout status`: how far it is, once or until it can be switched.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use millrace_schemas::RolloutPhase;

use super::report;
use crate::api::client::ApiClient;
use crate::output::Output;

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
        let mut status = api.rollout().await?;
        if self.watch {
            let bar = output.progress(None, "records");
            loop {
                let phase = status.rollout.as_ref().map(|rollout| rollout.phase);
                let Some(progress) = &status.progress else {
                    bar.finish_and_clear();
                    match phase {
                        Some(RolloutPhase::Finished) => break,
                        _ => bail!("there is no rollout under way"),
                    }
                };
                if phase != Some(RolloutPhase::Building) {
                    break;
                }
                if let Some(reason) = &progress.failure {
                    bar.finish_and_clear();
                    bail!(
                        "the new generation's vectorizer can't go on, restart its process: {reason}"
                    );
                }
                bar.set_length(u64::try_from(progress.records_total).unwrap_or(0));
                bar.set_position(u64::try_from(progress.records).unwrap_or(0));
                tokio::time::sleep(LOOK_EVERY).await;
                status = api.rollout().await?;
            }
            bar.finish_and_clear();
        }
        output.result(&status, || report::status(&status))?;
        Ok(ExitCode::SUCCESS)
    }
}
