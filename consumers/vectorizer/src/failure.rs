//! Why a document leaves the pipeline early: what a dead letter says.

use millrace_kafka::DeadLetterReason;
use serde::Serialize;

/// The step that a document failed in, as dead letters and metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Reading the notice.
    Decode,
    /// Reading the object.
    Fetch,
    /// Bytes to text.
    Extract,
    /// Text to chunks.
    Chunk,
    /// Chunks to vectors.
    Embed,
    /// Writing to the index.
    Index,
    /// Publishing the signal.
    Signal,
}

impl Stage {
    /// All stages, in the order of the dataflow.
    pub const ALL: [Self; 7] = [
        Self::Decode,
        Self::Fetch,
        Self::Extract,
        Self::Chunk,
        Self::Embed,
        Self::Index,
        Self::Signal,
    ];

    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Fetch => "fetch",
            Self::Extract => "extract",
            Self::Chunk => "chunk",
            Self::Embed => "embed",
            Self::Index => "index",
            Self::Signal => "signal",
        }
    }
}

/// A document that can never pass a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub stage: Stage,
    pub reason: DeadLetterReason,
}

impl Refusal {
    /// `message` must hold no document text.
    pub fn new(stage: Stage, error_type: &str, class: &str, message: impl Into<String>) -> Self {
        let reason = DeadLetterReason {
            error_type: error_type.to_owned(),
            class: class.to_owned(),
            message: message.into(),
            http_status: None,
            attempts: 1,
        };
        Self { stage, reason }
    }

    pub fn attempts(mut self, attempts: u32) -> Self {
        self.reason.attempts = attempts;
        self
    }
}
