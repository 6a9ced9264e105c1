//! A partition: its log behind a lock, and when what was written is forced to disk.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tracing::error;

use crate::clock::now_ms;
use crate::log::{AppendError, Appended, PartitionLog};
use crate::storage::FlushPolicy;
use crate::topic_config::TopicConfig;

/// A partition that serves requests.
#[derive(Debug)]
pub struct Partition {
    log: Mutex<PartitionLog>,
    unflushed: Mutex<Unflushed>,
    /// A failed fsync leaves it unknown what is on disk, and trying again would hide that: nothing
    /// more is written until the broker opens the log anew.
    failed: AtomicBool,
}

#[derive(Debug, Default)]
struct Unflushed {
    records: i64,
    since: Option<Instant>,
}

/// Where an acknowledged batch is.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    pub base_offset: i64,
    pub start_offset: i64,
}

impl Partition {
    pub fn new(log: PartitionLog) -> Partition {
        Partition {
            log: Mutex::new(log),
            unflushed: Mutex::default(),
            failed: AtomicBool::new(false),
        }
    }

    /// The log, for anything but appending.
    pub fn log(&self) -> MutexGuard<'_, PartitionLog> {
        // Every change to a log is complete before it is noted, so a panic leaves a valid one.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a client's batch; when this returns, the flush policy is satisfied.
    pub fn append(
        &self,
        sent: &Bytes,
        config: &TopicConfig,
        policy: FlushPolicy,
    ) -> Result<Stored, AppendError> {
        self.write(config, policy, |log| log.append(sent, config, now_ms()))
    }

    /// Ends a transaction here, unless it is not open (any more).
    pub fn end_transaction(
        &self,
        producer_id: i64,
        epoch: i16,
        committed: bool,
        config: &TopicConfig,
        policy: FlushPolicy,
    ) -> Result<(), AppendError> {
        if !self.log().has_open_transaction(producer_id) {
            return Ok(());
        }
        self.write(config, policy, |log| {
            log.append_marker(producer_id, epoch, committed, config, now_ms())
        })
        .map(drop)
    }

    fn write(
        &self,
        config: &TopicConfig,
        policy: FlushPolicy,
        append: impl FnOnce(&mut PartitionLog) -> Result<Appended, AppendError>,
    ) -> Result<Stored, AppendError> {
        if self.failed.load(Ordering::Acquire) {
            return Err(io::Error::other(
                "an earlier fsync failed; restart the broker to read what is on disk",
            )
            .into());
        }
        let (appended, stored) = {
            let mut log = self.log();
            let appended = append(&mut log)?;
            let stored = Stored {
                base_offset: appended.base_offset,
                start_offset: log.start_offset(),
            };
            (appended, stored)
        };
        if let Some((file, records)) = appended.written {
            self.flush_if_due(&file, records, config, policy)?;
        }
        Ok(stored)
    }

    fn unflushed(&self) -> MutexGuard<'_, Unflushed> {
        self.unflushed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn flush_if_due(
        &self,
        file: &File,
        records: i64,
        config: &TopicConfig,
        policy: FlushPolicy,
    ) -> io::Result<()> {
        let due = {
            let mut unflushed = self.unflushed();
            unflushed.records = unflushed.records.saturating_add(records);
            unflushed.since.get_or_insert_with(Instant::now);
            policy == FlushPolicy::EachWrite || unflushed.records >= config.flush_messages
        };
        if due { self.sync(file) } else { Ok(()) }
    }

    /// Forces what is older than the flush policy allows to disk.
    pub fn flush_overdue(&self, config: &TopicConfig, policy: FlushPolicy) -> io::Result<()> {
        let topic = Duration::from_millis(config.flush_ms.unsigned_abs());
        let limit = match policy {
            FlushPolicy::Every(interval) => interval.min(topic),
            FlushPolicy::Never | FlushPolicy::EachWrite => topic,
        };
        if self
            .unflushed()
            .since
            .is_some_and(|since| since.elapsed() >= limit)
        {
            return self.flush();
        }
        Ok(())
    }

    /// Forces everything to disk.
    pub fn flush(&self) -> io::Result<()> {
        let file: Arc<File> = self.log().active_file();
        self.sync(&file)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        // Before the call: what is written while it runs is not covered by it.
        *self.unflushed() = Unflushed::default();
        let synced = tokio::task::block_in_place(|| file.sync_data());
        if let Err(error) = &synced {
            error!(%error, "fsync failed; the partition takes no more writes until the broker is restarted");
            self.failed.store(true, Ordering::Release);
        }
        synced
    }
}
