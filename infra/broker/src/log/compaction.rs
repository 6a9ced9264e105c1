//! Keeping the latest record of each key.
//!
//! A pass reads the sealed segments twice: once to learn each key's latest offset, once to copy what
//! stays. A record is copied as the bytes that the producer sent, and a batch that keeps all its
//! records is copied whole, so headers and everything else survive byte for byte.
//!
//! A pass runs without the partition's lock: [`PartitionLog::plan_compaction`] names the segments,
//! [`Compaction::run`] writes new files beside them, [`PartitionLog::install`] puts them in place.
//! Sealed segments change only by maintenance, which is one task.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};

use tracing::{info, warn};

use super::batch::{self, BatchHeader};
use super::checkpoint::Checkpoint;
use super::open_transactions::Aborted;
use super::record::{self, RecordError};
use super::segment::Segment;
use super::{BatchError, PartitionLog};
use crate::storage::sync_dir;
use crate::topic_config::TopicConfig;

const UNFINISHED_EXTENSION: &str = "cleaned";

/// A pass to be made.
#[derive(Debug)]
pub struct Compaction {
    dir: PathBuf,
    sources: Vec<Segment>,
    aborted: Vec<Aborted>,
    checkpoint: Checkpoint,
    segment_bytes: u64,
    /// Tombstones and markers that were first cleaned before this may go.
    horizon_ms: i64,
}

/// New files that wait to replace the old.
#[derive(Debug)]
pub struct Compacted {
    merged: Vec<Merged>,
    sources: usize,
    until_offset: i64,
    horizon_ms: i64,
}

#[derive(Debug)]
struct Merged {
    segment: Segment,
    replaces: Vec<PathBuf>,
}

impl PartitionLog {
    /// Whether a pass is due now, and over what.
    pub fn plan_compaction(
        &mut self,
        config: &TopicConfig,
        now_ms: i64,
    ) -> io::Result<Option<Compaction>> {
        if !config.compact {
            return Ok(None);
        }
        // A quiet topic would never seal its last segment by itself.
        let seal_after_ms = config.segment_ms.min(config.max_compaction_lag_ms);
        if self
            .active()
            .first_append_ms
            .is_some_and(|first| now_ms.saturating_sub(first) >= seal_after_ms)
        {
            self.roll()?;
        }
        let stable = self.stable_offset();
        let settled = |segment: &&Segment| {
            segment.last_offset < stable
                && segment.max_timestamp_ms <= now_ms.saturating_sub(config.min_compaction_lag_ms)
        };
        let sealed = &self.segments[..self.segments.len() - 1];
        let sources: Vec<Segment> = sealed.iter().take_while(settled).cloned().collect();
        let cleaned_until = self
            .checkpoint
            .cleanings
            .last()
            .map_or(0, |cleaning| cleaning.until_offset);
        let is_dirty = |segment: &&Segment| segment.last_offset >= cleaned_until;
        let dirty_bytes: u64 = sources
            .iter()
            .filter(is_dirty)
            .map(|segment| segment.bytes)
            .sum();
        let all_bytes: u64 = sources.iter().map(|segment| segment.bytes).sum();
        let overdue = sources.iter().filter(is_dirty).any(|segment| {
            segment
                .first_append_ms
                .is_some_and(|first| now_ms.saturating_sub(first) >= config.max_compaction_lag_ms)
        });
        let dirty_enough = dirty_bytes > 0
            && dirty_bytes as f64 >= config.min_cleanable_dirty_ratio * all_bytes as f64;
        let horizon_ms = now_ms.saturating_sub(config.delete_retention_ms);
        let tombstones_due =
            self.checkpoint.ripe_until(horizon_ms) > self.checkpoint.tombstones_dropped_until;
        if sources.is_empty() || !(dirty_enough || (overdue && dirty_bytes > 0) || tombstones_due) {
            return Ok(None);
        }
        Ok(Some(Compaction {
            dir: self.dir.clone(),
            sources,
            aborted: self.transactions.aborted().to_vec(),
            checkpoint: self.checkpoint.clone(),
            segment_bytes: config.segment_bytes,
            horizon_ms,
        }))
    }

