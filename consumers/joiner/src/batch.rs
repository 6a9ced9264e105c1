//! What goes into the join of a partition, and what comes out.

use millrace_schemas::{BehaviorByItem, Feedback, ItemStats, Signal, UnmatchedBehavior};
use millrace_state::Change;

use crate::tables::Offsets;

/// A record of `behavior.by-item` that can be read.
#[derive(Clone, Debug)]
pub(crate) struct BehaviorInput {
    pub offset: i64,
    pub record: BehaviorByItem,
    pub traceparent: Option<String>,
}

/// A record of `signals`.
#[derive(Clone, Debug)]
pub(crate) enum SignalInput {
    Signal(Box<Signal>),
    /// The last signal of an item and model is gone from the topic.
    Gone {
        item_id: String,
        model_version: String,
    },
}

impl SignalInput {
    pub fn item_id(&self) -> &str {
        match self {
            Self::Signal(signal) => &signal.item_id,
            Self::Gone { item_id, .. } => item_id,
        }
    }
}

/// What both topics gave, each in its order, and how far they were read with it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    pub signals: Vec<SignalInput>,
    pub behavior: Vec<BehaviorInput>,
    pub next: Offsets,
}

/// A record to publish.
#[derive(Clone, Debug)]
pub(crate) enum Output {
    Feedback(Box<Feedback>, Option<String>),
    Stats(Box<ItemStats>),
    Unmatched(Box<UnmatchedBehavior>, Option<String>),
}

/// What one batch did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    pub joined: u64,
    pub unmatched: u64,
    pub duplicates: u64,
    pub signals: u64,
}

/// What a batch comes to.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub changes: Vec<Change>,
    pub outputs: Vec<Output>,
    pub done: Done,
}
