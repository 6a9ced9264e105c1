//! The file of [`Fact`]s: one line each, `<crc32c of the rest, hex> <json>`, appended before the fact
//! counts. It is rewritten as a snapshot when most of it is history.

#[cfg(any(test, fuzzing))]
pub mod fuzzing;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;
use tracing::{info, warn};

use crate::metadata::{Fact, Metadata};
use crate::storage::{FlushPolicy, StorageQuota, sync_dir};

const FILE_NAME: &str = "journal";
/// History shorter than this is not worth a rewrite.
const SNAPSHOT_BYTES: u64 = 1 << 20;
/// A rewrite must shrink the file at least so many times, or it would happen on every write.
const SNAPSHOT_RATIO: u64 = 4;

/// The journal could not be opened.
#[derive(Debug, Error)]
pub enum JournalError {
    #[error("cannot read the journal {}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is corrupt in line {line}; restore it from a copy", path.display())]
    Corrupt { path: PathBuf, line: usize },
    #[error("{} is missing, but the folder holds topics; restore it from a copy or empty the folder", path.display())]
    Missing { path: PathBuf },
}

/// The journal and the state that it tells.
#[derive(Debug)]
pub struct Journal {
    inner: Mutex<Inner>,
    policy: FlushPolicy,
    quota: Arc<StorageQuota>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    file: File,
    bytes: u64,
    /// The file's length after the last snapshot.
    snapshot_bytes: u64,
    residue: bool,
    unsynced: bool,
    metadata: Metadata,
}

