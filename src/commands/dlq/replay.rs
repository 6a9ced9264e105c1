//! `millrace dlq replay`: publish what failed again.

use std::process::ExitCode;

use millrace_kafka::KafkaConfig;

use super::filter::{Filter, FilterArgs};
use super::order::{self, Order};
use super::plan::Act;
use crate::output::Output;
use crate::rate::Rate;

/// Publish the records of dead letters again, to the topics that they came from.
///
/// Key, value and headers are those of the original, byte for byte; headers behind them count the
/// replays and tell where it failed first. Stopped or killed, it goes on where it was when it is run
/// again.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    /// At most so many letters.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max: Option<u64>,
    /// Leave records alone that were replayed so often.
    #[arg(long, value_name = "N", default_value_t = 2)]
    max_replays: u32,
    /// At most so many letters a second.
    #[arg(long, value_name = "N/s")]
    rate: Option<Rate>,
    /// Say how many letters for which reason would go where, without doing anything.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

pub async fn run(args: Args, kafka: &KafkaConfig, output: Output) -> anyhow::Result<ExitCode> {
    let filter = Filter::new(&args.filter, kafka)?;
    let order = Order {
        act: Act::Replay {
            max_replays: args.max_replays,
        },
        max: args.max,
        rate: args.rate,
        dry_run: args.dry_run,
        yes: args.yes,
    };
    order::run(order, &filter, kafka, output).await
}
