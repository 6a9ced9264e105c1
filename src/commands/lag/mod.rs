//! `millrace lag`: how far the consumers are behind, and what that means.

mod columns;
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use crate::cli::UsageError;
use crate::config::Config;
use crate::lag::{Groups, Watching};
use crate::output::Output;
use crate::session::TopicsSession;

/// Show how far each consumer group is behind, in records and in seconds, and what that means.
///
/// Status by Burrow's rules: OK has caught up or is about to; WARN goes on and falls behind, or has not moved
/// while it was looked at, for less than 5 seconds (`--over` and `--watch` look longer); STALL has the partition
/// and does not move; STOP: records wait and nobody has the partition; REWIND went back. A group is ERR where one
/// of its partitions is at STALL, STOP or REWIND. Seconds are the age of the next unread record. Paused: a
/// consumer of Millrace's had as much in hand as it may when it last committed, and fetched no more until it had
/// done some. Rate and time left need two looks.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these groups. Default: all whose name begins with `kafka.topic_prefix`.
    #[arg(long, value_name = "GROUP")]
    group: Vec<String>,
    /// All groups that the brokers know, other applications' too.
    #[arg(long, conflicts_with = "group")]
    all: bool,
    /// Seconds between the two looks that rate and time left come from; 0 looks once. Groups that have
    /// nothing to read are looked at once.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    over: f64,
    /// Look again and again: a terminal is drawn on, sorted by trouble; with --json, a line a look.
    #[arg(long)]
    watch: bool,
    /// Seconds between the looks of --watch.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 2.0,
        requires = "watch"
    )]
    every: f64,
}

/// The longest time between looks.
const MAX_SECONDS: f64 = 3_600.0;

pub async fn run(args: Args, config: Config, output: Output) -> anyhow::Result<ExitCode> {
    let over = seconds("--over", args.over, 0.0)?;
    let every = seconds("--every", args.every, 0.2)?;
    let session = TopicsSession::attach_or_start(&config)?;
    let watching = Watching::new(groups(&args, &session), &config, &session.kafka);
    let done = async {
        let mut watching = watching?;
        if args.watch {
            return watch::run(&mut watching, every, output).await;
        }
        let mut report = watching.look().await?;
        if report.is_behind() && !over.is_zero() {
            tokio::time::sleep(over).await;
            report = watching.look().await?;
        }
        output.result(&report, || report.text())
    }
    .await;
    session.close().await;
    done.map(|()| ExitCode::SUCCESS)
}

fn seconds(flag: &str, seconds: f64, least: f64) -> Result<Duration, UsageError> {
    if (least..=MAX_SECONDS).contains(&seconds) {
        return Ok(Duration::from_secs_f64(seconds));
    }
    Err(UsageError(format!(
        "{flag} {seconds} is not between {least} and {MAX_SECONDS} seconds"
    )))
}

fn groups(args: &Args, session: &TopicsSession) -> Groups {
    if !args.group.is_empty() {
        Groups::Named(args.group.clone())
    } else if args.all {
        Groups::Prefixed(String::new())
    } else {
        Groups::Prefixed(session.kafka.topic_prefix.clone())
    }
}
