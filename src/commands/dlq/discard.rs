//! `millrace dlq discard`: leave letters as they are, for good.

use std::process::ExitCode;

use millrace_kafka::KafkaConfig;

use super::order::{self, OrderArgs};
use crate::dead_letters::Act;
use crate::output::Output;

/// Mark dead letters as done with: `list` counts them no more, and no replay takes them.
///
/// The letters themselves stay on their topic for as long as that keeps them.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    order: OrderArgs,
}

pub async fn run(args: Args, kafka: &KafkaConfig, output: Output) -> anyhow::Result<ExitCode> {
    order::run(Act::Discard, None, &args.order, kafka, output).await
}
