//! How much the data folder may hold and when written bytes are forced to the disk.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// When acknowledged records are forced to stable storage.
///
/// In every case an acknowledged record is in the operating system's page cache, so it survives the
/// death of this process (`kill -9` included). Power loss and kernel panics are another matter:
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushPolicy {
    /// The operating system decides (seconds). Power loss may cost what came since.
    Never,
    /// At most so long after it was written. Power loss may cost that much.
    Every(Duration),
    /// Before it is acknowledged. Power loss costs nothing acknowledged; each write waits for the disk.
    EachWrite,
}

/// A limit on the bytes in segments and the journal, beyond which writes are refused as if the disk
/// were full.
#[derive(Debug)]
pub struct StorageQuota {
    limit_bytes: AtomicU64,
    used_bytes: AtomicU64,
}

impl StorageQuota {
    pub fn new(limit_bytes: Option<u64>) -> StorageQuota {
        StorageQuota {
            limit_bytes: AtomicU64::new(limit_bytes.unwrap_or(u64::MAX)),
            used_bytes: AtomicU64::new(0),
        }
    }

    pub fn set_limit(&self, limit_bytes: Option<u64>) {
        self.limit_bytes
            .store(limit_bytes.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// Claims room for a write that is about to happen.
    pub fn charge(&self, bytes: u64) -> io::Result<()> {
        let limit = self.limit_bytes.load(Ordering::Relaxed);
        let fits = |used: u64| used.checked_add(bytes).filter(|total| *total <= limit);
        match self
            .used_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
        {
            Ok(_) => Ok(()),
            Err(used) => Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!("{used} of {limit} bytes are used and {bytes} more are needed"),
            )),
        }
    }

    /// Counts bytes that are there already.
    pub fn count(&self, bytes: u64) {
        self.used_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn release(&self, bytes: u64) {
        let less = |used: u64| Some(used.saturating_sub(bytes));
        let _always_some = self
            .used_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

/// Makes the names in a folder durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
