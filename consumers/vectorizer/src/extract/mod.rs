//! Bytes to text: which reader understands a document, and what it says about itself.
//!
//! | media type | reader | runs |
//! |---|---|---|
//! | `text/plain` and other text | [`charset`] alone | here |
//! | `text/markdown` | [`markdown`] | here |
//! | `application/json`, `application/jsonl`, `text/csv`, `text/tab-separated-values` | [`json`], [`table`] | here |
//! | `text/html`, `application/xhtml+xml` | [`html`] | child process |
//! | `application/pdf` | [`pdf`] | child process |
//! | DOCX | [`docx`] | child process |
//!
//! A child process ([`worker`]) has limits of memory, processor time and wall-clock time, because
//! the parsers behind PDF and DOCX panic, recurse and allocate on hostile input, and HTML's tree
//! construction takes quadratic time on deep nesting, as the standard has it. Everything that runs
//! here is linear in its input and is called on a blocking thread.

mod charset;
mod docx;
mod front_matter;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod html;
mod json;
mod markdown;
mod media_type;
mod pdf;
mod published;
mod table;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

pub use media_type::MediaType;
pub(crate) use published::parse_published;
pub use worker::{ExtractorCommand, extract_worker_main};

/// What a document says: its text, and what it says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtractedText {
    /// Readable text: paragraphs separated by line feeds, no markup.
    pub text: String,
    /// The document's own title, where it has one.
    pub title: Option<String>,
    /// BCP 47 tag that the document declares (`<html lang>`, `dc:language`); not detected.
    pub language: Option<String>,
    /// Categories from front matter, meta elements or document properties.
    pub categories: Vec<String>,
    /// Tags or keywords from the same places.
    pub tags: Vec<String>,
    /// Publication time that the document declares, milliseconds since the epoch.
    pub published_at_ms: Option<i64>,
}

/// Why a document has no text for us. None of these passes with time, except
/// [`ExtractError::WorkerUnavailable`], so the others go to the dead letters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExtractError {
    /// No reader for this media type.
    #[error(
        "no reader for media type {media_type}; accepted are {}",
        MediaType::ACCEPTED
    )]
    UnsupportedMediaType {
        /// The media type as declared, by extension or by content.
        media_type: String,
    },
    /// Declared as text, but the bytes are not.
    #[error("declared as {declared} but the bytes look like {looks_like}")]
    BinaryContent {
        /// Media type of the notice or the extension.
        declared: String,
        /// What the first bytes are.
        looks_like: String,
    },
    /// No charset that was declared or guessed decodes the bytes.
    #[error("the bytes are not valid text in any of {tried}")]
    UndecodableText {
        /// Charset labels, in the order tried.
        tried: String,
    },
    /// Protected by a password.
    #[error("the {format} document is encrypted; upload it without a password")]
    Encrypted {
        /// Format name.
        format: String,
    },
    /// Not what its media type says, or damaged.
    #[error("not a readable {format} document: {detail}")]
    Malformed {
        /// Format name.
        format: String,
        /// What the parser found, without document text.
        detail: String,
    },
    /// Reading gave nothing but white space.
    #[error("the {format} document has no text (a scanned document needs text recognition first)")]
    NoText {
        /// Format name.
        format: String,
    },
    /// More text than the configured limit.
    #[error(
        "more than {limit_bytes} bytes of text (limit vectorizer.extract.max_text_bytes); split the document or raise the limit"
    )]
    TextTooLarge {
        /// The limit that was passed.
        limit_bytes: u64,
    },
    /// A compressed part is larger than any document of this size should be.
    #[error(
        "the {format} document decompresses to more than {limit_bytes} bytes, as a zip bomb does"
    )]
    ExpandsTooFar {
        /// Format name.
        format: String,
        /// The limit that was passed.
        limit_bytes: u64,
    },
    /// The child process ran into its wall-clock or processor-time limit.
    #[error(
        "reading the document took more than {limit_ms} ms (limit vectorizer.extract.timeout_ms)"
    )]
    TimedOut {
        /// The limit that was passed.
        limit_ms: u64,
    },
    /// The child process ran into its memory limit.
    #[error(
        "reading the document took more than {limit_bytes} bytes of memory (limit vectorizer.extract.memory_bytes)"
    )]
    OutOfMemory {
        /// The limit that was passed.
        limit_bytes: u64,
    },
    /// The parser panicked or died.
    #[error("the {format} parser crashed on this document ({detail})")]
    Crashed {
        /// Format name.
        format: String,
        /// Signal or exit status, or "panic".
        detail: String,
    },
    /// The child process could not be started: the machine's fault, not the document's.
    #[error("cannot run the extraction worker {program}: {detail}")]
    WorkerUnavailable {
        /// What was to be started.
        program: String,
        /// The system's answer.
        detail: String,
    },
}

