//! `millrace undeploy`: what `deploy` made elsewhere goes again.

use std::process::ExitCode;

use anyhow::bail;
use millrace_retry::error_chain;

use super::deploy::opensearch::begin;
use crate::audit::Counts;
use crate::config::Config;
use crate::neural::{self, Order};
use crate::output::{Output, confirmed};

/// Take a model out of OpenSearch again.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    from: From,
}

#[derive(Debug, clap::Subcommand)]
enum From {
    Opensearch(OpensearchArgs),
}

/// Remove what `deploy opensearch` made: search pipeline, model and connector. Searches of this program go
/// on as they are; `neural` queries by text end.
#[derive(Debug, clap::Args)]
struct OpensearchArgs {
    /// The model's name in OpenSearch. Default: that of `deploy opensearch`.
    #[arg(long)]
    model: Option<String>,
    /// Say what is there, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

pub async fn run(args: Args, config: Config, output: Output) -> anyhow::Result<ExitCode> {
    let From::Opensearch(args) = args.from;
    let name = Order::new(&config, args.model, None)?.name;
    let found = neural::find(&config, &name).await?;
    if found.connector_id.is_none() && found.model_id.is_none() {
        output.result(&found, || {
            format!("{name} is not deployed: nothing to remove")
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.dry_run {
        let id = |id: &Option<String>| id.clone().unwrap_or_else(|| "none".to_owned());
        output.result(&found, || {
            format!(
                "{name}: model {}, connector {}\nnothing was changed",
                id(&found.model_id),
                id(&found.connector_id)
            )
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    if !confirmed(&format!("Remove {name} from OpenSearch?"), args.yes)? {
        bail!("nothing was changed");
    }
    let audit = begin(&config.kafka, "undeploy.opensearch", &name, "").await?;
    match neural::undeploy(&config, &name).await {
        Ok(removed) => {
            audit.done(Counts::new()).await?;
            output.result(&removed, || {
                format!("{name} is no model of OpenSearch any more")
            })?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            audit
                .failed(Counts::new(), &error_chain(error.as_ref()))
                .await?;
            Err(error)
        }
    }
}
