//! `millrace topics reset-offsets GROUP`: where a group that does not run resumes from.

use std::process::ExitCode;

use anyhow::bail;
use millrace_kafka::KafkaConfig;

use crate::audit;
use crate::output::{Output, confirmed, printable};
use crate::reset_offsets::{Reset, Target};
use crate::when::parse_when;

/// Move where a consumer group resumes from.
///
/// Refused while the group has members: a running consumer would commit its own position over it. What
/// lies before the new offsets is not read, what lies behind them is read again.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The group, as `millrace lag --all` names it.
    group: String,
    /// Only this topic; several times for several. Default: those that the group has read.
    #[arg(long = "topic", value_name = "TOPIC")]
    topics: Vec<String>,
    /// Only this partition; several times for several.
    #[arg(long = "partition", value_name = "N")]
    partitions: Vec<i32>,
    #[command(flatten)]
    to: To,
    /// Tell what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

/// Where to.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
#[allow(clippy::struct_field_names, reason = "they are the flags' names")]
struct To {
    /// To the oldest record that is there.
    #[arg(long)]
    to_earliest: bool,
    /// To the end: what waits is never read.
    #[arg(long)]
    to_latest: bool,
    /// To this offset; where a partition has it not, as near as there are records, which is told. One
    /// that is named by --partition must have it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    to_offset: Option<i64>,
    /// To the first record of this time or later: an RFC 3339 time, a day, or how long ago, such as `2h`.
    /// Told where there is none, or records from before are gone.
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    to_time: Option<i64>,
    /// Forth by so many records, or back by a negative number.
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    shift_by: Option<i64>,
}

impl To {
    fn target(&self) -> Target {
        match self {
            Self {
                to_offset: Some(offset),
                ..
            } => Target::Offset(*offset),
            Self {
                to_time: Some(time_ms),
                ..
            } => Target::Time(*time_ms),
            Self {
                shift_by: Some(by), ..
            } => Target::Shift(*by),
            Self {
                to_earliest: true, ..
            } => Target::Earliest,
            // One of them is required.
            Self { to_latest: _, .. } => Target::Latest,
        }
    }
}

pub async fn run(args: &Args, kafka: &KafkaConfig, output: Output) -> anyhow::Result<ExitCode> {
    let reset = Reset {
        group: args.group.clone(),
        topics: args.topics.clone(),
        partitions: args.partitions.clone(),
        target: args.to.target(),
    };
    let mut planned = reset.plan(kafka).await?;
    planned.dry_run = args.dry_run;
    for warning in planned.warnings() {
        eprintln!("warning: {}", printable(&warning));
    }
    let changes = planned.partitions.iter().filter(|to| to.changes()).count();
    if args.dry_run || changes == 0 {
        output.result(&planned, || planned.text())?;
        return Ok(ExitCode::SUCCESS);
    }
    if !output.is_json() {
        eprintln!("{}", planned.table());
    }
    let question = format!("Move {} on {changes} partitions?", printable(&args.group));
    if !confirmed(&question, args.yes)? {
        bail!("nothing was changed");
    }
    let moved = reset.carry_out(planned, kafka, audit::operator()).await?;
    output.result(&moved, || {
        format!(
            "{} resumes elsewhere on {} partitions",
            printable(&moved.group),
            moved.partitions.len()
        )
    })?;
    Ok(ExitCode::SUCCESS)
}
