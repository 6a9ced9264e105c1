//! Where a consumer group that does not run resumes from: planned, then moved, audited.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Context, bail, ensure};
use millrace_kafka::{Admin, KafkaConfig, PartitionLag, Producer, TopicPartition, topics};
use millrace_stateful::group_prefix;
use serde::Serialize;

use crate::audit::{self, Arguments, Audit};
use crate::output::{printable, table, time};
use crate::topic_name::full_name;

/// Which positions are to be moved, and where to.
#[derive(Clone, Debug)]
pub struct Reset {
    /// The group.
    pub group: String,
    /// Only these topics; without any those that the group has read.
    pub topics: Vec<String>,
    /// Only these partitions; without any all.
    pub partitions: Vec<i32>,
    /// Where to.
    pub target: Target,
}

/// Where a group is to resume from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The oldest record that is there.
    Earliest,
    /// The end: what waits is never read.
    Latest,
    /// This offset.
    Offset(i64),
    /// The first record of this time, ms since 1970, or later.
    Time(i64),
    /// So many records forth, or back.
    Shift(i64),
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
pub struct Report {
    /// The group.
    pub group: String,
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// By topic and number.
    pub partitions: Vec<Move>,
}

/// A partition whose position changes, or would.
#[derive(Debug, Serialize)]
pub struct Move {
    /// The topic's full name.
    pub topic: String,
    /// The number.
    pub partition: i32,
    /// Absent where the group has committed none.
    pub from_offset: Option<i64>,
    /// The offset that it resumes from.
    pub to_offset: i64,
    /// The records that the group has to read then.
    pub lag: i64,
    /// What was asked for is not there: it begins later, or ends before.
    pub clipped: bool,
    /// What it got instead of what was asked for, where it is clipped.
    pub note: Option<String>,
}

impl Reset {
    /// Tells what would change, and changes nothing.
    ///
    /// # Errors
    /// The group runs, keeps its position elsewhere, or is not there; or the brokers do not answer.
    pub async fn plan(&self, kafka: &KafkaConfig) -> anyhow::Result<Report> {
        let admin = Admin::connect(kafka)?;
        refuse_positions(&self.group, kafka)?;
        let partitions = partitions_of(&admin, self, kafka).await?;
        Ok(Report {
            group: self.group.clone(),
            dry_run: true,
            partitions: self.moves(&admin, partitions).await?,
        })
    }

    async fn moves(&self, admin: &Admin, lags: Vec<PartitionLag>) -> anyhow::Result<Vec<Move>> {
        let at_time = match self.target {
            Target::Time(time_ms) => offsets_at(admin, time_ms, &lags).await?,
            _ => BTreeMap::new(),
        };
        let moved = |lag: PartitionLag| {
            let found = at_time.get(&(lag.topic.clone(), lag.partition)).copied();
            let (to_offset, note) = place(self.target, &lag, found);
            // Of a whole topic one offset fits some partitions; of one that is named it was a mistake.
            if let (Target::Offset(_), Some(note)) = (self.target, &note)
                && !self.partitions.is_empty()
            {
                bail!("partition {} of {}: {note}", lag.partition, lag.topic);
            }
            Ok(Move {
                from_offset: lag.committed,
                to_offset,
                lag: lag.end - to_offset,
                clipped: note.is_some(),
                note,
                topic: lag.topic,
                partition: lag.partition,
            })
        };
        lags.into_iter().map(moved).collect()
    }

