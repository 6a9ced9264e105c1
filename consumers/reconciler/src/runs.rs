//! Sorting more than fits into memory: sorted runs in files, merged while they are read.
//!
//! # Why not a crate for external sorting?
//! `extsort` and `ext-sort` sort an iterator that cannot fail and bound the number of items, not
//! their bytes. Here the items come from asynchronous sources that can fail at any point, URIs are
//! between 20 and 12,000 bytes long, and what is needed besides is one heap.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Runs of one level that are merged into one of the next: bounds the files that are open.
const FAN_IN: usize = 32;
/// A run's buffer while it is read or written.
const BUFFER_BYTES: usize = 64 << 10;
/// Items that go to the sorting thread at once, and such batches that may wait for it.
const BATCH: usize = 512;
const BATCHES: usize = 4;

/// Something that is sorted, by a URI.
pub(crate) trait Keyed: Serialize + DeserializeOwned + Send + 'static {
    /// Sorted by this URI, bytewise.
    fn key(&self) -> &str;
    /// Sorted by this among those of one URI; the greatest is the one that counts.
    fn order(&self) -> i64;
    /// About how much memory it takes.
    fn memory_bytes(&self) -> usize;
}

/// A temporary file failed: often the disk is full.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} a temporary file in {}; it needs about 300 bytes a document and source", folder.display())]
pub struct SpillError {
    what: &'static str,
    folder: PathBuf,
    #[source]
    source: io::Error,
}

/// Where runs are kept, and how much is kept in memory first.
#[derive(Clone, Debug)]
pub(crate) struct Spill {
    pub folder: PathBuf,
    pub memory_bytes: usize,
}

impl Spill {
    pub fn failed(&self, what: &'static str) -> impl Fn(io::Error) -> SpillError {
        failed(&self.folder, what)
    }

    /// A file without a name: it is gone with the process, however that ends.
    pub fn file(&self) -> Result<File, SpillError> {
        tempfile::tempfile_in(&self.folder).map_err(self.failed("make"))
    }
}

fn failed(folder: &Path, what: &'static str) -> impl Fn(io::Error) -> SpillError {
    let folder = folder.to_owned();
    move |source| SpillError {
        what,
        folder: folder.clone(),
        source,
    }
}

fn compare<T: Keyed>(a: &T, b: &T) -> Ordering {
    (a.key(), a.order()).cmp(&(b.key(), b.order()))
}

/// Takes items in any order.
pub(crate) struct RunSorter<T> {
    spill: Spill,
    buffer: Vec<T>,
    buffered_bytes: usize,
    /// Level n holds runs of about `FAN_IN`ⁿ times the memory.
    levels: Vec<Vec<File>>,
}

impl<T: Keyed> RunSorter<T> {
    pub fn new(spill: Spill) -> Self {
        Self {
            spill,
            buffer: Vec::new(),
            buffered_bytes: 0,
            levels: Vec::new(),
        }
    }

    pub fn push(&mut self, item: T) -> Result<(), SpillError> {
        self.buffered_bytes += item.memory_bytes();
        self.buffer.push(item);
        if self.buffered_bytes >= self.spill.memory_bytes {
            let run = self.write_buffer()?;
            self.add(run)?;
        }
        Ok(())
    }

    pub fn finish(mut self) -> Result<Sorted<T>, SpillError> {
        if self.levels.is_empty() {
            self.buffer.sort_by(compare);
            return Ok(Sorted::Memory(self.buffer.into_iter()));
        }
        if !self.buffer.is_empty() {
            let run = self.write_buffer()?;
            self.add(run)?;
        }
        let runs = self.levels.into_iter().flatten().collect();
        Merge::of(runs, &self.spill).map(Sorted::Disk)
    }

    fn write_buffer(&mut self) -> Result<File, SpillError> {
        self.buffer.sort_by(compare);
        self.buffered_bytes = 0;
        write_run(self.buffer.drain(..).map(Ok), &self.spill)
    }

    fn add(&mut self, mut run: File) -> Result<(), SpillError> {
        for level in 0.. {
            if level == self.levels.len() {
                self.levels.push(Vec::new());
            }
            let runs = &mut self.levels[level];
            if runs.len() < FAN_IN {
                runs.push(run);
                break;
            }
            // The full level becomes one run of the next; the new one begins it again.
            let full = std::mem::replace(runs, vec![run]);
            run = write_run(Merge::<T>::of(full, &self.spill)?, &self.spill)?;
        }
        Ok(())
    }
}

fn write_run<T: Keyed>(
    items: impl Iterator<Item = Result<T, SpillError>>,
    spill: &Spill,
) -> Result<File, SpillError> {
    let failed = spill.failed("write");
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, spill.file()?);
    for item in items {
        write_line(&mut out, &item?).map_err(&failed)?;
    }
    let mut file = out
        .into_inner()
        .map_err(|error| failed(error.into_error()))?;
    file.seek(SeekFrom::Start(0)).map_err(&failed)?;
    Ok(file)
}

/// One JSON value a line.
pub(crate) fn write_line<T: Serialize>(out: &mut impl Write, item: &T) -> io::Result<()> {
    serde_json::to_writer(&mut *out, item)?;
    out.write_all(b"\n")
}

