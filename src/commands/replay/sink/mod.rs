//! Writing records where they go. What is [`Settling`] is written for good once it is settled: only then may
//! the position be committed.

mod file;
mod stdout;
mod topic;

use std::path::Path;

use anyhow::Context as _;
use millrace_kafka::Record;
use serde::Serialize;
use tokio::task::JoinHandle;

pub use self::file::FileSink;
pub use self::stdout::StdoutSink;
pub use self::topic::TopicSink;
use crate::records::{Decoded, Raw};
use crate::refusals::Refused;

/// Writes records.
pub enum Sink {
    /// On a topic.
    Topic(TopicSink),
    /// In a file.
    File(FileSink),
    /// On standard output.
    Stdout(StdoutSink),
}

/// What became of records that were written together.
#[derive(Debug, Default)]
pub struct Written {
    /// Records.
    pub records: u64,
    /// Bytes of their keys, values and headers.
    pub bytes: u64,
    /// Those that can't be written, and why.
    pub refused: Vec<Refused>,
    /// Nobody reads any more: there is no use in going on.
    pub is_enough: bool,
}

/// What was written up to a moment, on its way to staying. More may be written meanwhile.
pub enum Settling {
    /// It stays; of a file also how long that is, bytes.
    Settled(Option<u64>),
    /// A file of this length is being synced.
    Syncing(JoinHandle<anyhow::Result<u64>>),
}

impl Settling {
    /// Whether [`settled`](Self::settled) has not to wait.
    pub fn is_settled(&self) -> bool {
        match self {
            Self::Settled(_) => true,
            Self::Syncing(syncing) => syncing.is_finished(),
        }
    }

    /// Waits until it stays; of a file tells how long that is, bytes.
    ///
    /// # Errors
    /// The disk refused it.
    pub async fn settled(self) -> anyhow::Result<Option<u64>> {
        match self {
            Self::Settled(length) => Ok(length),
            Self::Syncing(syncing) => Ok(Some(syncing.await.context("syncing was cut off")??)),
        }
    }
}

impl Sink {
    /// Writes records, in order.
    ///
    /// # Errors
    /// What was written of them is not known; the position must stay before them.
    pub async fn write(&mut self, records: Vec<Record>) -> anyhow::Result<Written> {
        if records.is_empty() {
            return Ok(Written::default());
        }
        match self {
            Self::Topic(sink) => sink.write(&records).await,
            Self::File(sink) => sink.write(records).await,
            Self::Stdout(sink) => sink.write(&records),
        }
    }

    /// Begins to see to it that all that was written so far stays.
    ///
    /// # Errors
    /// It does not.
    pub async fn settle(&mut self) -> anyhow::Result<Settling> {
        match self {
            // Acknowledged already.
            Self::Topic(_) => Ok(Settling::Settled(None)),
            Self::File(sink) => sink.settle().await,
            Self::Stdout(sink) => sink.flush().map(|()| Settling::Settled(None)),
        }
    }

    /// Puts a whole file in its place.
    ///
    /// # Errors
    /// That failed; the staged file is there still.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        match self {
            Self::File(sink) => sink.finish(),
            Self::Topic(_) | Self::Stdout(_) => Ok(()),
        }
    }

    /// Where what is not whole yet lies, where that is a file.
    pub fn staging(&self) -> Option<&Path> {
        match self {
            Self::File(sink) => Some(sink.staging()),
            Self::Topic(_) | Self::Stdout(_) => None,
        }
    }
}

fn size(records: &[Record]) -> u64 {
    records
        .iter()
        .map(|record| record.size_bytes() as u64)
        .sum()
}

/// A record as a line has it: decoded as far as that is possible, and its bytes in base64.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    decoded: Decoded<'a>,
    raw: Raw<'a>,
}

/// Appends records as lines of JSON.
fn lines(records: &[Record], out: &mut Vec<u8>) -> std::io::Result<()> {
    for record in records {
        let line = Line {
            decoded: Decoded::of(record),
            raw: Raw::of(record),
        };
        serde_json::to_writer(&mut *out, &line)?;
        out.push(b'\n');
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_line_is_one_line_and_has_every_byte() {
        let hostile = Bytes::from_static(b"\xFF\n\x1B[2J");
        let record = Record {
            topic: "t".to_owned(),
            partition: 1,
            offset: 2,
            timestamp_ms: Some(3),
            key: Some(hostile.clone()),
            value: None,
            headers: vec![("h".to_owned(), Some(hostile.clone()))],
        };
        let mut out = Vec::new();
        lines(&[record.clone(), record], &mut out).unwrap();
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 2);
        let first = out.split(|byte| *byte == b'\n').next().unwrap();
        let first: Value = serde_json::from_slice(first).unwrap();
        for encoded in [&first["raw"]["key"], &first["raw"]["headers"][0][1]] {
            let bytes = STANDARD.decode(encoded.as_str().unwrap()).unwrap();
            assert_eq!(bytes, hostile);
        }
        assert_eq!(first["raw"]["value"], json!(null));
        assert_eq!(
            (&first["partition"], &first["offset"]),
            (&json!(1), &json!(2))
        );
    }
}
