//! `millrace dlq …`: what could not be processed, why, and what is to become of it.
//!
//! Looking joins no group and changes nothing. `replay` and `discard` go through one [`order`]: count,
//! ask, audit, work, report.

mod discard;
mod export;
mod histogram;
mod list;
mod order;
mod replay;
mod show;

use std::process::ExitCode;

use crate::config::Config;
use crate::output::Output;
use crate::session::TopicsSession;

/// Look at dead letters, replay them, discard them.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    List(list::Args),
    Show(show::Args),
    Histogram(histogram::Args),
    Replay(replay::Args),
    Discard(discard::Args),
    Export(export::Args),
}

pub async fn run(args: Args, config: Config, output: Output) -> anyhow::Result<ExitCode> {
    let session = TopicsSession::attach_or_start(&config)?;
    let kafka = &session.kafka;
    let done = match args.action {
        Action::List(args) => list::run(&args, kafka, output).await,
        Action::Show(args) => show::run(&args, kafka, output).await,
        Action::Histogram(args) => histogram::run(&args, kafka, output).await,
        Action::Replay(args) => replay::run(args, kafka, output).await,
        Action::Discard(args) => discard::run(args, kafka, output).await,
        Action::Export(args) => export::run(&args, kafka, output).await,
    };
    session.close().await;
    done
}