/// Reads what [`write_line`] wrote.
pub(crate) struct LineReader<T> {
    file: BufReader<File>,
    line: Vec<u8>,
    _item: std::marker::PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> LineReader<T> {
    pub fn new(file: File) -> Self {
        Self {
            file: BufReader::with_capacity(BUFFER_BYTES, file),
            line: Vec::new(),
            _item: std::marker::PhantomData,
        }
    }

    pub fn read(&mut self) -> io::Result<Option<T>> {
        self.line.clear();
        if self.file.read_until(b'\n', &mut self.line)? == 0 {
            return Ok(None);
        }
        Ok(Some(serde_json::from_slice(&self.line)?))
    }
}

struct Head<T> {
    item: T,
    run: usize,
}

impl<T: Keyed> Ord for Head<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.item, &other.item).then(self.run.cmp(&other.run))
    }
}

impl<T: Keyed> PartialOrd for Head<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Keyed> PartialEq for Head<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T: Keyed> Eq for Head<T> {}

/// Several runs as one.
pub(crate) struct Merge<T> {
    readers: Vec<LineReader<T>>,
    heads: BinaryHeap<Reverse<Head<T>>>,
    folder: PathBuf,
}

impl<T: Keyed> Merge<T> {
    fn of(runs: Vec<File>, spill: &Spill) -> Result<Self, SpillError> {
        let mut merge = Self {
            readers: runs.into_iter().map(LineReader::new).collect(),
            heads: BinaryHeap::new(),
            folder: spill.folder.clone(),
        };
        for run in 0..merge.readers.len() {
            merge.refill(run)?;
        }
        Ok(merge)
    }

    fn refill(&mut self, run: usize) -> Result<(), SpillError> {
        let read = self.readers[run].read();
        if let Some(item) = read.map_err(failed(&self.folder, "read"))? {
            self.heads.push(Reverse(Head { item, run }));
        }
        Ok(())
    }
}

impl<T: Keyed> Iterator for Merge<T> {
    type Item = Result<T, SpillError>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse(Head { item, run }) = self.heads.pop()?;
        Some(self.refill(run).map(|()| item))
    }
}

/// All items by URI and order.
pub(crate) enum Sorted<T> {
    Memory(std::vec::IntoIter<T>),
    Disk(Merge<T>),
}

impl<T: Keyed> Iterator for Sorted<T> {
    type Item = Result<T, SpillError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Memory(items) => items.next().map(Ok),
            Self::Disk(merge) => merge.next(),
        }
    }
}

/// A [`RunSorter`] on a thread of its own, fed from an asynchronous source.
pub(crate) struct Sorting<T> {
    batch: Vec<T>,
    batches: mpsc::Sender<Vec<T>>,
    thread: JoinHandle<Result<Sorted<T>, SpillError>>,
    /// Items pushed so far.
    pub count: u64,
}

impl<T: Keyed> Sorting<T> {
    pub fn begin(spill: &Spill) -> Self {
        let (batches, mut queue) = mpsc::channel::<Vec<T>>(BATCHES);
        let mut sorter = RunSorter::new(spill.clone());
        let thread = tokio::task::spawn_blocking(move || {
            while let Some(batch) = queue.blocking_recv() {
                for item in batch {
                    sorter.push(item)?;
                }
            }
            sorter.finish()
        });
        Self {
            batch: Vec::with_capacity(BATCH),
            batches,
            thread,
            count: 0,
        }
    }

    /// Whether there is any use in pushing more; [`Sorting::finish`] says why not.
    pub async fn push(&mut self, item: T) -> bool {
        self.count += 1;
        self.batch.push(item);
        if self.batch.len() < BATCH {
            return true;
        }
        let full = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
        self.batches.send(full).await.is_ok()
    }

    pub async fn finish(self) -> Result<Sorted<T>, SpillError> {
        // A thread that has ended has an error to tell.
        let _ = self.batches.send(self.batch).await;
        drop(self.batches);
        match self.thread.await {
            Ok(sorted) => sorted,
            Err(error) => Err(SpillError {
                what: "sort in",
                folder: PathBuf::new(),
                source: io::Error::other(error),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    struct Word(String, i64);

    impl Keyed for Word {
        fn key(&self) -> &str {
            &self.0
        }
        fn order(&self) -> i64 {
            self.1
        }
        fn memory_bytes(&self) -> usize {
            self.0.len() + 32
        }
    }

    fn spill(memory_bytes: usize) -> Spill {
        Spill {
            folder: std::env::temp_dir(),
            memory_bytes,
        }
    }

    proptest! {
        /// Tiny memory: a run every few words, so that levels are merged too.
        #[test]
        fn runs_come_out_as_a_sort_in_memory_would(
            words in proptest::collection::vec(("[a-c/#\u{e9}\"\\\\]{0,6}", any::<i64>()), 0..400),
            memory_bytes in 1_usize..200,
        ) {
            let mut words: Vec<Word> = words.into_iter().map(|(w, n)| Word(w, n)).collect();
            let mut sorter = RunSorter::new(spill(memory_bytes));
            for word in words.clone() {
                sorter.push(word).unwrap();
            }
            prop_assert!(sorter.levels.iter().all(|runs| runs.len() <= FAN_IN));
            let sorted: Vec<Word> = sorter.finish().unwrap().map(Result::unwrap).collect();
            words.sort();
            prop_assert_eq!(sorted, words);
        }
    }

    #[test]
    fn a_folder_that_is_missing_is_named() {
        let mut sorter = RunSorter::new(Spill {
            folder: "/no/such/folder".into(),
            memory_bytes: 1,
        });
        let error = sorter.push(Word("a".into(), 1)).unwrap_err();
        assert!(error.to_string().contains("/no/such/folder"), "{error}");
    }
}
