//! Recordings: files that tell of items and of what users did with them, one JSON object a line, in
//! the order in which it happened.
//!
//! Metarank's `item` events become documents, as [`crate::corpus`] reads them; every other
//! line is behavior, as [`behavior`](crate::behavior) reads it, in any of its dialects. Who replays a
//! recording needs both in one order; who publishes one ingests and publishes the same file.
//!
//! An item's document has the URI `file:///recording#{item}`, wherever the file lies, so that the
//! same events are the same items in another file.

use std::io;
use std::path::{Path, PathBuf};

use millrace_objects::{ObjectUri, UriError};
use millrace_schemas::{BehaviorEvent, DocumentNotice};
use sha2::{Digest, Sha256};

use crate::behavior::{
    BehaviorConfig, BehaviorConfigError, MAX_ROW_BYTES, RowError, RowReader, Told,
};
use crate::corpus::{self, LineError};
use crate::rows::{self, Line, Lines, ReadProgress, Reading};

/// Where items of recordings are, as far as ids go.
const ITEMS: &str = "file:///recording";
const GZIP_MAGIC: [u8; 2] = [0x1F, 0x8B];

/// One line of a recording.
#[derive(Debug)]
pub enum Recorded {
    /// An item, as its document would be noticed.
    Item(Box<DocumentNotice>),
    /// What was done: one event, or one for each item that was shown.
    Behavior(Vec<BehaviorEvent>),
    /// Understood, and neither; a stable name of what it is.
    PassedOver(&'static str),
}

/// Why a line says nothing.
#[derive(Debug, thiserror::Error)]
pub enum RecordedLineError {
    /// It is no item.
    #[error("the item cannot be read")]
    Item(#[source] LineError),
    /// It is no behavior.
    #[error("the event cannot be read")]
    Behavior(#[source] RowError),
}

/// A recording that cannot be read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file cannot be read.
    #[error("cannot read {} after line {line}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The last line that was read; 0 for none.
        line: u64,
        /// What the system, or gzip, said.
        #[source]
        source: io::Error,
    },
    /// Names of items that no document can have.
    #[error("items of a recording cannot be named")]
    Items(#[source] UriError),
    /// Behavior cannot be read so.
    #[error("the section behavior can't work")]
    Config(#[from] BehaviorConfigError),
}

/// Reads a recording from beginning to end. Blocking.
pub struct Recording {
    path: PathBuf,
    lines: Lines<Reading>,
    progress: ReadProgress,
    items: ObjectUri,
    reader: RowReader,
    now_ms: i64,
    line: u64,
}

impl Recording {
    /// Opens a file, plain or gzip. Events are read as `behavior` says, except that they may be of
    /// any age and that their items are the recording's own; their times are moved by `shift_ms`.
    ///
    /// # Errors
    /// The file cannot be read, or `behavior` cannot work.
    pub fn open(
        path: &Path,
        behavior: &BehaviorConfig,
        shift_ms: i64,
    ) -> Result<Self, RecordingError> {
        let failed = |source| RecordingError::Io {
            path: path.to_owned(),
            line: 0,
            source,
        };
        let behavior = BehaviorConfig {
            item_uri: Some(format!("{ITEMS}#{{item}}")),
            ..behavior.clone()
        };
        let reader = RowReader::new(&behavior)?.of_any_age().shifted(shift_ms);
        if path.is_dir() {
            return Err(failed(io::Error::from(io::ErrorKind::IsADirectory)));
        }
        let (mut file, progress) = rows::open(path).map_err(failed)?;
        if file.fill_buf().map_err(failed)?.starts_with(&GZIP_MAGIC) {
            file = rows::gunzip(file);
        }
        Ok(Self {
            path: path.to_owned(),
            lines: Lines::new(file, MAX_ROW_BYTES),
            progress,
            items: ObjectUri::parse(ITEMS).map_err(RecordingError::Items)?,
            reader,
            now_ms: crate::now_ms(),
            line: 0,
        })
    }

    /// How far it is read; follows along.
    #[must_use]
    pub fn progress(&self) -> ReadProgress {
        self.progress.clone()
    }

    /// The next line that is not blank, with its number from 1; none at the end.
    ///
    /// # Errors
    /// The file cannot be read on.
    #[expect(clippy::type_complexity, reason = "a line and what it says")]
    pub fn next_line(
        &mut self,
    ) -> Result<Option<(u64, Result<Recorded, RecordedLineError>)>, RecordingError> {
        loop {
            let line = self
                .lines
                .next_line()
                .map_err(|source| RecordingError::Io {
                    path: self.path.clone(),
                    line: self.line,
                    source,
                })?;
            let Some(Line {
                number,
                bytes,
                length,
            }) = line
            else {
                return Ok(None);
            };
            self.line = number;
            if bytes.trim_ascii().is_empty() {
                continue;
            }
            if length > bytes.len() as u64 {
                let error = RowError::TooLong { bytes: length };
                return Ok(Some((number, Err(RecordedLineError::Behavior(error)))));
            }
            let read = match self.reader.read_json(bytes, self.now_ms) {
                Ok(Told::PassedOver("metarank_item")) => {
                    item(&self.items, bytes, self.now_ms).map_err(RecordedLineError::Item)
                }
                Ok(Told::PassedOver(what)) => Ok(Recorded::PassedOver(what)),
                Ok(Told::Events(events)) => Ok(Recorded::Behavior(events)),
                Err(error) => Err(RecordedLineError::Behavior(error)),
            };
            return Ok(Some((number, read)));
        }
    }
}

fn item(items: &ObjectUri, line: &[u8], now_ms: i64) -> Result<Recorded, LineError> {
    let notice = corpus::metarank_item(items, line, &Sha256::digest(line), now_ms)?;
    Ok(
        notice.map_or(Recorded::PassedOver("metarank_item"), |notice| {
            Recorded::Item(Box::new(notice))
        }),
    )
}

#[cfg(test)]
mod tests {
    use millrace_schemas::{BehaviorKind, DocId};

    use super::*;

    fn read(text: &str, shift_ms: i64) -> Vec<(u64, Result<Recorded, RecordedLineError>)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        std::fs::write(&path, text).unwrap();
        let mut recording = Recording::open(&path, &BehaviorConfig::default(), shift_ms).unwrap();
        let mut lines = vec![];
        while let Some(line) = recording.next_line().unwrap() {
            lines.push(line);
        }
        lines
    }

    #[test]
    fn items_and_behavior_come_in_the_order_of_the_file_and_speak_of_the_same_documents() {
        let lines = read(
            concat!(
                r#"{"event":"item","id":"1","item":"7","timestamp":"1000","fields":[{"name":"title","value":"Seven"}]}"#,
                "\n\n",
                r#"{"event":"ranking","id":"r","user":"u","timestamp":"2000","items":[{"id":"7"},{"id":"8"}]}"#,
                "\n{\n",
                r#"{"event":"interaction","id":"2","ranking":"r","user":"u","item":"7","type":"click","timestamp":"3000"}"#,
                "\n",
                r#"{"event":"item","id":"3","item":"9","timestamp":"1000","fields":[]}"#,
            ),
            500,
        );
        let numbers: Vec<u64> = lines.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [1, 3, 4, 5, 6]);
        let [item, shown, broken, click, bare] = &lines[..] else {
            panic!("{lines:?}");
        };
        let Ok(Recorded::Item(notice)) = &item.1 else {
            panic!("{item:?}");
        };
        let Ok(Recorded::Behavior(shown)) = &shown.1 else {
            panic!("{shown:?}");
        };
        assert_eq!(shown.len(), 2);
        assert_eq!(DocId::from_uri(&notice.uri).to_string(), shown[0].item_id);
        assert_eq!(shown[0].event_time_ms, 2_500);
        assert!(matches!(broken.1, Err(RecordedLineError::Behavior(_))));
        let Ok(Recorded::Behavior(click)) = &click.1 else {
            panic!("{click:?}");
        };
        assert_eq!(
            (click[0].kind, &click[0].item_id),
            (BehaviorKind::Click, &shown[0].item_id)
        );
        assert!(matches!(bare.1, Err(RecordedLineError::Item(_))));
    }
}
