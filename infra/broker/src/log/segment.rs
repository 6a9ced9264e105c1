//! One file of consecutive batches, named by the first offset that it may hold.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::batch::{BatchHeader, HEADER_BYTES};
use super::index::SparseIndex;

/// The extension of a live segment; files of a compaction under way have another.
pub const SEGMENT_EXTENSION: &str = "log";

/// An open segment. Only the last of a log is written.
#[derive(Clone, Debug)]
pub struct Segment {
    pub base_offset: i64,
    pub path: PathBuf,
    pub file: Arc<File>,
    /// What is valid; the file may be longer after a failed write, never shorter.
    pub bytes: u64,
    pub index: SparseIndex,
    /// `i64::MIN` while empty.
    pub max_timestamp_ms: i64,
    /// Wall-clock time of the first batch, for `segment.ms`; `None` while empty.
    pub first_append_ms: Option<i64>,
    /// `base_offset - 1` while empty.
    pub last_offset: i64,
}

/// A piece of a segment to be read without holding the log's lock. It stays readable after
/// retention or compaction took the file away.
#[derive(Clone, Debug)]
pub struct Slice {
    pub file: Arc<File>,
    pub position: u64,
    /// Everything up to the reader's limit.
    pub available: u64,
}

impl Segment {
    /// The path of the segment that starts at `base_offset`.
    pub fn path_of(dir: &Path, base_offset: i64) -> PathBuf {
        dir.join(format!("{base_offset:020}.{SEGMENT_EXTENSION}"))
    }

    /// Makes an empty segment. What an earlier process may have left under its name is dropped.
    pub fn create(path: PathBuf, base_offset: i64) -> io::Result<Segment> {
        let file = OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .truncate(true)
            .open(&path)?;
        Ok(Segment::over(path, base_offset, file))
    }

    /// A segment over an open file of which nothing is known yet; see [`Segment::note`].
    pub fn over(path: PathBuf, base_offset: i64, file: File) -> Segment {
        Segment {
            base_offset,
            path,
            file: Arc::new(file),
            bytes: 0,
            index: SparseIndex::default(),
            max_timestamp_ms: i64::MIN,
            first_append_ms: None,
            last_offset: base_offset - 1,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Writes one batch at the end. After an error the valid part is as before.
    pub fn append(&mut self, batch: &[u8], header: &BatchHeader, now_ms: i64) -> io::Result<()> {
        self.file.write_all_at(batch, self.bytes)?;
        self.note(header, now_ms);
        Ok(())
    }

    /// Takes a batch that is in the file into account.
    pub fn note(&mut self, header: &BatchHeader, appended_ms: i64) {
        self.index
            .note(header.base_offset, self.bytes, self.max_timestamp_ms);
        self.bytes += header.bytes as u64;
        self.max_timestamp_ms = self.max_timestamp_ms.max(header.max_timestamp_ms);
        self.first_append_ms.get_or_insert(appended_ms);
        self.last_offset = header.last_offset();
    }

    /// Position and header of the first batch that ends at or after `offset`.
    pub fn locate(&self, offset: i64) -> io::Result<Option<(u64, BatchHeader)>> {
        self.first_from(self.index.before_offset(offset), |header| {
            header.last_offset() >= offset
        })
    }

    /// Position and header of the first batch that reaches `timestamp_ms`.
    pub fn locate_time(
        &self,
        timestamp_ms: i64,
        from_offset: i64,
    ) -> io::Result<Option<(u64, BatchHeader)>> {
        if self.max_timestamp_ms < timestamp_ms {
            return Ok(None);
        }
        self.first_from(self.index.before_time(timestamp_ms), |header| {
            header.max_timestamp_ms >= timestamp_ms
                && header.last_offset() >= from_offset
                && !header.is_control()
        })
    }

    fn first_from(
        &self,
        mut position: u64,
        wanted: impl Fn(&BatchHeader) -> bool,
    ) -> io::Result<Option<(u64, BatchHeader)>> {
        while position < self.bytes {
            let header = self.header_at(position)?;
            if wanted(&header) {
                return Ok(Some((position, header)));
            }
            position += header.bytes as u64;
        }
        Ok(None)
    }

    fn header_at(&self, position: u64) -> io::Result<BatchHeader> {
        let mut header = [0; HEADER_BYTES];
        self.file.read_exact_at(&mut header, position)?;
        BatchHeader::parse(&header).map_err(|error| {
            let path = self.path.display();
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{path} at byte {position}: {error}"),
            )
        })
    }

    /// Reads one whole batch.
    pub fn read_batch(&self, position: u64, header: &BatchHeader) -> io::Result<Vec<u8>> {
        let mut batch = vec![0; header.bytes];
        self.file.read_exact_at(&mut batch, position)?;
        Ok(batch)
    }

    /// Every batch with its position, in order; the visitor may stop the walk with its own error.
    pub fn for_each_batch<E: From<io::Error>>(
        &self,
        mut visit: impl FnMut(&BatchHeader, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut position = 0;
        while position < self.bytes {
            let header = self.header_at(position)?;
            let batch = self.read_batch(position, &header)?;
            visit(&header, &batch)?;
            position += header.bytes as u64;
        }
        Ok(())
    }
}

impl Slice {
    /// Reads whole batches of at most `max_bytes`; the first one comes whole even when it is larger
    /// and `at_least_one` is set, as KIP-74 wants it: a consumer must never be stuck.
    pub fn read(&self, max_bytes: usize, at_least_one: bool) -> io::Result<Vec<u8>> {
        let available = usize::try_from(self.available).unwrap_or(usize::MAX);
        let mut bytes = vec![0; available.min(max_bytes.max(HEADER_BYTES))];
        self.file.read_exact_at(&mut bytes, self.position)?;
        let mut whole = 0;
        while let Some(header) = bytes
            .get(whole..)
            .and_then(|rest| BatchHeader::parse(rest).ok())
        {
            if whole + header.bytes > max_bytes && !(whole == 0 && at_least_one) {
                break;
            }
            if whole == 0 && header.bytes > bytes.len() {
                bytes.resize(header.bytes, 0);
                self.file.read_exact_at(&mut bytes, self.position)?;
            }
            whole += header.bytes;
        }
        bytes.truncate(whole);
        Ok(bytes)
    }
}