    /// Moves what `planned` says in the name of `who`, audited; tells what was moved.
    ///
    /// # Errors
    /// It can't be audited, or the brokers refuse it: the group runs meanwhile.
    pub async fn carry_out(
        &self,
        mut planned: Report,
        kafka: &KafkaConfig,
        who: String,
    ) -> anyhow::Result<Report> {
        planned.dry_run = false;
        planned.partitions.retain(Move::changes);
        let admin = Admin::connect(kafka)?;
        admin.create_named(&[topics::AUDIT]).await?;
        let producer = Producer::connect(kafka)?;
        let arguments = planned.arguments(self.target);
        let audit = Audit::begin(&producer, who, "topics.reset_offsets", arguments).await?;
        let targets = planned.partitions.iter().map(|to| {
            let partition = (to.topic.clone(), to.partition);
            (partition, to.to_offset)
        });
        let targets: BTreeMap<TopicPartition, i64> = targets.collect();
        let counts = audit::counts([("partitions", targets.len() as u64)]);
        match admin.set_offsets(&self.group, &targets).await {
            Ok(()) => audit.done(counts).await?,
            Err(error) => {
                audit.failed(BTreeMap::new(), &error.to_string()).await?;
                let group = printable(&self.group);
                return Err(error).with_context(|| format!("{group} was not moved"));
            }
        }
        Ok(planned)
    }
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
    reset: &Reset,
    kafka: &KafkaConfig,
) -> anyhow::Result<Vec<PartitionLag>> {
    let group = &reset.group;
    let known = admin.groups().await?.contains(group);
    ensure!(
        known || !reset.topics.is_empty(),
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
    let named = reset.topics.iter().map(|topic| full_name(topic, kafka));
    let named: Vec<String> = named.collect::<Result<_, _>>()?;
    let mut lags = if named.is_empty() {
        let lags = admin.group_offsets(std::slice::from_ref(group)).await?;
        lags.partitions
    } else {
        admin.group_lag(group, &named).await?
    };
    let there: BTreeSet<i32> = lags.iter().map(|lag| lag.partition).collect();
    for partition in &reset.partitions {
        ensure!(
            there.contains(partition),
            "there is no partition {partition}; there are {}",
            numbers(&there)
        );
    }
    lags.retain(|lag| reset.partitions.is_empty() || reset.partitions.contains(&lag.partition));
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

/// Where a partition is moved to, and what to say where that is not what was asked for. `at_time` is the
/// first offset of the time that was asked for.
fn place(target: Target, lag: &PartitionLag, at_time: Option<i64>) -> (i64, Option<String>) {
    let (oldest, end) = (lag.oldest, lag.end);
    let within = |wanted: i64| {
        let note = format!("offset {wanted} is not there, only {oldest} to {end}");
        let is_there = (oldest..=end).contains(&wanted);
        (wanted.clamp(oldest, end), (!is_there).then_some(note))
    };
    match target {
        Target::Earliest => (oldest, None),
        Target::Latest => (end, None),
        Target::Offset(offset) => within(offset),
        Target::Shift(by) => within(lag.current.saturating_add(by)),
        // Without records no time is missed.
        Target::Time(_) if oldest == end => (end, None),
        Target::Time(_) => match at_time.filter(|offset| *offset < end) {
            None => (end, Some("no record is as late: the end".to_owned())),
            // Where nothing was ever removed, the oldest record is the first of that time.
            Some(offset) if offset <= oldest && oldest > 0 => {
                let note = format!("what was before offset {oldest} is gone: the oldest there is");
                (oldest, Some(note))
            }
            Some(offset) => within(offset),
        },
    }
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
    /// Whether the group stands elsewhere.
    pub fn changes(&self) -> bool {
        self.from_offset != Some(self.to_offset)
    }
}

impl Report {
    /// For people, of nothing done.
    pub fn text(&self) -> String {
        if self.partitions.iter().any(Move::changes) {
            format!("{}\nnothing was changed", self.table())
        } else {
            format!("{} stands there already", printable(&self.group))
        }
    }

    /// What is clipped, a line a partition.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        self.partitions.iter().filter_map(|to| {
            let (topic, partition, at) = (&to.topic, to.partition, to.to_offset);
            let note = to.note.as_ref()?;
            Some(format!(
                "partition {partition} of {topic} is moved to {at}: {note}"
            ))
        })
    }

    /// What moves, for people.
    pub fn table(&self) -> String {
        let header = ["TOPIC", "PARTITION", "FROM", "TO", "LAG THEN", ""];
        let mut rows = vec![header.map(str::to_owned).to_vec()];
        rows.extend(self.partitions.iter().filter(|to| to.changes()).map(|to| {
            let from = to
                .from_offset
                .map_or_else(|| "-".to_owned(), |at| at.to_string());
            vec![
                to.topic.clone(),
                to.partition.to_string(),
                from,
                to.to_offset.to_string(),
                to.lag.to_string(),
                to.note.clone().unwrap_or_default(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_told() {
        let lag = |oldest| PartitionLag {
            group: "g".to_owned(),
            topic: "t".to_owned(),
            partition: 0,
            current: 5,
            committed: Some(5),
            oldest,
            end: 9,
            lag: 4,
            lag_seconds: None,
            member: None,
            paused: None,
        };
        let (none, time) = (None, Target::Time(1));
        for (target, oldest, at_time, to, is_told) in [
            (Target::Offset(9), 2, none, 9, false),
            (Target::Offset(10), 2, none, 9, true),
            (Target::Offset(1), 2, none, 2, true),
            (Target::Shift(-4), 2, none, 2, true),
            (Target::Shift(-3), 2, none, 2, false),
            (time, 2, Some(6), 6, false),
            (time, 2, Some(2), 2, true),
            (time, 0, Some(0), 0, false),
            (time, 2, none, 9, true),
            // What waits for nobody: brokers and their lookups say the end, too.
            (time, 2, Some(9), 9, true),
        ] {
            let (offset, note) = place(target, &lag(oldest), at_time);
            assert_eq!(
                (offset, note.is_some()),
                (to, is_told),
                "{target:?}: {note:?}"
            );
        }
    }
}