    /// Puts a finished pass in place.
    pub fn install(&mut self, compacted: Compacted, now_ms: i64) -> io::Result<()> {
        // Batches that told producers' last sequences may be gone: remember them first.
        self.checkpoint.producers_until = self.end_offset();
        self.checkpoint.producers = self.producers.clone();
        self.checkpoint.store(&self.dir)?;
        let before = self.bytes();
        let mut fresh = Vec::new();
        for merged in compacted.merged {
            let mut segment = merged.segment;
            let target = Segment::path_of(&self.dir, segment.base_offset);
            if segment.is_empty() {
                fs::remove_file(&segment.path)?;
            } else {
                fs::rename(&segment.path, &target)?;
                sync_dir(&self.dir)?;
            }
            for path in merged
                .replaces
                .iter()
                .filter(|path| segment.is_empty() || **path != target)
            {
                fs::remove_file(path)?;
            }
            segment.path = target;
            if !segment.is_empty() {
                fresh.push(segment);
            }
        }
        self.segments.splice(..compacted.sources, fresh);
        let after = self.bytes();
        self.quota.release(before.saturating_sub(after));
        info!(dir = %self.dir.display(), before_bytes = before, after_bytes = after, "compacted");
        // Only now: a tombstone's time runs from the pass that was really made.
        let ripe_until = self.checkpoint.ripe_until(compacted.horizon_ms);
        self.checkpoint.tombstones_dropped_until =
            ripe_until.max(self.checkpoint.tombstones_dropped_until);
        self.checkpoint
            .note_cleaning(compacted.until_offset, now_ms, compacted.horizon_ms);
        self.checkpoint.store(&self.dir)
    }
}

