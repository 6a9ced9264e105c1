//! `millrace dlq replay`: publish what failed again.

use std::process::ExitCode;

use millrace_kafka::KafkaConfig;

use super::order::{self, OrderArgs};
use crate::dead_letters::Act;
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
    order: OrderArgs,
    /// Leave records alone that were replayed so often.
    #[arg(long, value_name = "N", default_value_t = 2)]
    max_replays: u32,
    /// At most so many letters a second.
    #[arg(long, value_name = "N/s")]
    rate: Option<Rate>,
}

pub async fn run(args: Args, kafka: &KafkaConfig, output: Output) -> anyhow::Result<ExitCode> {
    let act = Act::Replay {
        max_replays: args.max_replays,
    };
    order::run(act, args.rate, &args.order, kafka, output).await
}