impl Journal {
    /// Opens or makes the journal in `dir`; `has_topics` says that one must exist.
    pub fn open(
        dir: &Path,
        has_topics: bool,
        policy: FlushPolicy,
        quota: Arc<StorageQuota>,
    ) -> Result<Journal, JournalError> {
        let path = dir.join(FILE_NAME);
        let failed = |source| JournalError::Io {
            path: path.clone(),
            source,
        };
        if has_topics && !path.exists() {
            return Err(JournalError::Missing { path });
        }
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        let content = fs::read(&path).map_err(failed)?;
        let (metadata, valid) = replay(&content, &path)?;
        if has_topics && valid == 0 {
            // A torn line is the last of several: the first names a topic that is there.
            return Err(JournalError::Corrupt { path, line: 1 });
        }
        if valid < content.len() {
            warn!(path = %path.display(), cut_bytes = content.len() - valid, "cutting a torn line");
            file.set_len(valid as u64).map_err(failed)?;
        }
        let bytes = valid as u64;
        quota.count(bytes);
        let mut inner = Inner {
            dir: dir.to_owned(),
            file,
            bytes,
            snapshot_bytes: 0,
            residue: false,
            unsynced: false,
            metadata,
        };
        if bytes > 0 {
            inner.snapshot(&quota).map_err(failed)?;
        }
        Ok(Journal {
            inner: Mutex::new(inner),
            policy,
            quota,
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the present state. Keep it short: everybody waits.
    pub fn read<T>(&self, look: impl FnOnce(&Metadata) -> T) -> T {
        look(&self.inner().metadata)
    }

    /// Makes facts durable (as far as the flush policy goes) and true, all or none.
    pub fn record(&self, facts: Vec<Fact>) -> io::Result<()> {
        let mut inner = self.inner();
        inner.append(&facts, &self.quota)?;
        if self.policy == FlushPolicy::EachWrite {
            tokio::task::block_in_place(|| inner.file.sync_data())?;
        }
        inner.unsynced = true;
        for fact in facts {
            inner.metadata.apply(fact);
        }
        if inner.bytes > SNAPSHOT_BYTES
            && inner.bytes > inner.snapshot_bytes.saturating_mul(SNAPSHOT_RATIO)
            && let Err(error) = inner.snapshot(&self.quota)
        {
            // The facts are safe; the file is only longer than it need be.
            warn!(%error, "the journal could not be rewritten as a snapshot");
        }
        Ok(())
    }

    /// Forces the file to disk.
    pub fn flush(&self) -> io::Result<()> {
        let mut inner = self.inner();
        if std::mem::take(&mut inner.unsynced) {
            inner.file.sync_data()?;
        }
        Ok(())
    }
}

impl Inner {
    fn append(&mut self, facts: &[Fact], quota: &StorageQuota) -> io::Result<()> {
        if self.residue {
            self.file.set_len(self.bytes)?;
            self.residue = false;
        }
        let lines = lines(facts)?;
        quota.charge(lines.len() as u64)?;
        if let Err(error) = self.file.write_all_at(&lines, self.bytes) {
            quota.release(lines.len() as u64);
            self.residue = self.file.set_len(self.bytes).is_err();
            return Err(error);
        }
        self.bytes += lines.len() as u64;
        Ok(())
    }

    fn snapshot(&mut self, quota: &StorageQuota) -> io::Result<()> {
        let fresh = self.dir.join("journal.new");
        let lines = lines(&self.metadata.facts())?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(&fresh)?;
        (&file).write_all(&lines)?;
        file.sync_data()?;
        fs::rename(&fresh, self.dir.join(FILE_NAME))?;
        sync_dir(&self.dir)?;
        quota.release(self.bytes);
        quota.count(lines.len() as u64);
        info!(
            before_bytes = self.bytes,
            after_bytes = lines.len(),
            "rewrote the journal as a snapshot"
        );
        self.file = file;
        self.bytes = lines.len() as u64;
        self.snapshot_bytes = self.bytes;
        Ok(())
    }
}

fn lines(facts: &[Fact]) -> io::Result<Vec<u8>> {
    let mut lines = Vec::new();
    // Facts recorded together are one line, so a torn write takes all or none.
    let json = serde_json::to_vec(facts)?;
    write!(lines, "{:08x} ", crc32c::crc32c(&json))?;
    lines.extend_from_slice(&json);
    lines.push(b'\n');
    Ok(lines)
}

fn parse(line: &[u8]) -> Option<Vec<Fact>> {
    let (crc, json) = line.split_at_checked(9)?;
    let crc = u32::from_str_radix(str::from_utf8(&crc[..8]).ok()?, 16).ok()?;
    if crc32c::crc32c(json) != crc {
        return None;
    }
    serde_json::from_slice(json).ok()
}

/// The state and how many bytes tell it.
fn replay(content: &[u8], path: &Path) -> Result<(Metadata, usize), JournalError> {
    let mut metadata = Metadata::default();
    let mut valid = 0;
    let mut lines = content.split_inclusive(|byte| *byte == b'\n').enumerate();
    while let Some((at, line)) = lines.next() {
        let facts = line.strip_suffix(b"\n").and_then(parse);
        let Some(facts) = facts else {
            let follows = lines.any(|(_, line)| line.strip_suffix(b"\n").and_then(parse).is_some());
            return match follows {
                true => Err(JournalError::Corrupt {
                    path: path.to_owned(),
                    line: at + 1,
                }),
                false => Ok((metadata, valid)),
            };
        };
        for fact in facts {
            metadata.apply(fact);
        }
        valid += line.len();
    }
    Ok((metadata, valid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{CommittedOffset, TopicPartition};

    fn open(dir: &Path) -> Result<Journal, JournalError> {
        Journal::open(
            dir,
            false,
            FlushPolicy::Never,
            Arc::new(StorageQuota::new(None)),
        )
    }

    fn offset(group: &str, offset: i64) -> Fact {
        let at = TopicPartition {
            topic: "t".into(),
            partition: 0,
        };
        let committed = CommittedOffset {
            offset,
            leader_epoch: 0,
            metadata: "\t\n,=é".into(),
            committed_ms: 5,
        };
        Fact::Offsets {
            group: group.into(),
            offsets: vec![(at, committed)],
        }
    }

    fn committed(journal: &Journal, group: &str) -> Option<i64> {
        journal.read(|metadata| {
            metadata
                .offsets
                .get(group)?
                .values()
                .next()
                .map(|committed| committed.offset)
        })
    }

    #[test]
    fn facts_are_there_after_reopening_and_a_torn_line_is_cut() {
        let dir = tempfile::tempdir().expect("folder");
        let journal = open(dir.path()).expect("opens");
        journal
            .record(vec![offset("a", 1), offset("b", 2)])
            .expect("records");
        journal.record(vec![offset("a", 3)]).expect("records");
        drop(journal);
        let path = dir.path().join(FILE_NAME);
        let mut content = fs::read(&path).expect("reads");
        content.extend_from_slice(b"0000 half a li");
        fs::write(&path, &content).expect("writes");
        let journal = open(dir.path()).expect("opens");
        assert_eq!(
            (committed(&journal, "a"), committed(&journal, "b")),
            (Some(3), Some(2))
        );
    }

    #[test]
    fn a_hole_is_reported() {
        let dir = tempfile::tempdir().expect("folder");
        let journal = open(dir.path()).expect("opens");
        journal.record(vec![offset("a", 1)]).expect("records");
        journal.record(vec![offset("a", 2)]).expect("records");
        drop(journal);
        let path = dir.path().join(FILE_NAME);
        let mut content = fs::read(&path).expect("reads");
        content[20] ^= 1;
        fs::write(&path, &content).expect("writes");
        let error = open(dir.path()).expect_err("refuses");
        assert!(
            matches!(error, JournalError::Corrupt { line: 1, .. }),
            "{error}"
        );
    }

    #[test]
    fn history_is_rewritten_as_a_snapshot() {
        let dir = tempfile::tempdir().expect("folder");
        let journal = open(dir.path()).expect("opens");
        for round in 0..30_000 {
            journal.record(vec![offset("a", round)]).expect("records");
        }
        let bytes = fs::metadata(dir.path().join(FILE_NAME))
            .expect("exists")
            .len();
        assert!(bytes < SNAPSHOT_BYTES + 1000, "{bytes}");
        drop(journal);
        assert_eq!(
            committed(&open(dir.path()).expect("opens"), "a"),
            Some(29_999)
        );
    }

    #[test]
    fn a_full_disk_leaves_the_state_as_it_was() {
        let dir = tempfile::tempdir().expect("folder");
        let quota = Arc::new(StorageQuota::new(Some(400)));
        let journal = Journal::open(dir.path(), false, FlushPolicy::Never, Arc::clone(&quota))
            .expect("opens");
        let mut last = None;
        let refused = (0..100).find(|round| {
            let recorded = journal.record(vec![offset("a", *round)]);
            if recorded.is_ok() {
                last = Some(*round);
            }
            recorded.is_err()
        });
        assert!(refused.is_some());
        assert_eq!(committed(&journal, "a"), last);
        quota.set_limit(None);
        journal
            .record(vec![offset("a", 1000)])
            .expect("there is room again");
        drop(journal);
        assert_eq!(
            committed(&open(dir.path()).expect("opens"), "a"),
            Some(1000)
        );
    }
}
