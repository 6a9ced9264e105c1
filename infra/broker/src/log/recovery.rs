//! Opening a partition: every checksum is checked, a torn tail is cut, a hole is reported.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;
use tracing::{info, warn};

use super::batch::{BatchError, BatchHeader, HEADER_BYTES};
use super::checkpoint::Checkpoint;
use super::open_transactions::OpenTransactions;
use super::producers::Producers;
use super::segment::{SEGMENT_EXTENSION, Segment};
use super::{PartitionLog, compaction};
use crate::clock::now_ms;
use crate::storage::StorageQuota;

/// A partition that cannot be opened.
#[derive(Debug, Error)]
pub enum RecoveryError {
    #[error("cannot read the log in {}", dir.display())]
    Io {
        dir: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{} is corrupt at byte {position}, with valid records after it; restore the file from a copy, \
         or cut it to {position} bytes to give up what follows",
        path.display()
    )]
    Corrupt {
        path: PathBuf,
        position: u64,
        #[source]
        source: BatchError,
    },
}

impl PartitionLog {
    /// Opens or makes the log in `dir`.
    pub fn open(dir: &Path, quota: Arc<StorageQuota>) -> Result<PartitionLog, RecoveryError> {
        let failed = |source| RecoveryError::Io {
            dir: dir.to_owned(),
            source,
        };
        fs::create_dir_all(dir).map_err(failed)?;
        compaction::remove_unfinished(dir).map_err(failed)?;
        let checkpoint = Checkpoint::load(dir).map_err(failed)?;
        let mut log = PartitionLog {
            dir: dir.to_owned(),
            segments: Vec::new(),
            checkpoint: Checkpoint::default(),
            producers: checkpoint.producers.clone(),
            transactions: OpenTransactions::default(),
            quota,
            residue: false,
        };
        log.checkpoint = checkpoint;
        let paths = segment_paths(dir).map_err(failed)?;
        // After a power loss the log may end before the checkpoint: its producers then remember
        // batches that are gone, and only the log can be believed.
        let newest = paths.last().map(|(base, _)| *base);
        log.load_segments(&paths)?;
        if newest.is_some() && log.end_offset() < log.checkpoint.producers_until {
            warn!(dir = %dir.display(), "the log ends before its checkpoint; producers are read from the log alone");
            log.producers = Producers::default();
            log.checkpoint.producers = Producers::default();
            log.checkpoint.producers_until = 0;
            // At once: when the log has grown past it again, the file would be believed.
            log.checkpoint.store(dir).map_err(failed)?;
            log.release_all();
            log.load_segments(&paths)?;
        }
        if newest.is_some() && log.end_offset() < log.checkpoint.start_offset {
            warn!(dir = %dir.display(), "the log ends before its first offset; what is left of it was deleted before");
            log.release_all();
            remove_all(&paths).map_err(failed)?;
        }
        if log.segments.is_empty() {
            let base = log
                .checkpoint
                .start_offset
                .max(log.checkpoint.producers_until);
            log.segments
                .push(Segment::create(Segment::path_of(dir, base), base).map_err(failed)?);
        }
        Ok(log)
    }

    fn release_all(&mut self) {
        self.quota.release(self.bytes());
        self.segments.clear();
        self.transactions = OpenTransactions::default();
    }

    fn load_segments(&mut self, paths: &[(i64, PathBuf)]) -> Result<(), RecoveryError> {
        for (at, (base_offset, path)) in paths.iter().enumerate() {
            let failed = |source| RecoveryError::Io {
                dir: self.dir.clone(),
                source,
            };
            let reached = self
                .segments
                .last()
                .map_or(i64::MIN, |segment| segment.last_offset);
            if *base_offset <= reached {
                // Compaction merges neighbours into the first and then removes the others; a crash
                // in between leaves one that the merged file holds already.
                info!(path = %path.display(), "removing a segment that compaction merged into its neighbour");
                fs::remove_file(path).map_err(failed)?;
                continue;
            }
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .open(path)
                .map_err(failed)?;
            let mut segment = Segment::over(path.clone(), *base_offset, file);
            let last = at + 1 == paths.len();
            self.scan(&mut segment, last)?;
            self.quota.count(segment.bytes);
            if segment.is_empty() && !last {
                fs::remove_file(path).map_err(|source| RecoveryError::Io {
                    dir: self.dir.clone(),
                    source,
                })?;
                continue;
            }
            self.segments.push(segment);
        }
        Ok(())
    }

