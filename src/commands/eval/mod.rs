//! `millrace eval`: how good are rankings?

mod compare;
pub mod judged;
mod ranking;
mod retrieval;

use std::process::ExitCode;

pub use ranking::measured;

use crate::config::Config;
use crate::output::Output;

/// Measure rankings against judgements, or against clicks.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Retrieval(retrieval::Args),
    Ranking(ranking::Args),
    Compare(compare::Args),
}

pub async fn run(args: Args, config: Config, output: Output) -> anyhow::Result<ExitCode> {
    match args.what {
        What::Retrieval(args) => retrieval::run(args, config, output).await,
        What::Ranking(args) => ranking::run(args, config, output).await,
        What::Compare(args) => compare::run(args, output),
    }
}
