//! `millrace publish`: send what a file or standard input holds to a topic.

pub(crate) mod behavior;
mod summary;

use std::process::ExitCode;

use crate::config::Config;
use crate::output::Output;

/// Publish events from a file or standard input.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Behavior(behavior::Args),
}

pub async fn run(args: Args, config: Config, output: Output) -> anyhow::Result<ExitCode> {
    match args.what {
        What::Behavior(args) => behavior::run(args, config, output).await,
    }
}
