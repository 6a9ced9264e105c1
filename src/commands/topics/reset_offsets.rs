//! `millrace topics reset-offsets GROUP`: where a group that does not run resumes from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use millrace_kafka::{Admin, KafkaConfig, PartitionLag, Producer, TopicPartition, topics};
use millrace_stateful::group_prefix;
use serde::Serialize;

use super::full_name;
use crate::audit::{self, Arguments, Audit};
use crate::output::{Output, confirmed, printable, table, time};
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
    /// To this offset.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    to_offset: Option<i64>,
    /// To the first record of this time or later: an RFC 3339 time, or how long ago, such as `2h`.
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    to_time: Option<i64>,
    /// Forth by so many records, or back by a negative number.
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    shift_by: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Earliest,
    Latest,
    Offset(i64),
    Time(i64),
    Shift(i64),
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

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Earliest => f.write_str("earliest"),
            Self::Latest => f.write_str("latest"),
            Self::Offset(offset) => write!(f, "offset {offset}"),
            Self::Time(time_ms) => f.write_str(&time(Some(*time_ms))),
            Self::Shift(by) => write!(f, "shift by {by}"),
        }
    }
}

/// What is, or would be, changed.
#[derive(Debug, Serialize)]
struct Report {
    group: String,
    dry_run: bool,
    partitions: Vec<Move>,
}

#[derive(Debug, Serialize)]
struct Move {
    topic: String,
    partition: i32,
    /// Absent where the group has committed none.
    from_offset: Option<i64>,
    to_offset: i64,
    /// The records that the group has to read then.
    lag: i64,
    /// What was asked for is not there: it begins later, or ends before.
    clipped: bool,
}

