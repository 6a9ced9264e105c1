//! The topic `rollouts`: how an index gets from one generation to the next.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::codec::message;

/// How far a rollout is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutPhase {
    /// The new generation is filled; the old one serves.
    Building,
    /// The new generation has all that the old one has; the old one serves.
    Ready,
    /// The read alias is about to move: it says which one serves.
    Switching,
    /// The new one serves, and both are written.
    Switched,
    /// The read alias is about to move back: it says which one serves.
    RollingBack,
    /// The old one serves again, and both are written.
    RolledBack,
    /// The new one serves alone.
    Finished,
    /// The old one serves alone.
    Aborted,
    /// A phase that a newer writer has and this reader has not. Never written.
    #[serde(other)]
    Unknown,
}

impl RolloutPhase {
    /// All that are written.
    pub const ALL: [Self; 8] = [
        Self::Building,
        Self::Ready,
        Self::Switching,
        Self::Switched,
        Self::RollingBack,
        Self::RolledBack,
        Self::Finished,
        Self::Aborted,
    ];

    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Building => "building",
            Self::Ready => "ready",
            Self::Switching => "switching",
            Self::Switched => "switched",
            Self::RollingBack => "rolling_back",
            Self::RolledBack => "rolled_back",
            Self::Finished => "finished",
            Self::Aborted => "aborted",
            Self::Unknown => "unknown",
        }
    }

    /// Whether both generations are written. A phase that is not known is taken for one of these:
    /// writing too much loses nothing.
    #[must_use]
    pub fn is_open(self) -> bool {
        !matches!(self, Self::Finished | Self::Aborted)
    }
}

impl fmt::Display for RolloutPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One of the two generations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutGeneration {
    /// Its number, from 1.
    pub generation: i32,
    /// Version of the model that embeds it.
    pub model_version: String,
    /// Fingerprint of that model.
    pub model_fingerprint: String,
}

/// What a gate said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateVerdict {
    /// The new generation may serve, as far as this gate sees.
    Passed,
    /// It may not.
    Failed,
    /// There was nothing to measure with.
    NotMeasured,
    /// A verdict that a newer writer has and this reader has not. Never written.
    #[serde(other)]
    Unknown,
}

/// A gate's verdict and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutGate {
    /// `coverage`, `checksums`, `dimension`, `retrieval` or `latency`.
    pub gate: String,
    /// What it said.
    pub verdict: GateVerdict,
    /// What was measured, in words.
    pub figures: String,
}

/// How far the change from one generation of an index to the next is. The record's key is the
/// index's name: the last record of an index is what holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// Name of the index, which is its read alias.
    pub index: String,
    /// How far it is.
    pub phase: RolloutPhase,
    /// The old generation.
    pub from: RolloutGeneration,
    /// The new one.
    pub to: RolloutGeneration,
    /// Who had the phase begun: `user@host`; `http` where a request did not say.
    pub who: String,
    /// When each phase was last reached, ms since 1970, by its name.
    #[serde(default)]
    pub phases: BTreeMap<String, i64>,
    /// Documents that the new generation has from the old one's text, since the topic no longer had
    /// their notices.
    #[serde(default)]
    pub filled: i64,
    /// What the gates said last.
    #[serde(default)]
    pub gates: Vec<RolloutGate>,
}

message!(Rollout, "rollouts", older: [], newest: "v1");
