//! Behavior from files and standard input: one JSON object a line, or CSV with a header; plain or gzip.
//!
//! The format is told by the name (`.jsonl`, `.ndjson`, `.json`, `.csv`, each also with `.gz`), and
//! without a name that tells by the first bytes. Gzip is always told by its first bytes.

use std::io::{self, BufRead};
use std::path::{Path, PathBuf};

use futures::stream::{self, Stream};
use millrace_kafka::topics;
use millrace_objects::ObjectUri;
use millrace_retry::error_chain;

use super::{MAX_ROW_BYTES, RowError, RowReader, Told};
use crate::rejection::Rejection;
use crate::rows::{self, CsvRecords, Line, Lines, ReadProgress, Reading};

/// Rows that are handed over at once.
const BATCH_ROWS: usize = 256;
/// Batches that may wait for their reader.
const BATCHES: usize = 4;
const GZIP_MAGIC: [u8; 2] = [0x1F, 0x8B];
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// What the rows of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BehaviorFormat {
    /// One JSON object a line.
    Jsonl,
    /// A header, and a row a record.
    Csv,
}

/// A file that cannot be read, or not to its end.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {} after row {row}", path.display())]
pub struct BehaviorFileError {
    /// The file.
    pub path: PathBuf,
    /// The last row that was read; 0 for none.
    pub row: u64,
    /// What the system, or gzip, said.
    #[source]
    pub source: io::Error,
}

/// Reads a file from beginning to end. Blocking: drive it off the async threads, as
/// [`BehaviorFile::rows`] does.
pub struct BehaviorFile {
    path: PathBuf,
    origin: String,
    source: Source,
    progress: ReadProgress,
    row: u64,
}

enum Source {
    Jsonl(Lines<Reading>),
    Csv(Box<CsvRecords<Reading>>),
}

/// A row of a file.
#[derive(Debug)]
pub struct FileRow {
    /// The line on which it begins, from 1.
    pub number: u64,
    /// What it says, or why it says nothing.
    pub told: Result<Told, Rejection>,
}

