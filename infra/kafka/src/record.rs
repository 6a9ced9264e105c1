//! A record as it stands on a topic.

use bytes::Bytes;
use millrace_schemas::{EventHeaders, Origin};
use rdkafka::message::{BorrowedMessage, Headers, Message};

/// A record as it stands on a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The topic's full name, prefix included.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The record's timestamp, ms since 1970; absent in records of very old producers.
    pub timestamp_ms: Option<i64>,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; absent in a tombstone.
    pub value: Option<Bytes>,
    /// The headers in their order; a name may stand there twice, a value may be absent.
    pub headers: Vec<(String, Option<Bytes>)>,
}

impl Record {
    pub(crate) fn copy_from(message: &BorrowedMessage<'_>) -> Self {
        Self {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis(),
            key: message.key().map(Bytes::copy_from_slice),
            value: message.payload().map(Bytes::copy_from_slice),
            headers: message.headers().map_or_else(Vec::new, |headers| {
                headers
                    .iter()
                    .map(|header| {
                        (
                            header.key.to_owned(),
                            header.value.map(Bytes::copy_from_slice),
                        )
                    })
                    .collect()
            }),
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn origin(&self) -> Origin {
        Origin {
            topic: self.topic.clone(),
            partition: self.partition,
            offset: self.offset,
        }
    }

    /// The key as text, with replacement characters where it is none.
    #[must_use]
    pub fn key_text(&self) -> Option<String> {
        self.key
            .as_deref()
            .map(|key| String::from_utf8_lossy(key).into_owned())
    }

    /// The value of the last header with this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let last = self.headers.iter().rev().find(|(header, _)| header == name);
        last.and_then(|(_, value)| value.as_deref())
    }

    /// The CloudEvents attributes, where the record has them.
    #[must_use]
    pub fn event(&self) -> Option<EventHeaders> {
        let headers = self.headers.iter();
        EventHeaders::from_headers(
            headers.filter_map(|(name, value)| Some((name.as_str(), value.as_deref()?))),
        )
        .ok()
    }

    /// What it takes in memory, roughly: for queues bounded in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.as_ref().map_or(0, Bytes::len))
            .sum();
        self.key.as_ref().map_or(0, Bytes::len)
            + self.value.as_ref().map_or(0, Bytes::len)
            + headers
    }
}
