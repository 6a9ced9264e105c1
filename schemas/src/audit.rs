//! The topic `audit`: what operators had done.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::codec::message;

/// How far an action came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditPhase {
    /// It is about to be done.
    Begun,
    /// It was done.
    Done,
    /// It was not done, or not whole.
    Failed,
    /// A phase that a newer writer has and this reader has not. Never written.
    #[serde(other)]
    Unknown,
}

impl AuditPhase {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for AuditPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A phase of an action of an operator. The record's key is the `id`. What was begun, and neither done
/// nor failed, was cut off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEvent {
    /// Of the action: its beginning and its end have the same.
    pub id: String,
    /// `dlq.replay`, `dlq.discard`, `topics.reset_offsets`, `deploy`, `rollback`, `config`, `rebuild`, or
    /// `rollout.` and a step.
    pub action: String,
    /// How far it came.
    pub phase: AuditPhase,
    /// `user@host`; `http` where a request did not say.
    pub who: String,
    /// When the phase was reached, ms since 1970.
    pub at_ms: i64,
    /// What was asked for, by name.
    #[serde(default)]
    pub arguments: BTreeMap<String, String>,
    /// What was done, by name; none at the beginning.
    #[serde(default)]
    pub counts: BTreeMap<String, i64>,
    /// Of a failure: why.
    #[serde(default)]
    pub message: Option<String>,
}

message!(AuditEvent, "audit", older: [], newest: "v1");
