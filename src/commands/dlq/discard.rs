//! `millrace dlq discard`: leave letters as they are, for good.

use std::process::ExitCode;

use millrace_kafka::KafkaConfig;

use super::filter::{Filter, FilterArgs};
use super::order::{self, Order};
use super::plan::Act;
use crate::output::Output;

/// Mark dead letters as done with: `list` counts them no more, and no replay takes them.
///
/// The letters themselves stay on their topic for as long as that keeps them.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    /// At most so many letters.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max: Option<u64>,
    /// Say how many letters for which reason it would be, without doing anything.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

pub async fn run(args: Args, kafka: &KafkaConfig, output: Output) -> anyhow::Result<ExitCode> {
    let filter = Filter::new(&args.filter, kafka)?;
    let order = Order {
        act: Act::Discard,
        max: args.max,
        rate: None,
        dry_run: args.dry_run,
        yes: args.yes,
    };
    order::run(order, &filter, kafka, output).await
}
