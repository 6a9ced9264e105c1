//! `millrace deploy`: which ranker serves, and which model OpenSearch embeds with.

pub mod opensearch;

use std::process::ExitCode;

use millrace_recommender::DeploymentStatus;

use crate::config::Config;
use crate::output::Output;
use crate::session::Session;
use crate::stack::Needs;

/// Deploy a ranker model or the weighted default, go back to what served before, or tell what serves.
///
/// `deploy opensearch` deploys a model server's encoder to OpenSearch instead.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    /// Name of the model: NAME.ranker in the folder `rankers` of the data folder, or `weighted`, the
    /// default that needs no model. Without it, tell what serves and what could.
    #[arg(value_name = "MODEL")]
    version: Option<String>,
    /// Go back to what served before; once more goes forth again. For the default deploy `weighted`.
    #[arg(long, conflicts_with = "version")]
    rollback: bool,
    #[command(subcommand)]
    to: Option<To>,
}

#[derive(Debug, clap::Subcommand)]
enum To {
    Opensearch(opensearch::Args),
}

pub async fn run(args: Args, config: Config, output: Output) -> anyhow::Result<ExitCode> {
    if let Some(To::Opensearch(args)) = args.to {
        return opensearch::run(args, config, output).await;
    }
    let session = Session::attach_or_start(&config, Needs::RECOMMEND).await?;
    // A model is warmed up with real items.
    session.ready().await;
    let (api, airec) = (&session.api, &config.airec);
    let done = match &args.version {
        Some(version) => api.deploy(airec, version).await,
        None if args.rollback => api.rollback(airec).await,
        None => api.deployment(airec).await,
    };
    session.close().await;
    let status = done?;
    output.result(&status, || text(&status))?;
    Ok(ExitCode::SUCCESS)
}

fn text(status: &DeploymentStatus) -> String {
    let mut lines = vec![format!(
        "{} serves ({})",
        status.deployed, status.ranker_version
    )];
    if let Some(problem) = &status.problem {
        lines.push(format!("  what was deployed does not: {problem}"));
    }
    if let Some(previous) = &status.previous {
        lines.push(format!(
            "  before it: {previous} (`millrace deploy --rollback`)"
        ));
    }
    lines.push(match status.available.as_slice() {
        [] => "  no models; `millrace train ranker` makes one".to_owned(),
        names => format!("  models: {}", names.join(", ")),
    });
    for (name, reason) in &status.unusable {
        lines.push(format!("  {name} can't serve: {reason}"));
    }
    lines.join("\n")
}
