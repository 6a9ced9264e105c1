//! Corpora: files and objects that hold one document a line.
//!
//! | format | recognised by | document |
//! |---|---|---|
//! | JSONL (BEIR) | `.jsonl`, `.ndjson`; an object with `_id` or `id`, and `text` or `title` | `text`, `title` |
//! | CSV | `.csv`; a header with `_id` or `id`, and `text` or `title` | the columns of those names |
//! | RankLens (Metarank events) | `.jsonl`; an object with `event` and `item`, `items` or `fields` | `item` events: the field `description`, then genres and tags |
//!
//! Each also with `.gz`. Other files of these extensions are no corpora but documents of their own.
//!
//! A line becomes a [`DocumentNotice`] with the URI `file:///path#id` or `s3://bucket/key#id`, the
//! text inline as UTF-8 and the layout [`Layout::Passage`]. Its event time is the corpus's own, when
//! a file was opened or a bucket's object last modified: of two lines with one id the later has the
//! higher offset in the same partition, so it wins. The tag is the SHA-256 of the line. Text may be
//! empty; the title then is all there is.
//!
//! Other fields go to the metadata: texts and numbers as they are, lists joined by newlines,
//! objects as JSON, except that the members of an object `metadata` are fields themselves. RankLens
//! `genres` become `categories`, and `release_date` (seconds) `published_at_ms`.
//!
//! Files and objects are streamed: memory is one line, of at most [`MAX_LINE_BYTES`]. What is longer, or
//! malformed, comes out as a [`RejectedLine`] and the next line follows.

mod csv;
mod json;
mod source;

use std::io;
use std::path::Path;

use millrace_objects::{ObjectStores, ObjectUri, UriError};
use millrace_schemas::{DocumentEvent, DocumentNotice, Layout, MAX_INLINE_CONTENT_BYTES};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;

use self::source::{Opened, Source};
use crate::rows::{CsvError, CsvRecords, Line, Lines, ReadProgress, Reading};

/// The longest line that is read: 1 MiB of content may be several of JSON.
pub const MAX_LINE_BYTES: usize = 4 << 20;
/// Of a rejected line this much is kept.
const MAX_REJECTED_BYTES: usize = 64 << 10;
/// Lines at the start among which the shape is looked for.
const SHAPE_LINES: usize = 10;

/// Which kind of corpus a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CorpusFormat {
    /// One JSON object a line, BEIR's field names.
    Jsonl,
    /// A header row and a document a record.
    Csv,
    /// Metarank events, of which `item` events are documents.
    RankLens,
}

/// Something that a corpus holds.
#[derive(Debug)]
pub enum CorpusItem {
    /// A document.
    Document(Box<DocumentNotice>),
    /// A line that is none.
    Rejected(RejectedLine),
}

/// A line that could not become a document.
#[derive(Debug)]
pub struct RejectedLine {
    /// The corpus.
    pub uri: String,
    /// The line, from 1.
    pub line: u64,
    /// Why.
    pub reason: LineError,
    /// Its first bytes, at most 64 KiB.
    pub raw: Vec<u8>,
}

/// Why a line is no document.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// Longer than [`MAX_LINE_BYTES`].
    #[error("the line has {bytes} bytes; the limit is {MAX_LINE_BYTES}")]
    TooLong {
        /// Its length.
        bytes: u64,
    },
    /// More text than a notice may carry.
    #[error("the text has {bytes} bytes; the limit is {MAX_INLINE_CONTENT_BYTES}")]
    TextTooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not JSON.
    #[error("the line is not JSON")]
    Json(#[source] serde_json::Error),
    /// JSON or CSV of another shape.
    #[error("the line {0}")]
    Shape(&'static str),
    /// Not UTF-8.
    #[error("the line is not UTF-8")]
    NotUtf8,
    /// An id that cannot stand in a URI.
    #[error("the id cannot name a document")]
    Id(#[source] UriError),
}

impl From<CsvError> for LineError {
    fn from(error: CsvError) -> Self {
        match error {
            CsvError::TooLong { bytes } => Self::TooLong { bytes },
            CsvError::FieldCount { .. } => {
                Self::Shape("has another number of fields than the header")
            }
            CsvError::NotUtf8 => Self::NotUtf8,
        }
    }
}

impl LineError {
    /// A stable name for metrics and dead letters.
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "line_too_long",
            Self::TextTooLong { .. } => "text_too_long",
            Self::Json(_) | Self::Shape(_) | Self::NotUtf8 => "malformed_line",
            Self::Id(_) => "invalid_document_id",
        }
    }
}

