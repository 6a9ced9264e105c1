//! The log of one partition: segments, what is derived from them, and the rules of appending.
//!
//! Not thread-safe: [`crate::partition`] holds the lock. Reads return a [`Slice`] that is read after
//! the lock is gone.

pub mod batch;
mod checkpoint;
pub mod compaction;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod index;
mod open_transactions;
mod producers;
pub mod record;
pub mod recovery;
mod retention;
mod segment;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use self::batch::{BatchError, BatchHeader};
use self::checkpoint::Checkpoint;
pub use self::open_transactions::Aborted;
use self::open_transactions::OpenTransactions;
use self::producers::{Producers, SequenceError, Verdict};
use self::segment::Segment;
pub use self::segment::Slice;
use crate::storage::{StorageQuota, sync_dir};
use crate::topic_config::TopicConfig;

/// One partition's records.
#[derive(Debug)]
pub struct PartitionLog {
    dir: PathBuf,
    /// Ascending; never empty; the last one is written.
    segments: Vec<Segment>,
    checkpoint: Checkpoint,
    producers: Producers,
    transactions: OpenTransactions,
    quota: Arc<StorageQuota>,
    /// A failed write may have left bytes behind the valid part.
    residue: bool,
}

/// A batch that was refused.
#[derive(Debug, Error)]
pub enum AppendError {
    #[error("the batch is not valid: {0}")]
    Batch(#[from] BatchError),
    #[error("the batch holds {bytes} bytes and max.message.bytes is {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error("{0}")]
    InvalidRecord(&'static str),
    #[error("the producer's sequence is not the next: {0}")]
    Sequence(#[from] SequenceError),
    #[error("the log could not be written")]
    Storage(#[from] io::Error),
}

/// Where a batch is in the log.
#[derive(Debug)]
pub struct Appended {
    pub base_offset: i64,
    /// The file to force to disk, and how many records it takes there; nothing for a duplicate.
    pub written: Option<(Arc<File>, i64)>,
}

/// The answer to a read.
#[derive(Debug)]
pub struct Located {
    pub slice: Slice,
    pub aborted: Vec<Aborted>,
}

impl PartitionLog {
    pub fn start_offset(&self) -> i64 {
        self.checkpoint.start_offset
    }

    /// The offset that the next record gets.
    pub fn end_offset(&self) -> i64 {
        self.active().last_offset + 1
    }

    /// Below it every transaction is finished.
    pub fn stable_offset(&self) -> i64 {
        self.transactions
            .first_open_offset()
            .unwrap_or_else(|| self.end_offset())
    }

    pub fn has_open_transaction(&self, producer_id: i64) -> bool {
        self.transactions.is_open(producer_id)
    }

    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    fn active(&self) -> &Segment {
        &self.segments[self.segments.len() - 1]
    }

    fn active_mut(&mut self) -> &mut Segment {
        let last = self.segments.len() - 1;
        &mut self.segments[last]
    }

    /// Appends what a client sent: exactly one batch.
    pub fn append(
        &mut self,
        sent: &Bytes,
        config: &TopicConfig,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        let header = BatchHeader::parse(sent)?;
        if header.bytes > config.max_message_bytes {
            return Err(AppendError::TooLarge {
                bytes: header.bytes,
                limit: config.max_message_bytes,
            });
        }
        header.verify(sent)?;
        if header.bytes != sent.len() {
            return Err(AppendError::InvalidRecord(
                "a partition takes one batch a request",
            ));
        }
        if header.is_control() || header.uses_append_time() {
            return Err(AppendError::InvalidRecord(
                "clients may not set control or append-time attributes",
            ));
        }
        if i64::from(header.record_count) != i64::from(header.last_offset_delta) + 1 {
            return Err(AppendError::InvalidRecord(
                "the record count does not match the offsets",
            ));
        }
        if config.compact {
            refuse_missing_keys(&header, sent)?;
        }
        if header.has_producer()
            && let Verdict::Duplicate { base_offset } = self.producers.judge(&header)?
        {
            return Ok(Appended {
                base_offset,
                written: None,
            });
        }
        let mut batch = sent.to_vec();
        batch::place(&mut batch, self.end_offset());
        self.write(&batch, config, now_ms)
    }

    /// Ends a producer's transaction in this partition.
    pub fn append_marker(
        &mut self,
        producer_id: i64,
        epoch: i16,
        committed: bool,
        config: &TopicConfig,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        let marker =
            batch::transaction_marker(self.end_offset(), producer_id, epoch, committed, now_ms);
        self.write(&marker, config, now_ms)
    }

    fn write(
        &mut self,
        batch: &[u8],
        config: &TopicConfig,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        let header = BatchHeader::parse(batch)?;
        self.drop_residue()?;
        if self.active_is_full(&header, config, now_ms) {
            self.roll()?;
        }
        self.quota.charge(header.bytes as u64)?;
        if let Err(error) = self.active_mut().append(batch, &header, now_ms) {
            self.quota.release(header.bytes as u64);
            // A later, shorter write must not leave whole batches of this one behind it.
            self.residue = true;
            let _retried_before_the_next_write = self.drop_residue();
            return Err(error.into());
        }
        self.note(&header, batch, now_ms);
        let written = Some((
            Arc::clone(&self.active().file),
            i64::from(header.record_count),
        ));
        Ok(Appended {
            base_offset: header.base_offset,
            written,
        })
    }

    fn drop_residue(&mut self) -> io::Result<()> {
        if self.residue {
            let active = self.active();
            active.file.set_len(active.bytes)?;
            self.residue = false;
        }
        Ok(())
    }

    fn active_is_full(&self, next: &BatchHeader, config: &TopicConfig, now_ms: i64) -> bool {
        let active = self.active();
        let too_old = active
            .first_append_ms
            .is_some_and(|first| now_ms - first >= config.segment_ms);
        !active.is_empty() && (active.bytes + next.bytes as u64 > config.segment_bytes || too_old)
    }

    /// Starts a new segment. The old one is forced to disk: from here on it counts as sealed, and
    /// recovery takes a sealed segment that does not check for corruption.
    fn roll(&mut self) -> io::Result<()> {
        self.active().file.sync_data()?;
        let base_offset = self.end_offset();
        let segment = Segment::create(Segment::path_of(&self.dir, base_offset), base_offset)?;
        sync_dir(&self.dir)?;
        self.segments.push(segment);
        Ok(())
    }

    /// Takes a batch that is in the log into account of everything derived.
    fn note(&mut self, header: &BatchHeader, batch: &[u8], appended_ms: i64) {
        if header.has_producer() && header.base_offset >= self.checkpoint.producers_until {
            self.producers.note(header, appended_ms);
        }
        if header.is_control() {
            self.transactions
                .note_marker(header, batch::marker_commits(batch));
        } else {
            self.transactions.note_data(header);
        }
    }

    /// Finds the batches from `offset` on. `committed_only` stops at the stable offset.
    /// `None`: there is nothing to read yet.
    pub fn read_from(&self, offset: i64, committed_only: bool) -> io::Result<Option<Located>> {
        let limit = if committed_only {
            self.stable_offset()
        } else {
            self.end_offset()
        };
        if offset >= limit {
            return Ok(None);
        }
        let first = self
            .segments
            .partition_point(|segment| segment.base_offset <= offset)
            .saturating_sub(1);
        for segment in &self.segments[first..] {
            let Some((position, header)) = segment.locate(offset)? else {
                continue;
            };
            if header.base_offset >= limit {
                return Ok(None);
            }
            // The stable offset is where a batch starts, so nothing open slips in.
            let end = match limit <= segment.last_offset {
                true => segment
                    .locate(limit)?
                    .map_or(segment.bytes, |(position, _)| position),
                false => segment.bytes,
            };
            let slice = Slice {
                file: Arc::clone(&segment.file),
                position,
                available: end - position,
            };
            let aborted = match committed_only {
                true => self
                    .transactions
                    .aborted_within(offset, segment.last_offset),
                false => Vec::new(),
            };
            return Ok(Some(Located { slice, aborted }));
        }
        Ok(None)
    }

    /// The first record at or after a time: its offset and time.
    pub fn offset_for_time(&self, timestamp_ms: i64) -> io::Result<Option<(i64, i64)>> {
        let start = self.start_offset();
        for segment in self
            .segments
            .iter()
            .filter(|segment| segment.last_offset >= start)
        {
            let mut from = start;
            while let Some((position, header)) = segment.locate_time(timestamp_ms, from)? {
                let batch = segment.read_batch(position, &header)?;
                if let Some(found) = first_record_at(&header, &batch, timestamp_ms, start) {
                    return Ok(Some(found));
                }
                from = header.last_offset() + 1;
            }
        }
        Ok(None)
    }

    /// The record with the latest time: its offset and time.
    pub fn latest_time(&self) -> io::Result<Option<(i64, i64)>> {
        let latest = self
            .segments
            .iter()
            .map(|segment| segment.max_timestamp_ms)
            .max();
        match latest.filter(|latest| *latest > i64::MIN) {
            Some(latest) => self.offset_for_time(latest),
            None => Ok(None),
        }
    }

    /// Removes everything: the topic is gone.
    pub fn discard(&mut self) {
        self.quota.release(self.bytes());
        for segment in &mut self.segments {
            segment.bytes = 0;
        }
    }

    /// Forces the written segment to disk.
    pub fn active_file(&self) -> Arc<File> {
        Arc::clone(&self.active().file)
    }

    /// Forgets idempotent producers that were idle since `before_ms`.
    pub fn forget_idle_producers(&mut self, before_ms: i64) {
        let transactions = &self.transactions;
        self.producers
            .forget_idle(before_ms, |id| transactions.is_open(id));
    }
}

fn refuse_missing_keys(header: &BatchHeader, batch: &[u8]) -> Result<(), AppendError> {
    // A batch that cannot be looked into (an unknown codec) is kept whole by compaction too.
    let Ok(payload) = record::payload(header, batch) else {
        return Ok(());
    };
    let records = record::records(header, &payload)
        .map_err(|_| AppendError::InvalidRecord("a record is malformed"))?;
    match records.iter().all(|record| record.key.is_some()) {
        true => Ok(()),
        false => Err(AppendError::InvalidRecord(
            "a compacted topic takes no record without a key",
        )),
    }
}

/// Falls back to the batch's own first offset and last time where it cannot be looked into.
fn first_record_at(
    header: &BatchHeader,
    batch: &[u8],
    timestamp_ms: i64,
    start_offset: i64,
) -> Option<(i64, i64)> {
    let whole = Some((
        header.base_offset.max(start_offset),
        header.max_timestamp_ms,
    ));
    let Ok(payload) = record::payload(header, batch) else {
        return whole;
    };
    let Ok(records) = record::records(header, &payload) else {
        return whole;
    };
    records
        .iter()
        .map(|record| {
            let offset = header.base_offset + i64::from(record.offset_delta);
            let time = header
                .base_timestamp_ms
                .saturating_add(record.timestamp_delta_ms);
            (offset, time)
        })
        .find(|(offset, time)| *time >= timestamp_ms && *offset >= start_offset)
}
