//! How far a replay is, and what it was asked for: the committed offsets of a group of its own.
//!
//! Nobody joins the group. Each partition's commit has its offsets in the note, the lowest one's what is
//! to be known of the whole; all of them go in one request.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Span;
use crate::position::{GroupPosition, NotedOffset};
use crate::{Admin, AdminError, KafkaConfig};

/// What brokers take as a note (`offset.metadata.max.bytes`), some room left.
const MAX_NOTE_BYTES: usize = 4_000;
const MAX_NAME_BYTES: usize = 100;

/// What is kept of a replay between its runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReplayNote {
    /// What it was asked for, by name: it goes on only with the same.
    pub arguments: BTreeMap<String, String>,
    /// The earliest time of its records, ms since 1970: `2h` ago is that of its first run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_ms: Option<i64>,
    /// The time before which its records are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_ms: Option<i64>,
    /// Records written.
    #[serde(default)]
    pub records: u64,
    /// Bytes of their keys, values and headers.
    #[serde(default)]
    pub bytes: u64,
    /// Records that could not be written.
    #[serde(default)]
    pub refused: u64,
    /// Of a replay to a file: how much of it is whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_bytes: Option<u64>,
}

/// Why the position of a replay can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ReplayGroupError {
    /// The group has offsets that no replay committed.
    #[error("the group {group} is no replay's; choose another name")]
    Foreign {
        /// Its name.
        group: String,
    },
    /// What was asked for does not fit where it is kept.
    #[error(
        "the arguments of a replay are kept in {MAX_NOTE_BYTES} bytes, and these take {bytes}: shorten them"
    )]
    TooLong {
        /// What they take.
        bytes: usize,
    },
    /// The brokers cannot be reached, or refuse it.
    #[error(transparent)]
    Admin(#[from] AdminError),
}

#[derive(Serialize, Deserialize)]
struct PartitionNote {
    start: i64,
    end: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replay: Option<ReplayNote>,
}

/// Whether a replay may be called so: what a group and a file may be called everywhere.
#[must_use]
pub fn is_replay_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.bytes().all(is_plain)
}

/// Keeps the position of the replay with one name.
#[derive(Clone)]
pub struct ReplayGroup {
    position: GroupPosition,
    admin: Admin,
    topic: String,
}

impl ReplayGroup {
    /// Of the replay `name` of the topic with this full name.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn new(config: &KafkaConfig, topic: &str, name: &str) -> Result<Self, AdminError> {
        let group = format!("{}replay.{name}", config.topic_prefix);
        Ok(Self {
            position: GroupPosition::new(config, topic.to_owned(), group)?,
            admin: Admin::connect(config)?,
            topic: topic.to_owned(),
        })
    }

    /// The name of the group.
    #[must_use]
    pub fn group(&self) -> &str {
        self.position.group()
    }

    /// Where the replay was when it last committed; `None` where it did not yet. It may have been one
    /// of another topic: its arguments tell.
    ///
    /// # Errors
    /// [`ReplayGroupError`].
    pub async fn load(
        &self,
    ) -> Result<Option<(ReplayNote, BTreeMap<i32, Span>)>, ReplayGroupError> {
        let group = self.group().to_owned();
        let mut known = self.admin.committed(std::slice::from_ref(&group)).await?;
        let known = known.remove(&group).unwrap_or_default();
        let Some((topic, _)) = known.keys().next().cloned() else {
            return Ok(None);
        };
        let of_topic = known.keys().filter(|(named, _)| *named == topic);
        let partitions: Vec<i32> = of_topic.map(|(_, partition)| *partition).collect();
        let committed = if topic == self.topic {
            self.position.committed(partitions).await?
        } else {
            let other = GroupPosition::new(&self.admin.config, topic, group.clone())?;
            other.committed(partitions).await?
        };
        read(&committed)
            .map(Some)
            .ok_or(ReplayGroupError::Foreign { group })
    }

    /// Commits where the replay is, and waits for the acknowledgement.
    ///
    /// # Errors
    /// [`ReplayGroupError`].
    pub async fn save(
        &self,
        note: &ReplayNote,
        spans: &BTreeMap<i32, Span>,
    ) -> Result<(), ReplayGroupError> {
        let noted = write(note, spans)?;
        Ok(self.position.commit(&noted).await?)
    }

    /// Has the brokers forget the position. `false` where there was none.
    ///
    /// # Errors
    /// The brokers cannot be reached.
    pub async fn forget(&self) -> Result<bool, ReplayGroupError> {
        Ok(self.admin.delete_group(self.group()).await?)
    }
}

