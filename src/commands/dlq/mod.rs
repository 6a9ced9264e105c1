//! `millrace dlq …`: what could not be processed, why, and what is to become of it.
//!
//! Looking joins no group and changes nothing. `replay` and `discard` go through one [`order`]: count,
//! ask, audit, work, report.

mod discard;
mod export;
mod filter;
mod histogram;
mod letter;
mod list;
mod order;
mod place;
mod plan;
mod replay;
mod report;
mod show;
mod work;

use std::ops::ControlFlow;
use std::process::ExitCode;

use millrace_kafka::{
    AdminError, KafkaConfig, LetterScan, ReadFrom, ReaderError, ResolvedLetters, ScannedLetter,
};

use self::filter::Filter;
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

/// Hands every letter of the filter's topics that it lets pass to `each`, until that has enough.
///
/// # Errors
/// The topics can't be read, a topic that was named is not there, or `each` fails.
async fn visit(
    kafka: &KafkaConfig,
    filter: &Filter,
    resolved: &ResolvedLetters,
    mut each: impl FnMut(ScannedLetter) -> anyhow::Result<ControlFlow<()>>,
) -> anyhow::Result<()> {
    for source in filter.sources() {
        let opened = LetterScan::open(kafka, source, &ReadFrom::Beginning, resolved).await;
        let mut scan = match opened {
            // Brokers that were set up by an older version lack the newer topics.
            Err(ReaderError::Admin(AdminError::UnknownTopic { .. })) if !filter.names_topics() => {
                continue;
            }
            opened => opened?,
        };
        while let Some(scanned) = scan.next().await {
            let scanned = scanned?;
            if filter.lets_pass(&scanned.letter) && each(scanned)?.is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}