/// Why a corpus cannot be read on.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the corpus {name}")]
pub struct CorpusError {
    /// The file or object, for people to read.
    pub name: String,
    /// What the system, the store or gzip said.
    #[source]
    pub source: io::Error,
}

/// A document, taken from a line.
#[derive(Debug, Default)]
struct Document {
    id: String,
    title: Option<String>,
    text: String,
    metadata: std::collections::BTreeMap<String, String>,
}

/// Reads a corpus from beginning to end. Blocking: drive it off the async threads.
pub struct Corpus {
    /// For people.
    name: String,
    uri: ObjectUri,
    format: CorpusFormat,
    records: Records,
    event_time_ms: i64,
    progress: ReadProgress,
    failed: bool,
}

enum Records {
    Json(Lines<Reading>),
    Csv(Box<CsvRecords<Reading>>),
}

impl Corpus {
    /// Opens a file as a corpus; `None` where it is none. `now_ms` is the event time of its
    /// documents, in milliseconds since 1970.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn open(path: &Path, now_ms: i64) -> Result<Option<Self>, CorpusError> {
        let uri = ObjectUri::file(path).map_err(|error| CorpusError {
            name: path.display().to_string(),
            source: io::Error::other(error),
        })?;
        Self::read(&Source::File(path), uri, now_ms)
    }

    /// Opens a bucket's object as a corpus; `None` where it is none. The event time of its documents
    /// is its last modification, or `now_ms` where the store tells none. Blocks the thread: call it,
    /// and read, where the blocking work of `runtime` is done.
    ///
    /// # Errors
    /// The object cannot be read.
    pub fn open_object(
        stores: &ObjectStores,
        uri: &ObjectUri,
        runtime: &Handle,
        now_ms: i64,
    ) -> Result<Option<Self>, CorpusError> {
        let source = Source::Object {
            stores,
            uri,
            runtime,
        };
        Self::read(&source, uri.clone(), now_ms)
    }

    fn read(source: &Source<'_>, uri: ObjectUri, now_ms: i64) -> Result<Option<Self>, CorpusError> {
        let name = match uri.path() {
            Some(path) => path.display().to_string(),
            None => uri.to_string(),
        };
        let failed = |source| CorpusError {
            name: name.clone(),
            source,
        };
        let Some((is_csv, is_gzip)) = by_extension(&name) else {
            return Ok(None);
        };
        let beginning = source.open(is_gzip).map_err(failed)?.reader;
        let Some(format) = shape(beginning, is_csv).map_err(failed)? else {
            return Ok(None);
        };
        let Opened {
            reader,
            progress,
            modified_ms,
        } = source.open(is_gzip).map_err(failed)?;
        let records = match format {
            CorpusFormat::Csv => Records::Csv(Box::new(
                CsvRecords::new(reader, MAX_LINE_BYTES).map_err(failed)?,
            )),
            CorpusFormat::Jsonl | CorpusFormat::RankLens => {
                Records::Json(Lines::new(reader, MAX_LINE_BYTES))
            }
        };
        Ok(Some(Self {
            name,
            uri,
            format,
            records,
            event_time_ms: modified_ms.unwrap_or(now_ms),
            progress,
            failed: false,
        }))
    }

    /// Which kind it is.
    pub fn format(&self) -> CorpusFormat {
        self.format
    }

    /// How far it is read; follows along.
    pub fn progress(&self) -> ReadProgress {
        self.progress.clone()
    }

    fn next_item(&mut self) -> io::Result<Option<CorpusItem>> {
        loop {
            let (line, document, raw) = match &mut self.records {
                Records::Json(lines) => match lines.next_line()? {
                    None => return Ok(None),
                    Some(Line { number, bytes, .. })
                        if bytes.trim_ascii().is_empty() && number > 0 =>
                    {
                        continue;
                    }
                    Some(Line {
                        number,
                        bytes,
                        length,
                    }) if length > bytes.len() as u64 => {
                        (number, Err(LineError::TooLong { bytes: length }), bytes)
                    }
                    Some(Line { number, bytes, .. }) => {
                        let parsed = match self.format {
                            CorpusFormat::RankLens => json::ranklens(bytes),
                            CorpusFormat::Jsonl | CorpusFormat::Csv => json::beir(bytes).map(Some),
                        };
                        match parsed {
                            // Another event than an item: nobody's loss.
                            Ok(None) => continue,
                            Ok(Some(document)) => (number, Ok(document), bytes),
                            Err(error) => (number, Err(error), bytes),
                        }
                    }
                },
                Records::Csv(records) => match records.next_record()? {
                    None => return Ok(None),
                    Some(record) => {
                        let document = match record.fields {
                            Ok(fields) => csv::document(&fields),
                            Err(error) => Err(error.into()),
                        };
                        (record.line, document, record.raw)
                    }
                },
            };
            let digest = Sha256::digest(raw);
            return Ok(Some(
                match document.and_then(|d| notice(&self.uri, d, &digest, self.event_time_ms)) {
                    Ok(notice) => CorpusItem::Document(Box::new(notice)),
                    Err(reason) => CorpusItem::Rejected(RejectedLine {
                        uri: self.uri.to_string(),
                        line,
                        reason,
                        raw: raw[..raw.len().min(MAX_REJECTED_BYTES)].to_vec(),
                    }),
                },
            ));
        }
    }
}