/// Removes the files of a pass that a crash interrupted.
pub fn remove_unfinished(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == UNFINISHED_EXTENSION)
        {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// The latest offset of each key, by a 128-bit hash under a fresh random seed: 24 bytes a key
/// however long it is, and no input can be made to collide.
struct LatestOffsets {
    seeds: (RandomState, RandomState),
    by_key: HashMap<(u64, u64), i64>,
}

impl LatestOffsets {
    fn hash(&self, key: &[u8]) -> (u64, u64) {
        (self.seeds.0.hash_one(key), self.seeds.1.hash_one(key))
    }

    fn note(&mut self, key: &[u8], offset: i64) {
        let hash = self.hash(key);
        self.by_key.insert(hash, offset);
    }

    fn is_latest(&self, key: &[u8], offset: i64) -> bool {
        self.by_key
            .get(&self.hash(key))
            .is_none_or(|latest| *latest == offset)
    }
}

impl Compaction {
    /// Reads, filters and writes; changes nothing that is live.
    pub fn run(&self) -> io::Result<Compacted> {
        let latest = self.latest_offsets()?;
        let mut kept_transactions = HashSet::new();
        let mut merged: Vec<Merged> = Vec::new();
        for source in &self.sources {
            let target = match merged.last_mut() {
                Some(target) if target.segment.bytes + source.bytes <= self.segment_bytes => target,
                _ => {
                    let path = self
                        .dir
                        .join(format!("{:020}.{UNFINISHED_EXTENSION}", source.base_offset));
                    let segment = Segment::create(path, source.base_offset)?;
                    merged.push(Merged {
                        segment,
                        replaces: Vec::new(),
                    });
                    let last = merged.len() - 1;
                    &mut merged[last]
                }
            };
            target.replaces.push(source.path.clone());
            let appended_ms = source.first_append_ms.unwrap_or(0);
            source.for_each_batch(|header, batch| {
                let keeps = self.keep(header, batch, &latest, &mut kept_transactions);
                match keeps {
                    Keep::Nothing => Ok(()),
                    Keep::Whole => target.segment.append(batch, header, appended_ms),
                    Keep::Some(smaller) => {
                        let header = BatchHeader::parse(&smaller).map_err(invalid)?;
                        target.segment.append(&smaller, &header, appended_ms)
                    }
                }
            })?;
        }
        for target in &merged {
            target.segment.file.sync_data()?;
        }
        let until_offset = self
            .sources
            .last()
            .map_or(0, |segment| segment.last_offset + 1);
        Ok(Compacted {
            merged,
            sources: self.sources.len(),
            until_offset,
            horizon_ms: self.horizon_ms,
        })
    }

    fn latest_offsets(&self) -> io::Result<LatestOffsets> {
        let seeds = (RandomState::new(), RandomState::new());
        let mut latest = LatestOffsets {
            seeds,
            by_key: HashMap::new(),
        };
        for source in &self.sources {
            source.for_each_batch(|header, batch| {
                if header.is_control() || self.is_aborted(header) {
                    return Ok::<(), io::Error>(());
                }
                let noted = for_each_record(header, batch, |record| {
                    if let Some(key) = record.key {
                        latest.note(key, header.base_offset + i64::from(record.offset_delta));
                    }
                });
                if let Err(error) = noted {
                    warn!(path = %source.path.display(), offset = header.base_offset, %error, "a batch is kept as it is: it cannot be read");
                }
                Ok(())
            })?;
        }
        Ok(latest)
    }

    fn is_aborted(&self, header: &BatchHeader) -> bool {
        header.is_transactional()
            && self.aborted.iter().any(|aborted| {
                aborted.producer_id == header.producer_id
                    && aborted.first_offset <= header.base_offset
                    && header.base_offset < aborted.last_offset
            })
    }

    fn is_ripe(&self, offset: i64) -> bool {
        self.checkpoint
            .first_cleaned_ms(offset)
            .is_some_and(|at_ms| at_ms <= self.horizon_ms)
    }

    fn keep(
        &self,
        header: &BatchHeader,
        batch: &[u8],
        latest: &LatestOffsets,
        kept_transactions: &mut HashSet<i64>,
    ) -> Keep {
        if header.last_offset() < self.checkpoint.start_offset {
            return Keep::Nothing;
        }
        if header.is_control() {
            // A marker goes only after the last record of its transaction: alone, a record would
            // look like one of a transaction that never ended.
            let has_records = kept_transactions.remove(&header.producer_id);
            return if has_records || !self.is_ripe(header.base_offset) {
                Keep::Whole
            } else {
                Keep::Nothing
            };
        }
        if self.is_aborted(header) {
            return Keep::Nothing;
        }
        let keep = self
            .keep_records(header, batch, latest)
            .unwrap_or(Keep::Whole);
        if header.is_transactional() && !matches!(keep, Keep::Nothing) {
            kept_transactions.insert(header.producer_id);
        }
        keep
    }

    fn keep_records(
        &self,
        header: &BatchHeader,
        batch: &[u8],
        latest: &LatestOffsets,
    ) -> Result<Keep, RecordError> {
        let payload = record::payload(header, batch)?;
        let records = record::records(header, &payload)?;
        let stays = |record: &&record::RawRecord<'_>| {
            let offset = header.base_offset + i64::from(record.offset_delta);
            let Some(key) = record.key else { return true };
            latest.is_latest(key, offset) && (record.value.is_some() || !self.is_ripe(offset))
        };
        let kept: Vec<&[u8]> = records
            .iter()
            .filter(stays)
            .map(|record| record.bytes)
            .collect();
        if kept.is_empty() {
            return Ok(Keep::Nothing);
        }
        if kept.len() == records.len() {
            return Ok(Keep::Whole);
        }
        let count = i32::try_from(kept.len()).map_err(|_| RecordError::Malformed)?;
        let packed = record::compress(header.compression(), &kept.concat())?;
        Ok(Keep::Some(batch::with_records(batch, &packed, count)))
    }
}

/// What stays of a batch.
enum Keep {
    Nothing,
    Whole,
    Some(Vec<u8>),
}

fn for_each_record(
    header: &BatchHeader,
    batch: &[u8],
    mut visit: impl FnMut(&record::RawRecord<'_>),
) -> Result<(), RecordError> {
    let payload = record::payload(header, batch)?;
    for found in &record::records(header, &payload)? {
        visit(found);
    }
    Ok(())
}

fn invalid(error: BatchError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