impl ExtractError {
    /// Stable name for dead letters, metrics and queries.
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::UnsupportedMediaType { .. } => "unsupported_media_type",
            Self::BinaryContent { .. } => "binary_content",
            Self::UndecodableText { .. } => "undecodable_text",
            Self::Encrypted { .. } => "encrypted",
            Self::Malformed { .. } => "malformed_document",
            Self::NoText { .. } => "no_text",
            Self::TextTooLarge { .. } => "text_too_large",
            Self::ExpandsTooFar { .. } => "expands_too_far",
            Self::TimedOut { .. } => "extract_timed_out",
            Self::OutOfMemory { .. } => "extract_out_of_memory",
            Self::Crashed { .. } => "extract_crashed",
            Self::WorkerUnavailable { .. } => "extract_worker_unavailable",
        }
    }

    /// Whether the same bytes may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::WorkerUnavailable { .. })
    }
}

/// Limits of extraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtractLimits {
    /// Largest text of one document, bytes of UTF-8.
    pub max_text_bytes: u64,
    /// Address space of a child process, bytes (`RLIMIT_AS`).
    pub memory_bytes: u64,
    /// Wall-clock time of a child process; its processor time has the same limit.
    pub timeout: Duration,
    /// Child processes at a time.
    pub workers: usize,
    /// Documents read in this process at a time.
    pub readers: usize,
}

/// Chooses the reader of a document and runs it where it belongs.
#[derive(Clone, Debug)]
pub struct Extractor {
    limits: ExtractLimits,
    command: ExtractorCommand,
    workers: Arc<Semaphore>,
    /// More threads than cores read nothing sooner, and each keeps memory of the allocator's for itself.
    readers: Arc<Semaphore>,
}

impl Extractor {
    /// An extractor whose child processes are started by `command`.
    pub fn new(command: ExtractorCommand, limits: ExtractLimits) -> Self {
        Self {
            limits,
            command,
            workers: Arc::new(Semaphore::new(limits.workers.max(1))),
            readers: Arc::new(Semaphore::new(limits.readers.max(1))),
        }
    }

    /// Reads `bytes`, whose media type is what `declared` says (`type/subtype`, parameters
    /// allowed), else what the extension of `uri` says, else what the bytes look like.
    pub async fn extract(
        &self,
        bytes: Bytes,
        declared: Option<&str>,
        uri: &str,
    ) -> Result<(MediaType, ExtractedText), ExtractError> {
        let resolved = media_type::resolve(declared, uri, &bytes)?;
        let media_type = resolved.media_type;
        let mut extracted = match media_type {
            MediaType::Html | MediaType::Pdf | MediaType::Docx => {
                // The semaphore is never closed, so a failure to acquire cannot happen; running
                // without the permit would be the worst of it.
                let _permit = self.workers.acquire().await;
                worker::run(&self.command, &resolved, &bytes, &self.limits).await?
            }
            _ => {
                let _permit = self.readers.acquire().await;
                let limit = self.limits.max_text_bytes;
                let reading = tokio::task::spawn_blocking(move || {
                    read_text(media_type, &bytes, resolved.charset.as_deref(), limit)
                });
                reading.await.map_err(|failure| ExtractError::Crashed {
                    format: media_type.name().to_owned(),
                    detail: if failure.is_panic() {
                        "panic"
                    } else {
                        "cancelled"
                    }
                    .to_owned(),
                })??
            }
        };
        tidy(&mut extracted);
        if extracted.text.is_empty() && extracted.title.is_none() {
            return Err(ExtractError::NoText {
                format: media_type.name().to_owned(),
            });
        }
        Ok((media_type, extracted))
    }
}

/// Plain text as [`Extractor::extract`] gives it, of any length: it came in a record.
pub(crate) fn read_inline_text(bytes: &[u8]) -> Result<ExtractedText, ExtractError> {
    let mut extracted = read_text(MediaType::PlainText, bytes, None, u64::MAX)?;
    tidy(&mut extracted);
    Ok(extracted)
}