impl Iterator for Corpus {
    type Item = Result<CorpusItem, CorpusError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        self.next_item()
            .map_err(|source| CorpusError {
                name: self.name.clone(),
                source,
            })
            .inspect_err(|_| self.failed = true)
            .transpose()
    }
}

/// The document of a Metarank `item` event, a record of `uri`; none of another event. `digest` is
/// the line's.
pub(crate) fn metarank_item(
    uri: &ObjectUri,
    line: &[u8],
    digest: &[u8],
    now_ms: i64,
) -> Result<Option<DocumentNotice>, LineError> {
    json::ranklens(line)?
        .map(|document| notice(uri, document, digest, now_ms))
        .transpose()
}

fn notice(
    uri: &ObjectUri,
    document: Document,
    digest: &[u8],
    now_ms: i64,
) -> Result<DocumentNotice, LineError> {
    let bytes = document.text.len();
    if bytes > MAX_INLINE_CONTENT_BYTES {
        return Err(LineError::TextTooLong { bytes });
    }
    let uri = uri
        .clone()
        .with_fragment(&document.id)
        .map_err(LineError::Id)?;
    Ok(DocumentNotice {
        uri: uri.to_string(),
        event: DocumentEvent::Created,
        event_time_ms: now_ms,
        etag: Some(format!("sha256:{}", hex::encode(digest))),
        size_bytes: i64::try_from(bytes).ok(),
        media_type: Some("text/plain".to_owned()),
        content: Some(document.text.into_bytes()),
        title: document.title.filter(|title| !title.trim().is_empty()),
        layout: Layout::Passage,
        metadata: document.metadata,
        min_version: None,
        source: "corpus".to_owned(),
    })
}

/// `(csv, gzip)` by the extension of a path or URI. None of these letters is ever percent-encoded.
fn by_extension(name: &str) -> Option<(bool, bool)> {
    let name = name.rsplit('/').next()?.to_ascii_lowercase();
    let (name, is_gzip) = match name.strip_suffix(".gz") {
        Some(name) => (name, true),
        None => (name.as_str(), false),
    };
    match name.rsplit_once('.')?.1 {
        "jsonl" | "ndjson" => Some((false, is_gzip)),
        "csv" => Some((true, is_gzip)),
        _ => None,
    }
}

/// Looks at the header, or at the first lines that are JSON.
fn shape(reader: Reading, is_csv: bool) -> io::Result<Option<CorpusFormat>> {
    if is_csv {
        let records = CsvRecords::new(reader, MAX_LINE_BYTES)?;
        return Ok(csv::is_corpus(records.header()).then_some(CorpusFormat::Csv));
    }
    let mut lines = Lines::new(reader, MAX_LINE_BYTES);
    for _ in 0..SHAPE_LINES {
        match lines.next_line()? {
            None => break,
            Some(line) => {
                if let Some(format) = json::shape(line.bytes) {
                    return Ok(Some(format));
                }
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
