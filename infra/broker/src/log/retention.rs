//! Taking away what is too old, too much, or was deleted.

use std::fs;
use std::io;

use tracing::info;

use super::PartitionLog;
use crate::topic_config::TopicConfig;

impl PartitionLog {
    /// Moves the first offset up (DeleteRecords). The files follow with the next retention pass.
    pub fn delete_before(&mut self, offset: i64) -> io::Result<()> {
        if offset > self.checkpoint.start_offset {
            let before = self.checkpoint.start_offset;
            self.checkpoint.start_offset = offset;
            if let Err(error) = self.checkpoint.store(&self.dir) {
                self.checkpoint.start_offset = before;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Applies `retention.ms`, `retention.bytes` and earlier deletions. Whole segments go, and never
    /// one with an open transaction.
    pub fn retain(&mut self, config: &TopicConfig, now_ms: i64) -> io::Result<()> {
        let expired = |max_timestamp_ms: i64| {
            config.delete
                && config
                    .retention_ms
                    .is_some_and(|keep_ms| max_timestamp_ms < now_ms - keep_ms)
        };
        // As in Kafka, the segment being written expires too, else a quiet topic would keep its last records.
        let active = self.active();
        if !active.is_empty()
            && (expired(active.max_timestamp_ms) || active.last_offset < self.start_offset())
        {
            self.roll()?;
        }
        let stable = self.stable_offset();
        let mut kept_bytes = self.bytes();
        let mut doomed = 0;
        for segment in &self.segments[..self.segments.len() - 1] {
            let too_much = config.delete
                && config
                    .retention_bytes
                    .is_some_and(|keep| kept_bytes - segment.bytes >= keep);
            let deleted = segment.last_offset < self.start_offset();
            if segment.last_offset >= stable
                || !(deleted || too_much || expired(segment.max_timestamp_ms))
            {
                break;
            }
            kept_bytes -= segment.bytes;
            doomed += 1;
        }
        if doomed > 0 {
            self.drop_oldest(doomed)?;
        }
        Ok(())
    }

    fn drop_oldest(&mut self, count: usize) -> io::Result<()> {
        let next_base = self.segments[count].base_offset;
        let mut checkpoint = self.checkpoint.clone();
        checkpoint.start_offset = checkpoint.start_offset.max(next_base);
        checkpoint.producers_until = self.end_offset();
        checkpoint.producers = self.producers.clone();
        // First the checkpoint: a crash in between leaves files below the first offset, which the
        // next pass removes.
        checkpoint.store(&self.dir)?;
        self.checkpoint = checkpoint;
        for segment in self.segments.drain(..count) {
            info!(path = %segment.path.display(), bytes = segment.bytes, "removing a segment by retention");
            self.quota.release(segment.bytes);
            fs::remove_file(&segment.path)?;
        }
        self.transactions
            .forget_before(self.checkpoint.start_offset);
        Ok(())
    }
}