/// Readers that are safe in this process.
fn read_text(
    media_type: MediaType,
    bytes: &[u8],
    charset: Option<&str>,
    max_text_bytes: u64,
) -> Result<ExtractedText, ExtractError> {
    let source = charset::decode(bytes, charset)?;
    let extracted = match media_type {
        MediaType::Markdown => markdown::read(&source),
        MediaType::Json => json::read(&source)?,
        MediaType::JsonLines => json::read_lines(&source)?,
        MediaType::Csv => table::read(&source, None)?,
        MediaType::Tsv => table::read(&source, Some(b'\t'))?,
        MediaType::PlainText | MediaType::Html | MediaType::Pdf | MediaType::Docx => {
            ExtractedText {
                text: source.into_owned(),
                ..ExtractedText::default()
            }
        }
    };
    within(&extracted.text, max_text_bytes)?;
    Ok(extracted)
}

fn within(text: &str, limit_bytes: u64) -> Result<(), ExtractError> {
    if text.len() as u64 > limit_bytes {
        return Err(ExtractError::TextTooLarge { limit_bytes });
    }
    Ok(())
}

/// Removes what no reader needs: control characters, surrounding white space, empty labels.
fn tidy(extracted: &mut ExtractedText) {
    let is_noise = |c: char| (c.is_control() && c != '\n' && c != '\t') || c == '\u{feff}';
    if extracted.text.contains(is_noise) {
        // A carriage return or form feed still separates words.
        extracted.text = extracted
            .text
            .replace("\r\n", "\n")
            .chars()
            .filter_map(|c| match c {
                '\r' | '\u{b}' | '\u{c}' | '\u{85}' => Some('\n'),
                c if is_noise(c) => None,
                c => Some(c),
            })
            .collect();
    }
    let trimmed = extracted.text.trim();
    if trimmed.len() != extracted.text.len() {
        extracted.text = trimmed.to_owned();
    }
    extracted.title = extracted.title.take().and_then(|title| one_line(&title));
    extracted.language = extracted
        .language
        .take()
        .and_then(|language| one_line(&language));
    for labels in [&mut extracted.categories, &mut extracted.tags] {
        *labels = labels.iter().filter_map(|label| one_line(label)).collect();
        let mut seen = std::collections::HashSet::new();
        labels.retain(|label| seen.insert(label.clone()));
    }
}

/// White space collapsed to single spaces, at most 512 characters; `None` where nothing is left.
pub(crate) fn one_line(text: &str) -> Option<String> {
    let mut line = String::new();
    for word in text.split_whitespace() {
        let mut word = word.chars().filter(|c| !c.is_control()).peekable();
        // A word of nothing but control characters is none.
        if word.peek().is_none() {
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word);
        if line.len() > 512 {
            break;
        }
    }
    let cut = line
        .char_indices()
        .nth(512)
        .map_or(line.len(), |(at, _)| at);
    line.truncate(cut);
    line.truncate(line.trim_end().len());
    (!line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tidying_keeps_words_apart_and_drops_control_characters() {
        let mut extracted = ExtractedText {
            text: "\u{feff}a\r\nb\rc\u{0}d\u{c}e ".to_owned(),
            title: Some(" The \n title ".to_owned()),
            tags: vec!["x".to_owned(), " ".to_owned(), "x".to_owned()],
            ..ExtractedText::default()
        };
        tidy(&mut extracted);
        assert_eq!(extracted.text, "a\nb\ncd\ne");
        assert_eq!(extracted.title.as_deref(), Some("The title"));
        assert_eq!(extracted.tags, ["x"]);
    }

    #[test]
    fn a_line_ends_in_a_word_and_has_one_space_between_two() {
        assert_eq!(one_line("a \u{80} b \u{80}").as_deref(), Some("a b"));
        assert_eq!(one_line(" \u{80}\u{1} "), None);
        let long = format!("{} b", "a".repeat(511));
        assert_eq!(one_line(&long), Some("a".repeat(511)));
    }

    #[test]
    fn a_text_over_the_limit_is_refused_by_size() {
        assert_eq!(within("abc", 3), Ok(()));
        assert_eq!(
            within("abcd", 3),
            Err(ExtractError::TextTooLarge { limit_bytes: 3 })
        );
    }
}
