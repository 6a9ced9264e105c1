//! `millrace rebuild`: a state anew from its topics, while the present one serves.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::ValueEnum;
use millrace_stateful::Rebuilt;
use serde::Serialize;

use crate::api::rebuild::RebuildQuery;
use crate::config::Config;
use crate::output::Output;
use crate::session::Session;
use crate::stack::Needs;
use crate::stack::rebuilding::RebuildStatus;

/// How often it is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Build the state of a consumer anew from its topics, and switch to it.
///
/// The present state serves, and live traffic goes on, until the new one has read all that the topics
/// held when it began. What has been published is not published again. Stopped before the switch, it
/// leaves the present state as it is: run it again.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whose state.
    #[arg(value_enum)]
    consumer: Consumer,
    /// Go on where the topic no longer holds all that the state was made of.
    #[arg(long)]
    accept_loss: bool,
    /// Say what would be read, and what is gone, without doing anything.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Consumer {
    /// Signals and counters of items, from `behavior.by-item` and `signals`.
    Joiner,
    /// Profiles of users, from `feedback`.
    Profiles,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    consumer: &'a str,
    rebuilt: bool,
    #[serde(flatten)]
    what: Rebuilt,
}

pub async fn run(args: Args, config: Config, output: Output) -> anyhow::Result<ExitCode> {
    let (consumer, needs) = match args.consumer {
        Consumer::Joiner => ("joiner", Needs::BEHAVIOR),
        Consumer::Profiles => ("profiles", Needs::FEEDBACK),
    };
    let session = Session::attach_or_start(&config, needs).await?;
    session.ready().await;
    let rebuilt = tokio::select! {
        rebuilt = rebuild(&session, consumer, &args, output) => rebuilt,
        gone = session.gone() => Err(gone),
    };
    session.close().await;
    let report = Report {
        consumer,
        rebuilt: !args.dry_run,
        what: rebuilt?,
    };
    output.result(&report, || text(&report))?;
    Ok(ExitCode::SUCCESS)
}

async fn rebuild(
    session: &Session,
    consumer: &str,
    args: &Args,
    output: Output,
) -> anyhow::Result<Rebuilt> {
    if args.dry_run {
        return Ok(session.api.rebuild_status(consumer).await?.extent);
    }
    let query = RebuildQuery {
        accept_loss: args.accept_loss,
    };
    let mut status = session.api.rebuild(consumer, query).await?;
    let bar = output.progress(None, "records");
    let ended = loop {
        match status {
            RebuildStatus::Running(progress) => {
                bar.set_length(progress.total_records);
                bar.set_position(progress.done_records);
            }
            RebuildStatus::Done(rebuilt) => break Ok(rebuilt),
            RebuildStatus::Failed { reason } => break Err(reason),
            RebuildStatus::Idle => break Err("the process was started anew meanwhile".to_owned()),
        }
        tokio::time::sleep(LOOK_EVERY).await;
        status = session.api.rebuild_status(consumer).await?.last;
    };
    bar.finish_and_clear();
    match ended {
        Ok(rebuilt) => Ok(rebuilt),
        Err(reason) => bail!("{reason}; run the command again"),
    }
}

fn text(report: &Report<'_>) -> String {
    let Rebuilt {
        topic,
        old,
        new,
        records,
        records_gone,
    } = &report.what;
    let gone = match records_gone {
        0 => String::new(),
        gone => format!("; {gone} before them are gone by retention"),
    };
    if report.rebuilt {
        format!(
            "{}: generation {new} serves instead of {old}, made from {records} records of {topic}{gone}",
            report.consumer
        )
    } else {
        format!(
            "{}: generation {old} serves; {topic} holds {records} records to build another one from{gone}",
            report.consumer
        )
    }
}
