//! Lines of JSON in a file, which comes to be when it is whole.
//!
//! They are staged beside it. What a run that was cut off wrote behind its last commit is cut away, so
//! that no record stands there twice. A compressed file is gzip members one behind the other, one a
//! commit: each is whole, and together they are read as one file.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use millrace_kafka::Record;

use super::{Settling, Written, lines, size};
use crate::output::refuse_existing;

/// Writes a file.
pub struct FileSink {
    path: PathBuf,
    staging: PathBuf,
    force: bool,
    /// Absent while a blocking thread writes, and once the file is in its place.
    out: Option<Out>,
}

struct Out {
    file: BufWriter<File>,
    /// Of a compressed file: the member that is being written.
    member: Option<GzEncoder<Vec<u8>>>,
    is_compressed: bool,
    lines: Vec<u8>,
}

impl FileSink {
    /// A file that is begun with.
    ///
    /// # Errors
    /// It is there already and may not be replaced, or can't be made.
    pub fn create(path: &Path, name: &str, force: bool) -> anyhow::Result<Self> {
        refuse_existing(path, force)?;
        let staging = staging(path, name);
        let mut options = OpenOptions::new();
        let opened = options
            .write(true)
            .create(true)
            .truncate(false)
            .open(&staging);
        let file = opened.with_context(|| format!("can't make {}", staging.display()))?;
        lock(&file, &staging)?;
        file.set_len(0)?;
        Ok(Self::of(path, staging, force, Some(file)))
    }

    /// A file that is gone on with: the first `length` bytes of it are kept. `is_whole`: there is nothing
    /// to add, so that it may be in its place already.
    ///
    /// # Errors
    /// What was staged is not there, or is shorter.
    pub fn resume(
        path: &Path,
        name: &str,
        force: bool,
        length: u64,
        is_whole: bool,
    ) -> anyhow::Result<Self> {
        let staging = staging(path, name);
        if !staging.exists() && is_whole {
            let there = std::fs::metadata(path).ok();
            if there.is_some_and(|there| there.len() == length) {
                return Ok(Self::of(path, staging, force, None));
            }
        }
        refuse_existing(path, force)?;
        let opened = OpenOptions::new().write(true).open(&staging);
        let mut file = opened.with_context(|| {
            format!(
                "what was written so far, {}, can't be gone on with; --restart begins anew",
                staging.display()
            )
        })?;
        lock(&file, &staging)?;
        let found = file.metadata()?.len();
        ensure!(
            found >= length,
            "{} has {found} bytes, and {length} were written; --restart begins anew",
            staging.display()
        );
        file.set_len(length)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self::of(path, staging, force, Some(file)))
    }

    fn of(path: &Path, staging: PathBuf, force: bool, file: Option<File>) -> Self {
        let is_compressed = path.extension().is_some_and(|it| it == "gz");
        Self {
            path: path.to_owned(),
            staging,
            force,
            out: file.map(|file| Out {
                file: BufWriter::new(file),
                member: None,
                is_compressed,
                lines: Vec::new(),
            }),
        }
    }

    /// Where it is staged.
    pub fn staging(&self) -> &Path {
        &self.staging
    }

    /// Writes records as lines, beside the runtime.
    ///
    /// # Errors
    /// The disk refuses them.
    pub async fn write(&mut self, records: Vec<Record>) -> anyhow::Result<Written> {
        let written = Written {
            records: records.len() as u64,
            bytes: size(&records),
            ..Written::default()
        };
        self.beside(move |out| out.write(&records)).await?;
        Ok(written)
    }

    /// Begins to make durable what was written, while more is.
    ///
    /// # Errors
    /// The disk refuses it.
    pub async fn settle(&mut self) -> anyhow::Result<Settling> {
        if self.out.is_none() {
            let length = std::fs::metadata(&self.path)?.len();
            return Ok(Settling::Settled(Some(length)));
        }
        let (file, length) = self.beside(Out::settle).await?;
        let staging = self.staging.clone();
        let syncing = tokio::task::spawn_blocking(move || {
            let synced = file.sync_data();
            synced.with_context(|| format!("can't write {}", staging.display()))?;
            Ok(length)
        });
        Ok(Settling::Syncing(syncing))
    }

    async fn beside<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Out) -> std::io::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let Some(mut out) = self.out.take() else {
            bail!("{} is whole already", self.path.display());
        };
        let worked = tokio::task::spawn_blocking(move || {
            let done = work(&mut out);
            (out, done)
        });
        let (out, done) = worked.await.context("writing was cut off")?;
        self.out = Some(out);
        done.with_context(|| format!("can't write {}", self.staging.display()))
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// It came to be there meanwhile and may not be replaced, or the disk refuses it.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        if self.out.take().is_none() {
            return Ok(());
        }
        refuse_existing(&self.path, self.force)?;
        let moved = std::fs::rename(&self.staging, &self.path);
        moved.with_context(|| format!("can't move {} there", self.path.display()))?;
        // The position is forgotten next: without its new name the file would be lost to a power cut.
        let folder = self.path.parent().unwrap_or_else(|| Path::new("/"));
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .with_context(|| format!("can't sync {}", folder.display()))
    }
}