impl BehaviorFile {
    /// Opens a file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn open(path: &Path, format: Option<BehaviorFormat>) -> Result<Self, BehaviorFileError> {
        let failed = |source| BehaviorFileError {
            path: path.to_owned(),
            row: 0,
            source,
        };
        if path.is_dir() {
            return Err(failed(io::Error::from(io::ErrorKind::IsADirectory)));
        }
        let uri = ObjectUri::file(path).map_err(|error| failed(io::Error::other(error)))?;
        let (reader, progress) = rows::open(path).map_err(failed)?;
        let format = format.or_else(|| by_name(path));
        Self::over(reader, progress, path.to_owned(), uri.to_string(), format).map_err(failed)
    }

    /// Standard input.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn stdin(format: Option<BehaviorFormat>) -> Result<Self, BehaviorFileError> {
        let progress = ReadProgress::default();
        let reader = rows::counted(io::stdin(), &progress);
        let path = PathBuf::from("standard input");
        let failed = |source| BehaviorFileError {
            path: path.clone(),
            row: 0,
            source,
        };
        Self::over(reader, progress, path.clone(), "stdin".to_owned(), format).map_err(failed)
    }

    pub(super) fn over(
        mut reader: Reading,
        progress: ReadProgress,
        path: PathBuf,
        origin: String,
        format: Option<BehaviorFormat>,
    ) -> io::Result<Self> {
        if reader.fill_buf()?.starts_with(&GZIP_MAGIC) {
            reader = rows::gunzip(reader);
        }
        let format = match format {
            Some(format) => format,
            None => by_content(reader.fill_buf()?),
        };
        let source = match format {
            BehaviorFormat::Jsonl => Source::Jsonl(Lines::new(reader, MAX_ROW_BYTES)),
            BehaviorFormat::Csv => Source::Csv(Box::new(CsvRecords::new(reader, MAX_ROW_BYTES)?)),
        };
        Ok(Self {
            path,
            origin,
            source,
            progress,
            row: 0,
        })
    }

    /// How far it is read; follows along.
    #[must_use]
    pub fn progress(&self) -> ReadProgress {
        self.progress.clone()
    }

    /// The next row; none at the end.
    ///
    /// # Errors
    /// The file cannot be read on.
    pub fn next_row(&mut self, reader: &RowReader) -> Result<Option<FileRow>, BehaviorFileError> {
        let failed = |row, source| BehaviorFileError {
            path: self.path.clone(),
            row,
            source,
        };
        let now_ms = crate::now_ms();
        let (number, told, raw) = match &mut self.source {
            Source::Jsonl(lines) => loop {
                match lines.next_line().map_err(|error| failed(self.row, error))? {
                    None => return Ok(None),
                    Some(Line {
                        number,
                        bytes,
                        length,
                    }) if length > bytes.len() as u64 => {
                        break (
                            number,
                            Err(RowError::TooLong { bytes: length }),
                            bytes.to_vec(),
                        );
                    }
                    Some(Line { bytes, .. }) if bytes.trim_ascii().is_empty() => {}
                    Some(Line { number, bytes, .. }) => {
                        let told = reader.read_json(bytes, now_ms);
                        let raw = if told.is_err() {
                            bytes.to_vec()
                        } else {
                            vec![]
                        };
                        break (number, told, raw);
                    }
                }
            },
            Source::Csv(records) => {
                match records
                    .next_record()
                    .map_err(|error| failed(self.row, error))?
                {
                    None => return Ok(None),
                    Some(record) => {
                        let told = match record.fields {
                            Ok(fields) => reader.read_csv(&fields, now_ms),
                            Err(error) => Err(RowError::Csv(error)),
                        };
                        (record.line, told, record.raw.to_vec())
                    }
                }
            }
        };
        self.row = number;
        let told = told.map_err(|error| self.rejection(number, &error, raw));
        Ok(Some(FileRow { number, told }))
    }

    fn rejection(&self, number: u64, error: &RowError, raw: Vec<u8>) -> Rejection {
        Rejection {
            topic: topics::BEHAVIOR_DLQ,
            origin: self.origin.clone(),
            position: i64::try_from(number).unwrap_or(i64::MAX),
            row: Some(number),
            stage: "behavior",
            error_type: error.error_type(),
            message: format!("row {number} of {}: {}", self.origin, error_chain(error)),
            raw,
        }
    }

    /// All rows, read on a thread of their own, in batches of bounded size. Dropping the stream
    /// stops the reading at the next batch.
    pub fn rows(
        mut self,
        reader: RowReader,
    ) -> impl Stream<Item = Result<Vec<FileRow>, BehaviorFileError>> + Send {
        let (batches, queue) = tokio::sync::mpsc::channel(BATCHES);
        tokio::task::spawn_blocking(move || {
            loop {
                let batch = self.next_batch(&reader);
                let failed = batch.is_err();
                if matches!(&batch, Ok(rows) if rows.is_empty()) {
                    return;
                }
                // Where the queue's reader has gone, nobody wants more.
                if batches.blocking_send(batch).is_err() || failed {
                    return;
                }
            }
        });
        stream::unfold(queue, |mut queue| async {
            queue.recv().await.map(|batch| (batch, queue))
        })
    }

    fn next_batch(&mut self, reader: &RowReader) -> Result<Vec<FileRow>, BehaviorFileError> {
        let (mut batch, mut events) = (vec![], 0);
        while batch.len() < BATCH_ROWS && events < BATCH_ROWS {
            match self.next_row(reader) {
                Ok(Some(row)) => {
                    if let Ok(Told::Events(told)) = &row.told {
                        events += told.len();
                    }
                    batch.push(row);
                }
                Ok(None) => break,
                // What was read stands; the next read fails in the same way.
                Err(_) if !batch.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(batch)
    }
}

/// The time of a file's newest event that `reader` takes, whatever its age; none where it has no
/// event. Blocking.
///
/// # Errors
/// The file cannot be read to its end.
pub fn newest_event_ms(
    path: &Path,
    format: Option<BehaviorFormat>,
    reader: &RowReader,
) -> Result<Option<i64>, BehaviorFileError> {
    let mut file = BehaviorFile::open(path, format)?;
    let reader = reader.clone().of_any_age();
    let mut newest = None;
    while let Some(row) = file.next_row(&reader)? {
        if let Ok(Told::Events(events)) = row.told {
            newest = newest.max(events.iter().map(|event| event.event_time_ms).max());
        }
    }
    Ok(newest)
}

fn by_name(path: &Path) -> Option<BehaviorFormat> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    match name.rsplit_once('.')?.1 {
        "jsonl" | "ndjson" | "json" => Some(BehaviorFormat::Jsonl),
        "csv" => Some(BehaviorFormat::Csv),
        _ => None,
    }
}

fn by_content(beginning: &[u8]) -> BehaviorFormat {
    let beginning = beginning.strip_prefix(BYTE_ORDER_MARK).unwrap_or(beginning);
    match beginning.trim_ascii_start().first() {
        None | Some(b'{' | b'[') => BehaviorFormat::Jsonl,
        Some(_) => BehaviorFormat::Csv,
    }
}