fn write(
    note: &ReplayNote,
    spans: &BTreeMap<i32, Span>,
) -> Result<BTreeMap<i32, NotedOffset>, ReplayGroupError> {
    let first = spans.keys().next().copied();
    let noted = |(&partition, span): (&i32, &Span)| {
        let told = PartitionNote {
            start: span.start,
            end: span.end,
            replay: (Some(partition) == first).then(|| note.clone()),
        };
        // Numbers and strings always become JSON.
        let note = serde_json::to_string(&told).unwrap_or_default();
        if note.len() > MAX_NOTE_BYTES {
            return Err(ReplayGroupError::TooLong { bytes: note.len() });
        }
        let offset = span.next;
        Ok((partition, NotedOffset { offset, note }))
    };
    spans.iter().map(noted).collect()
}

fn read(committed: &BTreeMap<i32, NotedOffset>) -> Option<(ReplayNote, BTreeMap<i32, Span>)> {
    let mut replay = None;
    let mut spans = BTreeMap::new();
    for (&partition, noted) in committed {
        let told: PartitionNote = serde_json::from_str(&noted.note).ok()?;
        replay = replay.or(told.replay);
        let span = Span {
            start: told.start,
            next: noted.offset,
            end: told.end,
        };
        spans.insert(partition, span);
    }
    Some((replay?, spans))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans() -> BTreeMap<i32, Span> {
        let span = |start, next, end| Span { start, next, end };
        BTreeMap::from([(2, span(0, 5, 9)), (4, span(7, 7, 7))])
    }

    #[test]
    fn what_is_written_is_read() {
        let note = ReplayNote {
            arguments: BTreeMap::from([("key".to_owned(), "file:///é\"\u{1b}".to_owned())]),
            from_ms: Some(-1),
            records: 5,
            file_bytes: Some(17),
            ..ReplayNote::default()
        };
        let noted = write(&note, &spans()).unwrap();
        assert_eq!(noted[&2].offset, 5);
        assert_eq!(read(&noted), Some((note, spans())));
    }

    #[test]
    fn what_no_replay_wrote_is_not_taken_for_one() {
        for note in ["", "somebody's", "{}", r#"{"start":0,"end":9}"#] {
            let noted = NotedOffset {
                offset: 3,
                note: note.to_owned(),
            };
            assert_eq!(read(&BTreeMap::from([(0, noted)])), None, "{note:?}");
        }
    }

    #[test]
    fn arguments_that_do_not_fit_are_refused() {
        let note = ReplayNote {
            arguments: BTreeMap::from([("key".to_owned(), "x".repeat(MAX_NOTE_BYTES))]),
            ..ReplayNote::default()
        };
        assert!(matches!(
            write(&note, &spans()),
            Err(ReplayGroupError::TooLong { .. })
        ));
    }

    #[test]
    fn a_name_fits_a_group_and_a_file() {
        for good in ["a", "backfill-2026.11_29"] {
            assert!(is_replay_name(good), "{good}");
        }
        for bad in ["", "a b", "../x", "é", "a\n", &"x".repeat(101)] {
            assert!(!is_replay_name(bad), "{bad:?}");
        }
    }
}
