//! What became of what was published, counted.

use millrace_schemas::{DocumentOutcome, OutcomeKind};
use serde::Serialize;

use crate::output::counted;

/// How many documents ended in which way.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcomes {
    /// Documents published, unreadable lines of a corpus included.
    pub documents: u64,
    /// Chunks written to the index.
    pub chunks: u64,
    /// Documents written to the index.
    pub indexed: u64,
    /// Documents of which the index held a newer version.
    pub stale: u64,
    /// Documents and lines that went to the dead-letter topic.
    pub dead_lettered: u64,
    /// Documents that a later notice made moot before they were read.
    pub superseded: u64,
    /// Documents that were gone and were removed from the index.
    pub removed: u64,
}

/// What became of all that was published, and how fast.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// What became of it.
    #[serde(flatten)]
    pub outcomes: Outcomes,
    /// From the first publication to the last outcome.
    pub seconds: f64,
    /// Documents a second.
    pub docs_per_second: f64,
    /// Tokens embedded a second.
    pub tokens_per_second: f64,
}

impl Outcomes {
    /// Counts what became of one document.
    pub fn count(&mut self, outcome: &DocumentOutcome) {
        self.chunks += u64::try_from(outcome.chunks).unwrap_or(0);
        let counter = match outcome.outcome {
            OutcomeKind::Indexed => &mut self.indexed,
            OutcomeKind::Removed => &mut self.removed,
            OutcomeKind::Stale => &mut self.stale,
            OutcomeKind::Superseded => &mut self.superseded,
            OutcomeKind::DeadLettered => &mut self.dead_lettered,
            OutcomeKind::Unknown => {
                tracing::warn!(
                    uri = outcome.uri,
                    "an outcome of a kind unknown to this version"
                );
                return;
            }
        };
        *counter += 1;
    }
}

impl Summary {
    /// The summary as a person reads it.
    pub fn text(&self) -> String {
        let outcomes = &self.outcomes;
        let mut text = format!(
            "{} in {:.1} s: {} indexed ({})",
            counted(outcomes.documents, "document"),
            self.seconds,
            outcomes.indexed,
            counted(outcomes.chunks, "chunk")
        );
        for (count, what) in [
            (outcomes.stale, "stale"),
            (outcomes.superseded, "superseded"),
            (outcomes.removed, "removed"),
            (
                outcomes.dead_lettered,
                "dead-lettered (see `millrace dlq list`)",
            ),
        ] {
            if count > 0 {
                text.push_str(&format!(", {count} {what}"));
            }
        }
        text.push_str(&format!(
            " · {:.0} docs/s · {:.0} tokens/s",
            self.docs_per_second, self.tokens_per_second
        ));
        text
    }
}
