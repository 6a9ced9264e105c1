//! Rows of files: lines, and records of CSV; plain or gzip. Memory is one row of bounded length.

mod csv;
mod lines;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

pub use self::csv::CsvError;
pub(crate) use self::csv::{CsvFields, CsvRecords};
pub(crate) use self::lines::{Line, Lines};

const BUFFER_BYTES: usize = 1 << 16;

/// How far a file has been read, in bytes of the file (compressed ones, where it is).
#[derive(Clone, Debug, Default)]
pub struct ReadProgress {
    read: Arc<AtomicU64>,
    /// The file's size; 0 where nobody knows, as of standard input.
    pub total_bytes: u64,
}

impl ReadProgress {
    /// At the beginning of so many bytes.
    pub(crate) fn of(total_bytes: u64) -> Self {
        Self {
            total_bytes,
            ..Self::default()
        }
    }

    /// Bytes read so far.
    #[must_use]
    pub fn read_bytes(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }
}

/// A source that is read through a buffer.
pub(crate) type Reading = Box<dyn BufRead + Send>;

/// Opens a file.
pub(crate) fn open(path: &Path) -> io::Result<(Reading, ReadProgress)> {
    let file = File::open(path)?;
    let progress = ReadProgress::of(file.metadata()?.len());
    Ok((counted(file, &progress), progress))
}

/// Counts what is read of `source` in `progress`.
pub(crate) fn counted(source: impl Read + Send + 'static, progress: &ReadProgress) -> Reading {
    let counted = Counted {
        inner: source,
        read: Arc::clone(&progress.read),
    };
    Box::new(BufReader::with_capacity(BUFFER_BYTES, counted))
}

/// What a gzip file of one or more members holds.
pub(crate) fn gunzip(reader: Reading) -> Reading {
    let decoder = MultiGzDecoder::new(reader);
    Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder))
}

struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