impl Out {
    fn write(&mut self, records: &[Record]) -> std::io::Result<()> {
        self.lines.clear();
        lines(records, &mut self.lines)?;
        if !self.is_compressed {
            return self.file.write_all(&self.lines);
        }
        let member = self.member.get_or_insert_with(new_member);
        member.write_all(&self.lines)?;
        self.file.write_all(member.get_ref())?;
        member.get_mut().clear();
        Ok(())
    }

    /// The file with all that was written, to be synced, and its length.
    fn settle(&mut self) -> std::io::Result<(File, u64)> {
        if self.is_compressed && self.file.get_ref().metadata()?.len() == 0 {
            // No bytes at all are no compressed file.
            self.member.get_or_insert_with(new_member);
        }
        if let Some(member) = self.member.take() {
            self.file.write_all(&member.finish()?)?;
        }
        self.file.flush()?;
        let file = self.file.get_ref();
        Ok((file.try_clone()?, file.metadata()?.len()))
    }
}

fn new_member() -> GzEncoder<Vec<u8>> {
    GzEncoder::new(Vec::new(), Compression::fast())
}

/// Of two runs at once each would cut away what the other one wrote.
fn lock(file: &File, path: &Path) -> anyhow::Result<()> {
    let locked = file.try_lock();
    locked.with_context(|| {
        format!(
            "another process writes {}; wait for it, or choose another --name",
            path.display()
        )
    })
}

/// Beside the file, and of this replay alone.
fn staging(path: &Path, name: &str) -> PathBuf {
    let mut staging = path.to_owned().into_os_string();
    staging.push(format!(".{name}.part"));
    staging.into()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use bytes::Bytes;

    use super::*;

    fn records(offsets: std::ops::Range<i64>) -> Vec<Record> {
        let record = |offset| Record {
            topic: "t".to_owned(),
            partition: 0,
            offset,
            timestamp_ms: Some(1),
            key: None,
            value: Some(Bytes::from_static(b"text")),
            headers: Vec::new(),
        };
        offsets.map(record).collect()
    }

    fn offsets(path: &Path) -> Vec<i64> {
        let bytes = std::fs::read(path).unwrap();
        let mut text = String::new();
        if path.extension().is_some_and(|it| it == "gz") {
            let mut members = flate2::read::MultiGzDecoder::new(&bytes[..]);
            members.read_to_string(&mut text).unwrap();
        } else {
            text = String::from_utf8(bytes).unwrap();
        }
        let offset = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["offset"].as_i64().unwrap()
        };
        text.lines().map(offset).collect()
    }

    async fn settled(sink: &mut FileSink) -> u64 {
        let settling = sink.settle().await.unwrap();
        settling.settled().await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn what_was_not_committed_is_written_once() {
        for name in ["out.jsonl", "out.jsonl.gz"] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(name);
            let mut sink = FileSink::create(&path, "r", false).unwrap();
            sink.write(records(0..3)).await.unwrap();
            let length = settled(&mut sink).await;
            // Cut off behind a commit.
            sink.write(records(3..9)).await.unwrap();
            settled(&mut sink).await;
            let second = FileSink::resume(&path, "r", false, length, false);
            assert!(second.is_err(), "one at a time");
            drop(sink);
            assert!(!path.exists(), "it is not whole");

            let mut sink = FileSink::resume(&path, "r", false, length, false).unwrap();
            sink.write(records(3..5)).await.unwrap();
            let length = settled(&mut sink).await;
            sink.finish().unwrap();
            assert_eq!(offsets(&path), [0, 1, 2, 3, 4]);
            // Cut off before its end was noted.
            let mut sink = FileSink::resume(&path, "r", false, length, true).unwrap();
            assert_eq!(settled(&mut sink).await, length);
            sink.finish().unwrap();
            assert_eq!(offsets(&path).len(), 5);
            assert!(
                FileSink::create(&path, "r", false).is_err(),
                "without --force"
            );
            assert!(FileSink::resume(&path, "r", true, length, false).is_err());
        }
    }

    #[tokio::test]
    async fn nothing_is_a_whole_file_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty.jsonl.gz");
        let mut sink = FileSink::create(&path, "r", false).unwrap();
        settled(&mut sink).await;
        sink.finish().unwrap();
        assert!(offsets(&path).is_empty());
        assert!(std::fs::metadata(&path).unwrap().len() > 0, "gzip reads it");
    }
}