pub async fn run(args: &Args, kafka: &KafkaConfig, output: Output) -> anyhow::Result<ExitCode> {
    let admin = Admin::connect(kafka)?;
    refuse_positions(&args.group, kafka)?;
    let partitions = partitions_of(&admin, args, kafka).await?;
    let target = args.to.target();
    let moves = moves(&admin, target, partitions).await?;
    let mut report = Report {
        group: args.group.clone(),
        dry_run: args.dry_run,
        partitions: moves,
    };
    let changes = report.partitions.iter().filter(|to| to.changes()).count();
    if args.dry_run || changes == 0 {
        output.result(&report, || report.text())?;
        return Ok(ExitCode::SUCCESS);
    }
    if !output.is_json() {
        eprintln!("{}", report.table());
    }
    let question = format!("Move {} on {changes} partitions?", printable(&args.group));
    if !confirmed(&question, args.yes)? {
        bail!("nothing was changed");
    }
    report.partitions.retain(Move::changes);
    admin.create_named(&[topics::AUDIT]).await?;
    let producer = Producer::connect(kafka)?;
    let begun = Audit::begin(
        &producer,
        audit::operator(),
        "topics.reset_offsets",
        report.arguments(target),
    );
    let audit = begun.await?;
    let targets = report.partitions.iter().map(|to| {
        let partition = (to.topic.clone(), to.partition);
        (partition, to.to_offset)
    });
    let targets: BTreeMap<TopicPartition, i64> = targets.collect();
    let counts = audit::counts([("partitions", targets.len() as u64)]);
    match admin.set_offsets(&args.group, &targets).await {
        Ok(()) => audit.done(counts).await?,
        Err(error) => {
            audit.failed(BTreeMap::new(), &error.to_string()).await?;
            let group = printable(&args.group);
            return Err(error).with_context(|| format!("{group} was not moved"));
        }
    }
    output.result(&report, || {
        format!(
            "{} resumes elsewhere on {} partitions",
            printable(&report.group),
            report.partitions.len()
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Positions that are not theirs to move: the offsets of a stateful consumer are in its state, and the
/// committed ones only show its lag; an operator's work keeps notes beside its own.
fn refuse_positions(group: &str, kafka: &KafkaConfig) -> anyhow::Result<()> {
    for (kind, command) in [("dlq-replay", "dlq replay"), ("replay", "replay")] {
        ensure!(
            !group.starts_with(&group_prefix(kafka, kind)),
            "{} keeps how far `millrace {command}` has come, which is more than an offset; that command moves it",
            printable(group)
        );
    }
    ensure!(
        !group.is_empty(),
        "a group has a name; `millrace lag --all` lists them"
    );
    for (consumer, instead) in [
        ("joiner", "`millrace rebuild joiner` builds it anew"),
        ("profiles", "`millrace rebuild profiles` builds it anew"),
        ("labeler", "remove its state, and it is built anew"),
    ] {
        ensure!(
            !group.starts_with(&group_prefix(kafka, consumer)),
            "the {consumer} reads on from the offsets in its state, which the committed ones only show; {instead}"
        );
    }
    Ok(())
}

/// The partitions that are meant, as the group stands there.
async fn partitions_of(
    admin: &Admin,
    args: &Args,
    kafka: &KafkaConfig,
) -> anyhow::Result<Vec<PartitionLag>> {
    let group = &args.group;
    let known = admin.groups().await?.contains(group);
    ensure!(
        known || !args.topics.is_empty(),
        "there is no group {group:?}; `millrace lag --all` lists them. With --topic its offsets can be set \
         before it first runs"
    );
    if known {
        let described = admin.describe_groups(std::slice::from_ref(group)).await?;
        let members: Vec<&str> = described
            .iter()
            .flat_map(|group| &group.members)
            .map(|member| member.client_id.as_str())
            .collect();
        ensure!(
            members.is_empty(),
            "{} has members ({}): stop them first, a running consumer would commit its own position over it",
            printable(group),
            printable(&members.join(", "))
        );
    }
    let named = args.topics.iter().map(|topic| full_name(topic, kafka));
    let named: Vec<String> = named.collect::<Result<_, _>>()?;
    let mut lags = if named.is_empty() {
        let lags = admin.group_offsets(std::slice::from_ref(group)).await?;
        lags.partitions
    } else {
        admin.group_lag(group, &named).await?
    };
    let there: BTreeSet<i32> = lags.iter().map(|lag| lag.partition).collect();
    for partition in &args.partitions {
        ensure!(
            there.contains(partition),
            "there is no partition {partition}; there are {}",
            numbers(&there)
        );
    }
    lags.retain(|lag| args.partitions.is_empty() || args.partitions.contains(&lag.partition));
    ensure!(
        !lags.is_empty(),
        "{group} has read nothing; name a topic with --topic"
    );
    Ok(lags)
}

fn numbers(partitions: &BTreeSet<i32>) -> String {
    let numbers: Vec<String> = partitions.iter().map(ToString::to_string).collect();
    numbers.join(", ")
}

async fn moves(
    admin: &Admin,
    target: Target,
    lags: Vec<PartitionLag>,
) -> anyhow::Result<Vec<Move>> {
    let at_time = match target {
        Target::Time(time_ms) => offsets_at(admin, time_ms, &lags).await?,
        _ => BTreeMap::new(),
    };
    let moved = |lag: PartitionLag| {
        let wanted = match target {
            Target::Earliest => lag.oldest,
            Target::Latest => lag.end,
            Target::Offset(offset) => offset,
            Target::Shift(by) => lag.current.saturating_add(by),
            Target::Time(_) => {
                let found = at_time.get(&(lag.topic.clone(), lag.partition));
                found.copied().unwrap_or(lag.end)
            }
        };
        let to_offset = wanted.clamp(lag.oldest, lag.end);
        Move {
            from_offset: lag.committed,
            to_offset,
            lag: lag.end - to_offset,
            clipped: to_offset != wanted,
            topic: lag.topic,
            partition: lag.partition,
        }
    };
    Ok(lags.into_iter().map(moved).collect())
}

async fn offsets_at(
    admin: &Admin,
    time_ms: i64,
    lags: &[PartitionLag],
) -> anyhow::Result<BTreeMap<TopicPartition, i64>> {
    let mut ends: BTreeMap<&str, BTreeMap<i32, i64>> = BTreeMap::new();
    for lag in lags {
        let partitions = ends.entry(&lag.topic).or_default();
        partitions.insert(lag.partition, lag.end);
    }
    let mut offsets = BTreeMap::new();
    for (topic, ends) in ends {
        let found = admin.offsets_at(topic, time_ms, &ends).await?;
        let found = found.into_iter();
        offsets.extend(found.map(|(partition, offset)| ((topic.to_owned(), partition), offset)));
    }
    Ok(offsets)
}

impl Move {
    fn changes(&self) -> bool {
        self.from_offset != Some(self.to_offset)
    }
}

impl Report {
    fn text(&self) -> String {
        if self.partitions.iter().any(Move::changes) {
            format!("{}\nnothing was changed", self.table())
        } else {
            format!("{} stands there already", printable(&self.group))
        }
    }

    fn table(&self) -> String {
        let header = ["TOPIC", "PARTITION", "FROM", "TO", "LAG THEN", ""];
        let mut rows = vec![header.map(str::to_owned).to_vec()];
        rows.extend(self.partitions.iter().filter(|to| to.changes()).map(|to| {
            let from = to
                .from_offset
                .map_or_else(|| "-".to_owned(), |at| at.to_string());
            let note = if to.clipped {
                "as near as there are records"
            } else {
                ""
            };
            vec![
                to.topic.clone(),
                to.partition.to_string(),
                from,
                to.to_offset.to_string(),
                to.lag.to_string(),
                note.to_owned(),
            ]
        }));
        table(&rows)
    }

    fn arguments(&self, target: Target) -> Arguments {
        let mut arguments = Arguments::from([
            ("group".to_owned(), self.group.clone()),
            ("to".to_owned(), target.to_string()),
        ]);
        // What would undo it. One argument a topic, since long ones are cut.
        for to in &self.partitions {
            let from = to
                .from_offset
                .map_or_else(|| "-".to_owned(), |at| at.to_string());
            let moves = arguments.entry(format!("moved {}", to.topic)).or_default();
            if !moves.is_empty() {
                moves.push(' ');
            }
            moves.push_str(&format!("{}:{from}>{}", to.partition, to.to_offset));
        }
        arguments
    }
}
