//! `millrace train`: learn from what was asked, shown and clicked.

mod embedding;
mod ranker;

use std::process::ExitCode;

pub use ranker::{ImportanceReport, importance, importance_table, learn, options, scores};

use crate::config::Config;
use crate::output::Output;

/// Train models.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Ranker(ranker::Args),
    Embedding(embedding::Args),
}

pub async fn run(args: Args, config: Config, output: Output) -> anyhow::Result<ExitCode> {
    match args.what {
        What::Ranker(args) => ranker::run(args, config, output).await,
        What::Embedding(args) => embedding::run(args, output).await,
    }
}
