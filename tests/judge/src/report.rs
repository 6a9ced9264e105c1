//! What is told at the end.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::schedule::TargetKind;

/// Counts of the faults that really happened, by kind; clones count together.
#[derive(Clone, Debug, Default)]
pub struct FaultCounts(Arc<Mutex<BTreeMap<String, u64>>>);

impl FaultCounts {
    /// One more of this kind.
    pub fn add(&self, kind: &str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(kind.to_owned()).or_default() += 1;
    }

    /// All so far.
    #[must_use]
    pub fn snapshot(&self) -> BTreeMap<String, u64> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Violation {
    /// Which promise, by a stable name.
    pub promise: &'static str,
    /// The document, record or process.
    pub subject: String,
    /// What was found, and what should have been.
    pub found: String,
}

/// The result of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What makes the same workload and schedule again.
    pub seed: u64,
    /// What was judged.
    pub target: TargetKind,
    /// How long faults were injected.
    pub minutes: f64,
    /// Obligations that the pipeline acknowledged.
    pub obligations: u64,
    /// The same by kind.
    pub obligations_by_kind: BTreeMap<String, u64>,
    /// Faults that happened, by kind. A faulty answer over HTTP counts for each request.
    pub faults: BTreeMap<String, u64>,
    /// Promises that were not kept.
    pub violations: Vec<Violation>,
    /// Late signals of zombies, of documents that no store holds.
    pub left_by_zombies: Vec<Violation>,
    /// Documents in which the reconciler mended what zombies had left.
    pub reconciled: u64,
    /// Processes that ended by themselves and were started again.
    pub self_exits: u64,
    /// The longest that a process took to leave on SIGTERM, ms.
    pub longest_drain_ms: u64,
    /// From the end of the faults until all was worked off, ms.
    pub drained_after_ms: u64,
    /// The command that repeats it.
    pub command: String,
}

impl Report {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let total: u64 = self.faults.values().sum();
        // Writing to a string can't fail.
        let _ = writeln!(
            text,
            "{} obligations acknowledged, {total} faults in {:.1} minutes on the {} target (seed {})",
            self.obligations, self.minutes, self.target, self.seed
        );
        for (kind, count) in &self.faults {
            let _ = writeln!(text, "  {count:>7}  {kind}");
        }
        let _ = writeln!(
            text,
            "  worked off {:.1} s after the last fault; longest drain on SIGTERM {:.1} s; {} exits of its own",
            self.drained_after_ms as f64 / 1e3,
            self.longest_drain_ms as f64 / 1e3,
            self.self_exits
        );
        if self.reconciled > 0 {
            let _ = writeln!(text, "  {} documents reconciled", self.reconciled);
        }
        for (title, list) in [
            ("left by zombies", &self.left_by_zombies),
            ("violations", &self.violations),
        ] {
            if list.is_empty() {
                continue;
            }
            let _ = writeln!(text, "{title}: {}", list.len());
            for violation in list.iter().take(20) {
                let Violation {
                    promise,
                    subject,
                    found,
                } = violation;
                let _ = writeln!(text, "  {promise}: {subject}: {found}");
            }
        }
        let _ = if self.violations.is_empty() {
            write!(text, "no violation")
        } else {
            write!(
                text,
                "same workload and faults again: {}\n(the timing is the operating system's and may differ)",
                self.command
            )
        };
        text
    }
}
