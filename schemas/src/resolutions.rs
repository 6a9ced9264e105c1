//! The topic `dlq.resolved`: what operators did with dead letters.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Origin;
use crate::codec::message;

/// What was done with a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// Its record was published again.
    Replayed,
    /// It is to be left as it is.
    Discarded,
    /// What a newer writer does and this reader does not know. Never written.
    #[serde(other)]
    Unknown,
}

impl Resolution {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Replayed => "replayed",
            Self::Discarded => "discarded",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What was done with a dead letter, when and by whom. The record's key names the failure, so that
/// the topic, which is compacted, keeps one of each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterResolution {
    /// The dead-letter topic's full name.
    pub topic: String,
    /// The record that failed.
    pub origin: Origin,
    /// The step that failed.
    pub stage: String,
    /// The failed record's time, ms since 1970: it tells the record from one of a topic that was made
    /// anew. Absent where it was never on a topic.
    #[serde(default)]
    pub timestamp_ms: Option<i64>,
    /// The dead letter.
    pub position: Origin,
    /// What was done.
    pub resolution: Resolution,
    /// Of a replay: where the record stands now.
    #[serde(default)]
    pub published_as: Option<Origin>,
    /// `user@host`.
    pub who: String,
    /// When it was done, ms since 1970.
    pub at_ms: i64,
}

impl DeadLetterResolution {
    /// The record's key: of a failure always the same.
    #[must_use]
    pub fn key(&self) -> String {
        let Self { topic, origin, .. } = self;
        let time = self.timestamp_ms.map(|ms| ms.to_string());
        let time = time.as_deref().unwrap_or("-");
        format!("{topic} {origin} {} {time}", self.stage)
    }
}

message!(DeadLetterResolution, "dlq.resolved", older: [], newest: "v1");