    /// Reads every batch; cuts what a crash left half written at the end of the last segment. The
    /// others were forced to disk before the next one began.
    fn scan(&mut self, segment: &mut Segment, last: bool) -> Result<(), RecoveryError> {
        let path = segment.path.clone();
        let failed = |source| RecoveryError::Io {
            dir: path.clone(),
            source,
        };
        let file = Arc::clone(&segment.file);
        let length = file.metadata().map_err(failed)?.len();
        let appended_ms = modified_ms(&file).map_err(failed)?;
        let mut reader = BatchReader::new(&file, length).map_err(failed)?;
        let broken = loop {
            match reader.next_batch().map_err(failed)? {
                None => break None,
                Some(Ok((header, batch))) if header.base_offset > segment.last_offset => {
                    segment.note(&header, appended_ms);
                    self.note(&header, batch, header.max_timestamp_ms.min(appended_ms));
                }
                Some(Ok(_)) => break Some(BatchError::Malformed),
                Some(Err(error)) => break Some(error),
            }
        };
        let Some(source) = broken else { return Ok(()) };
        let position = segment.bytes;
        if !last || reader.valid_batch_follows(position).map_err(failed)? {
            return Err(RecoveryError::Corrupt {
                path,
                position,
                source,
            });
        }
        warn!(path = %path.display(), at = position, cut_bytes = length - position, reason = %source, "cutting a torn tail");
        file.set_len(position).map_err(failed)?;
        file.sync_data().map_err(failed)
    }
}

fn modified_ms(file: &File) -> io::Result<i64> {
    let modified = file.metadata()?.modified()?;
    let since = modified
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    Ok(i64::try_from(since.as_millis()).unwrap_or_else(|_| now_ms()))
}

/// After a power loss the log may end before an offset up to which records were deleted. Going on from
/// there would give out offsets a second time, and the next start would take the new records for
/// deleted ones.
fn remove_all(paths: &[(i64, PathBuf)]) -> io::Result<()> {
    for (_, path) in paths {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Live segments by their first offset.
fn segment_paths(dir: &Path) -> io::Result<Vec<(i64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension() != Some(OsStr::new(SEGMENT_EXTENSION)) {
            continue;
        }
        if let Some(base) = path
            .file_stem()
            .and_then(OsStr::to_str)
            .and_then(|stem| stem.parse().ok())
        {
            found.push((base, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Reads batches one after the other into one buffer.
struct BatchReader<'a> {
    file: &'a File,
    buffered: io::BufReader<&'a File>,
    length: u64,
    position: u64,
    batch: Vec<u8>,
}

impl<'a> BatchReader<'a> {
    fn new(file: &'a File, length: u64) -> io::Result<BatchReader<'a>> {
        let mut start = file;
        start.seek(SeekFrom::Start(0))?;
        let buffered = io::BufReader::with_capacity(256 << 10, file);
        Ok(BatchReader {
            file,
            buffered,
            length,
            position: 0,
            batch: Vec::new(),
        })
    }

    #[expect(
        clippy::type_complexity,
        reason = "end, broken or a batch: the three things a file may hold"
    )]
    fn next_batch(&mut self) -> io::Result<Option<Result<(BatchHeader, &[u8]), BatchError>>> {
        let left = self.length - self.position;
        if left == 0 {
            return Ok(None);
        }
        if left < HEADER_BYTES as u64 {
            return Ok(Some(Err(BatchError::Truncated)));
        }
        self.batch.resize(HEADER_BYTES, 0);
        self.buffered.read_exact(&mut self.batch)?;
        let header = match BatchHeader::parse(&self.batch) {
            Ok(header) if header.bytes as u64 <= left => header,
            Ok(_) => return Ok(Some(Err(BatchError::Truncated))),
            Err(error) => return Ok(Some(Err(error))),
        };
        self.batch.resize(header.bytes, 0);
        self.buffered.read_exact(&mut self.batch[HEADER_BYTES..])?;
        if let Err(error) = header.verify(&self.batch) {
            return Ok(Some(Err(error)));
        }
        self.position += header.bytes as u64;
        Ok(Some(Ok((header, &self.batch))))
    }

    /// Whether the broken bytes at `position` are a hole: a valid batch comes after them. A torn
    /// write has nothing after it.
    fn valid_batch_follows(&self, position: u64) -> io::Result<bool> {
        use std::os::unix::fs::FileExt;
        let mut rest = vec![0; usize::try_from(self.length - position).unwrap_or(0)];
        self.file.read_exact_at(&mut rest, position)?;
        // The magic byte is 16 bytes into a batch; the checksum decides.
        Ok(
            (1..rest.len().saturating_sub(HEADER_BYTES - 1)).any(|start| {
                rest[start + 16] == 2
                    && BatchHeader::parse(&rest[start..])
                        .is_ok_and(|header| header.verify(&rest[start..]).is_ok())
            }),
        )
    }
}
