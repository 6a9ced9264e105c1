//! What became of the rows of a publication.

use std::collections::BTreeMap;

use millrace_producers::Rejection;
use millrace_schemas::BehaviorKind;
use serde::Serialize;

use crate::output::counted;

/// Rejected rows that are told one by one; the counts cover all.
const TOLD_REJECTIONS: usize = 10;

/// What became of the rows.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    /// Nothing was published, only read.
    pub dry_run: bool,
    /// Stopped before the end by a signal.
    pub interrupted: bool,
    /// Rows read.
    pub rows: u64,
    /// Events that the brokers have; of a dry run, that they would have.
    pub events: u64,
    /// The same by kind.
    pub events_by_kind: BTreeMap<&'static str, u64>,
    /// Rows that are no behavior, by what they are.
    pub passed_over: BTreeMap<&'static str, u64>,
    /// Rows in `behavior.dlq`; of a dry run, that would be.
    pub rejected: u64,
    /// The same by reason.
    pub rejected_by_reason: BTreeMap<&'static str, u64>,
    /// The first of them.
    pub first_rejected: Vec<RejectedRow>,
    /// What was added to every time, in milliseconds.
    pub rebased_by_ms: Option<i64>,
    /// From the first row to the last acknowledgement.
    pub seconds: f64,
    /// Events a second.
    pub events_per_second: f64,
}

/// Why a row is no event.
#[derive(Debug, Serialize)]
pub struct RejectedRow {
    /// The line on which it begins, from 1.
    pub row: u64,
    /// A stable name.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl Summary {
    /// Counts an event.
    pub fn event(&mut self, kind: BehaviorKind) {
        self.events += 1;
        *self.events_by_kind.entry(kind.as_str()).or_default() += 1;
    }

    /// Counts a rejected row.
    pub fn rejected(&mut self, reason: &'static str) {
        self.rejected += 1;
        *self.rejected_by_reason.entry(reason).or_default() += 1;
    }

    /// Keeps the reason of a rejected row, of the first few.
    pub fn tell(&mut self, row: u64, rejection: &Rejection) {
        if self.first_rejected.len() < TOLD_REJECTIONS {
            self.first_rejected.push(RejectedRow {
                row,
                reason: rejection.error_type,
                message: rejection.message.clone(),
            });
        }
    }

    /// The time that it took.
    pub fn took(&mut self, seconds: f64) {
        self.seconds = seconds;
        if seconds > 0.0 {
            self.events_per_second = self.events as f64 / seconds;
        }
    }

    /// The summary as a person reads it.
    pub fn text(&self) -> String {
        let counts = |counts: &BTreeMap<&'static str, u64>| {
            let counts = counts.iter().map(|(name, count)| format!("{name} {count}"));
            counts.collect::<Vec<_>>().join(", ")
        };
        let verb = if self.dry_run {
            "would be published"
        } else {
            "published"
        };
        let mut lines = vec![format!(
            "{} in {:.1} s: {} {verb} · {:.0} events/s",
            counted(self.rows, "row"),
            self.seconds,
            counted(self.events, "event"),
            self.events_per_second
        )];
        let mut line = |what: &str, by: &BTreeMap<&'static str, u64>| {
            if !by.is_empty() {
                lines.push(format!("  {what}: {}", counts(by)));
            }
        };
        line("events", &self.events_by_kind);
        line("passed over", &self.passed_over);
        line("rejected", &self.rejected_by_reason);
        for RejectedRow { message, .. } in &self.first_rejected {
            lines.push(format!("    {message}"));
        }
        let told = self.first_rejected.len() as u64;
        if self.rejected > told {
            lines.push(format!("    and {} more", self.rejected - told));
        }
        if let Some(by) = self.rebased_by_ms {
            lines.push(format!(
                "  times moved by {:.1} days",
                by as f64 / 86_400_000.0
            ));
        }
        if self.interrupted {
            lines.push("  interrupted: the rest of the file was not published".to_owned());
        }
        lines.join("\n")
    }
}
