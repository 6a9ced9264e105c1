//! Which document a record is about, and which of two writers is the newer.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A document's id: the first 128 bits of the SHA-256 of its URI, as 32 hex digits.
///
/// It is the `_id` of the document's header record, far below the 512 bytes that an `_id` may have
/// however long the URI is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DocId(String);

impl DocId {
    /// The id of the document at `uri`. The URI is taken as it is: whoever makes URIs normalises
    /// them.
    #[must_use]
    pub fn from_uri(uri: &str) -> Self {
        Self(hex::encode(&Sha256::digest(uri.as_bytes())[..16]))
    }

    /// An id as [`DocId::as_str`] gives it: 32 lower-case hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (text.len() == 32 && text.as_bytes().iter().all(is_digit)).then(|| Self(text.to_owned()))
    }

    /// The `_id` of chunk `number` (from 0): `{doc_id}#{number}`.
    #[must_use]
    pub fn chunk(&self, number: u32) -> String {
        format!("{}#{number}", self.0)
    }

    /// The 32 hex digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for DocId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<DocId> for String {
    fn from(id: DocId) -> Self {
        id.0
    }
}

impl fmt::Display for DocId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Orders the writers of a document: `event_time_ms << 20 | offset & 0xF_FFFF`.
///
/// Two events of one millisecond are ordered by their offsets in `documents`, except across a wrap
/// of the low 20 bits, one pair in a million; a conflict is therefore checked against the object
/// itself. It is the index's external version, hence never negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DocumentVersion(i64);

impl DocumentVersion {
    const OFFSET_BITS: u32 = 20;
    const OFFSET_MASK: i64 = (1 << Self::OFFSET_BITS) - 1;
    const MAX_EVENT_TIME_MS: i64 = i64::MAX >> Self::OFFSET_BITS;

    /// How far ahead of the reader's clock an event may be.
    pub const MAX_AHEAD_MS: i64 = 5 * 60 * 1000;

    /// The version of the event at `event_time_ms` (since 1970) that is the record at `offset`.
    /// Times outside 1970–2248 take the nearest end of that range.
    #[must_use]
    pub fn new(event_time_ms: i64, offset: i64) -> Self {
        let time = event_time_ms.clamp(0, Self::MAX_EVENT_TIME_MS);
        Self(time << Self::OFFSET_BITS | offset & Self::OFFSET_MASK)
    }

    /// As [`DocumentVersion::new`], refusing what a wrong clock made: a version from the future
    /// would keep all later ones out until its time has come.
    ///
    /// # Errors
    /// [`VersionError::InFuture`] where the event is more than five minutes ahead of `now_ms`,
    /// [`VersionError::BeforeEpoch`] where its time is negative.
    pub fn checked(event_time_ms: i64, offset: i64, now_ms: i64) -> Result<Self, VersionError> {
        if event_time_ms < 0 {
            return Err(VersionError::BeforeEpoch { event_time_ms });
        }
        let ahead_ms = event_time_ms.saturating_sub(now_ms);
        if ahead_ms > Self::MAX_AHEAD_MS {
            return Err(VersionError::InFuture {
                event_time_ms,
                ahead_ms,
            });
        }
        Ok(Self::new(event_time_ms, offset))
    }

    /// The number as the index holds it.
    #[must_use]
    pub fn get(self) -> i64 {
        self.0
    }

    /// The time of the event, ms since 1970.
    #[must_use]
    pub fn event_time_ms(self) -> i64 {
        self.0 >> Self::OFFSET_BITS
    }

    /// The next higher version, for a repair that must win over this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl From<i64> for DocumentVersion {
    /// A version as it was stored; negative numbers become 0.
    fn from(version: i64) -> Self {
        Self(version.max(0))
    }
}

impl From<DocumentVersion> for i64 {
    fn from(version: DocumentVersion) -> Self {
        version.0
    }
}

impl fmt::Display for DocumentVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why an event's time makes no version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// More than five minutes ahead of the reader's clock.
    #[error(
        "the event time {event_time_ms} is {ahead_ms} ms ahead of this clock, more than 5 minutes"
    )]
    InFuture {
        /// The event's time, ms since 1970.
        event_time_ms: i64,
        /// How far ahead it is.
        ahead_ms: i64,
    },
    /// Before 1970, which no event of an object store is.
    #[error("the event time {event_time_ms} is before 1970")]
    BeforeEpoch {
        /// The event's time, ms since 1970.
        event_time_ms: i64,
    },
}

impl VersionError {
    /// The machine-readable type, as dead letters carry it.
    #[must_use]
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::InFuture { .. } => "version_in_future",
            Self::BeforeEpoch { .. } => "version_before_epoch",
        }
    }
}
