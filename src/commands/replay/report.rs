//! What became of a replay, for people and programs.

use std::path::PathBuf;

use serde::Serialize;

use super::begin::{Begun, gone_text};
use super::target::Target;
use super::work::Run;
use crate::audit::{self, Counts};
use crate::commands::ingest::Outcomes;
use crate::output::{bytes, counted, printable};
use crate::refusals::Refused;

/// A replay and what became of it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The topic's full name.
    pub topic: String,
    /// Where its records went.
    pub to: String,
    /// What it is gone on with by; absent where it can't be.
    pub name: Option<String>,
    /// Whether an earlier run had begun it.
    pub resumed: bool,
    /// Whether all is written that was meant.
    pub done: bool,
    /// Whether a signal stopped it.
    pub interrupted: bool,
    /// Who of ours reads the topic that records went to.
    pub readers: Vec<&'static str>,
    /// Of a replay to a topic: whether each record is in the partition that it came from.
    pub keeps_partitions: Option<bool>,
    /// Records that the other topic will not keep, being older than it keeps any.
    pub expiring: Option<String>,
    /// How far it is, by partition.
    pub partitions: Vec<Partition>,
    /// Offsets that were wanted and are gone.
    pub gone: u64,
    /// Offsets that were passed, by all runs.
    pub passed: u64,
    /// Offsets that it has not come to.
    pub left: u64,
    /// Records that this run wrote.
    pub records: u64,
    /// Bytes of their keys, values and headers.
    pub bytes: u64,
    /// Records that all runs wrote.
    pub records_in_all: u64,
    /// Records that could not be written, in all runs.
    pub refused: u64,
    /// The first that this run could not write.
    pub first_refused: Vec<Refused>,
    /// Of a replay to the index: what became of the notices that this run published.
    pub outcomes: Option<Outcomes>,
    /// Notices of which that is not known yet.
    pub pending: Option<u64>,
    /// Where a file that is not whole lies.
    pub staging: Option<PathBuf>,
    /// The time that this run took.
    pub seconds: f64,
    /// Records that it wrote a second.
    pub records_per_second: f64,
    #[serde(skip)]
    pub was_signalled: bool,
    #[serde(skip)]
    gone_text: Option<String>,
}

/// How far a replay is in a partition.
#[derive(Debug, Serialize)]
pub struct Partition {
    /// Its number.
    pub partition: i32,
    /// The first offset.
    pub start: i64,
    /// The one to go on from.
    pub next: i64,
    /// The one behind the last.
    pub end: i64,
}

impl Report {
    /// Of nothing done yet.
    pub fn new(topic: &str, target: &Target, begun: &Begun) -> Self {
        let gone = &begun.gone;
        Self {
            topic: topic.to_owned(),
            to: target.to_string(),
            name: begun.name.clone(),
            resumed: begun.resumed,
            done: false,
            interrupted: false,
            readers: Vec::new(),
            keeps_partitions: None,
            expiring: None,
            partitions: Vec::new(),
            gone: gone.values().sum(),
            passed: 0,
            left: 0,
            records: 0,
            bytes: 0,
            records_in_all: 0,
            refused: 0,
            first_refused: Vec::new(),
            outcomes: None,
            pending: None,
            staging: None,
            seconds: 0.0,
            records_per_second: 0.0,
            was_signalled: false,
            gone_text: (!gone.is_empty())
                .then(|| gone_text(topic, gone, &begun.spans, begun.resumed)),
        }
    }

    /// Takes what a run did.
    pub fn take(&mut self, run: &mut Run, begun: &Begun) {
        let spans = begun.spans.iter();
        self.partitions = spans
            .map(|(&partition, span)| Partition {
                partition,
                start: span.start,
                next: span.next,
                end: span.end,
            })
            .collect();
        self.passed = begun.passed();
        self.left = begun.left();
        self.records = run.records;
        self.bytes = run.bytes;
        self.records_in_all = begun.note.records;
        self.refused = begun.note.refused;
        self.first_refused = std::mem::take(&mut run.first_refused);
        self.seconds = run.pace.seconds();
        if self.seconds > 0.0 {
            self.records_per_second = self.records as f64 / self.seconds;
        }
    }

    /// As the topic `audit` has it.
    pub fn counts(&self) -> Counts {
        let mut counts = audit::counts([
            ("records", self.records),
            ("bytes", self.bytes),
            ("records_in_all", self.records_in_all),
            ("refused", self.refused),
            ("left", self.left),
        ]);
        if let Some(outcomes) = &self.outcomes {
            counts.extend(audit::counts([
                ("indexed", outcomes.indexed),
                ("stale", outcomes.stale),
                ("dead_lettered", outcomes.dead_lettered),
            ]));
        }
        counts
    }

    /// The report as a person reads it.
    pub fn text(&self) -> String {
        let mut lines = vec![format!(
            "{} ({}) of {} → {} in {:.1} s · {:.0} records/s",
            counted(self.records, "record"),
            bytes(self.bytes),
            self.topic,
            printable(&self.to),
            self.seconds,
            self.records_per_second,
        )];
        if self.resumed {
            lines.push(format!(
                "  with earlier runs: {} records, {} offsets",
                self.records_in_all, self.passed
            ));
        }
        if self.keeps_partitions == Some(false) {
            lines.push(
                "  the topics have different numbers of partitions: keys chose them anew"
                    .to_owned(),
            );
        }
        lines.extend(self.expiring.as_ref().map(|told| format!("  {told}")));
        lines.extend(self.gone_text.as_ref().map(|gone| format!("  {gone}")));
        if let Some(outcomes) = &self.outcomes {
            lines.push(format!("  {}", outcomes_text(outcomes)));
        }
        if let Some(pending) = self.pending.filter(|pending| *pending > 0) {
            lines.push(format!(
                "  what became of {pending} notices was not waited for; the pipeline goes on with them (`millrace lag`, `dlq list`), and to run it again only ends it"
            ));
        }
        for Refused { position, reason } in &self.first_refused {
            lines.push(format!(
                "  refused: {}/{} @ {}: {}",
                position.topic,
                position.partition,
                position.offset,
                printable(reason)
            ));
        }
        if self.left > 0 {
            let again = self.name.as_ref().map_or_else(
                || "run it again, from the beginning".to_owned(),
                |name| format!("run it again with --name {name} for them"),
            );
            lines.push(format!("  {} offsets are left; {again}", self.left));
        }
        if let Some(staging) = self.staging.as_ref().filter(|_| !self.done) {
            lines.push(format!(
                "  what is written so far lies in {}",
                staging.display()
            ));
        }
        lines.join("\n")
    }
}

fn outcomes_text(outcomes: &Outcomes) -> String {
    let Outcomes {
        indexed,
        stale,
        superseded,
        removed,
        dead_lettered,
        ..
    } = outcomes;
    format!(
        "{indexed} indexed, {stale} stale, {superseded} superseded, {removed} removed, {dead_lettered} dead-lettered"
    )
}
