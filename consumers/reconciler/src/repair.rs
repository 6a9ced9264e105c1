//! From differences to notices.
//!
//! A repair is a notice like any other, so it can only do what live traffic could have done: the
//! vectorizer looks at the object before it believes it, and the greatest version wins. What
//! version a repair needs follows from what it must beat:
//!
//! | class | notice | version |
//! |---|---|---|
//! | missing, stale, signal ahead | created | above the header's and the signal's |
//! | orphaned | removed, at the time of the listing | above the header's; what was written after the listing is newer |
//! | signal missing or behind | created | the header's own: equal is written again, and signalled again |
//! | removal unsignalled, removed and signal behind | removed | the tombstone's own, or above the signal's |
//!
//! Notices at a version of their own carry an event time just below it, and `min_version`.

use std::collections::BTreeMap;

use futures::stream::{self, BoxStream, StreamExt};
use millrace_objects::{ObjectStores, ObjectUri};
use millrace_producers::Noticed;
use millrace_producers::corpus::{Corpus, CorpusItem};
use millrace_retry::error_chain;
use millrace_schemas::{DocumentEvent, DocumentNotice, DocumentVersion, Layout};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::class::{Class, Difference};
use crate::compare::Compared;
use crate::runs::{Keyed, RunSorter, SpillError};

/// Notices that wait for their publication.
const QUEUE: usize = 256;

/// How many removals a repair may bring: a store that lost its content looks like one that was
/// emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemovalLimit {
    /// Of the documents that the index holds, 0 to 100.
    pub max_percent: u8,
    /// No limit.
    pub force: bool,
}

impl Default for RemovalLimit {
    /// Half, as `rclone bisync` has it.
    fn default() -> Self {
        Self {
            max_percent: 50,
            force: false,
        }
    }
}

impl RemovalLimit {
    fn withholds(self, removals: u64, documents: u64, objects: u64) -> bool {
        let share = u128::from(removals) * 100;
        removals > 0
            && !self.force
            && (objects == 0 || share > u128::from(documents) * u128::from(self.max_percent))
    }
}

/// Removals that were not published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Withheld {
    /// How many.
    pub removals: u64,
    /// Why, and what to do.
    pub reason: String,
}

/// The notices that repair a comparison's differences.
pub struct Repairs {
    /// How many there are at most.
    pub expected: u64,
    /// Removals that are not among them.
    pub withheld: Option<Withheld>,
    /// The notices; an error ends nothing but itself.
    pub notices: BoxStream<'static, Result<Noticed, SpillError>>,
}

impl Compared {
    /// The notices that repair what was found.
    ///
    /// # Errors
    /// The temporary file of the differences can't be read.
    pub fn repairs(&self, limit: RemovalLimit) -> Result<Repairs, SpillError> {
        let removals = self.report.count(Class::Orphaned);
        let documents = self.report.documents;
        let withheld = limit
            .withholds(removals, documents, self.report.objects)
            .then(|| Withheld {
                removals,
                reason: format!(
                    "{removals} of {documents} documents would be removed, more than {} % of them or \
                     all: is {} mounted, and the right one? Removals were left out; --force publishes them",
                    limit.max_percent, self.root
                ),
            });
        let held_back = withheld.as_ref().map_or(0, |withheld| withheld.removals);
        let differences = self.differences()?;
        let (with_removals, listed_from_ms) = (withheld.is_none(), self.listed_from_ms);
        let mut lines = RunSorter::<LineRepair>::new(self.spill.clone());
        let (stores, runtime) = (self.stores.clone(), Handle::current());
        let (notices, queue) = mpsc::channel(QUEUE);
        tokio::task::spawn_blocking(move || {
            let send = |notice: Result<Noticed, SpillError>| notices.blocking_send(notice).is_ok();
            for difference in differences {
                let difference = match difference {
                    Ok(difference) => difference,
                    Err(error) => {
                        send(Err(error));
                        return;
                    }
                };
                if difference.class == Class::Orphaned && !with_removals {
                    continue;
                }
                let version = RepairVersion::of(&difference, listed_from_ms);
                let Some(line) = LineRepair::of(&difference, version) else {
                    if !send(Ok(object(&difference, version))) {
                        return;
                    }
                    continue;
                };
                if let Err(error) = lines.push(line) {
                    send(Err(error));
                    return;
                }
            }
            // A line is read again from its corpus, in the order in which it stands there.
            match lines.finish() {
                Ok(lines) => read_lines(&stores, &runtime, lines, &send),
                Err(error) => {
                    send(Err(error));
                }
            }
        });
        let notices = stream::unfold(queue, |mut queue| async {
            queue.recv().await.map(|next| (next, queue))
        });
        Ok(Repairs {
            expected: self.report.differences - held_back,
            withheld,
            notices: notices.boxed(),
        })
    }
}

/// At which version a repair is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RepairVersion {
    /// Of the event; of one that carries its own, `None`.
    event_time_ms: Option<i64>,
    min_version: Option<i64>,
}

impl RepairVersion {
    fn of(difference: &Difference, listed_from_ms: i64) -> Self {
        let header = difference.header.as_ref().map(|header| header.version);
        let signal = difference.signal.as_ref().map(|signal| signal.version);
        let above = |version: Option<i64>| version.map(|v| DocumentVersion::from(v).next().get());
        let exactly = |version: i64| Self {
            // Below it, or the low bits of the offset could raise it.
            event_time_ms: Some(
                DocumentVersion::from(version)
                    .event_time_ms()
                    .saturating_sub(1),
            ),
            min_version: Some(version),
        };
        match difference.class {
            Class::Missing | Class::Stale | Class::SignalAhead => Self {
                event_time_ms: None,
                min_version: above(header.max(signal)),
            },
            Class::Orphaned => Self {
                event_time_ms: Some(listed_from_ms),
                min_version: above(header.max(signal)),
            },
            Class::SignalMissing | Class::SignalBehind | Class::RemovalUnsignalled => {
                match (header, signal) {
                    // The signal of a removed document must be beaten, not met.
                    (Some(header), Some(signal)) if signal > header => exactly(signal + 1),
                    (Some(header), _) => exactly(header),
                    (None, signal) => exactly(above(signal).unwrap_or(0)),
                }
            }
        }
    }
}

fn object(difference: &Difference, version: RepairVersion) -> Noticed {
    let object = difference.object.as_ref();
    Noticed::Document(Box::new(DocumentNotice {
        uri: difference.uri.clone(),
        event: match object {
            Some(_) => DocumentEvent::Created,
            None => DocumentEvent::Removed,
        },
        event_time_ms: version
            .event_time_ms
            .or(object.map(|object| object.event_time_ms))
            .unwrap_or_else(crate::now_ms),
        etag: object.and_then(|object| object.etag.clone()),
        size_bytes: object.and_then(|object| object.size_bytes),
        media_type: object.and_then(|object| object.media_type.clone()),
        content: None,
        title: None,
        layout: Layout::Document,
        metadata: BTreeMap::new(),
        min_version: version.min_version,
        source: SOURCE.to_owned(),
    }))
}

/// The producer that these notices name.
const SOURCE: &str = "reconciler";

/// A line of a corpus that is to be published again.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct LineRepair {
    corpus: String,
    /// Items before it.
    line: u64,
    uri: String,
    version: RepairVersion,
}

impl LineRepair {
    fn of(difference: &Difference, version: RepairVersion) -> Option<Self> {
        let line = difference.object.as_ref()?.line?;
        let (corpus, _) = difference.uri.split_once('#')?;
        Some(Self {
            corpus: corpus.to_owned(),
            line,
            uri: difference.uri.clone(),
            version,
        })
    }
}

impl Keyed for LineRepair {
    fn key(&self) -> &str {
        &self.corpus
    }

    fn order(&self) -> i64 {
        i64::try_from(self.line).unwrap_or(i64::MAX)
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.corpus.len() + self.uri.len()
    }
}

/// Reads each corpus once, beside the list of its lines that are wanted. What is no longer where
/// it was has changed since, and is left for the next comparison.
fn read_lines(
    stores: &ObjectStores,
    runtime: &Handle,
    lines: impl Iterator<Item = Result<LineRepair, SpillError>>,
    send: &dyn Fn(Result<Noticed, SpillError>) -> bool,
) {
    let mut open: Option<(String, std::iter::Enumerate<Corpus>)> = None;
    for line in lines {
        let line = match line {
            Ok(line) => line,
            Err(error) => {
                send(Err(error));
                return;
            }
        };
        if open.as_ref().is_none_or(|(name, _)| *name != line.corpus) {
            open = open_corpus(stores, runtime, &line.corpus)
                .map(|corpus| (line.corpus.clone(), corpus.enumerate()));
        }
        let Some((_, corpus)) = &mut open else {
            continue;
        };
        let found = corpus.find(|(number, _)| *number as u64 >= line.line);
        let Some((_, Ok(CorpusItem::Document(mut notice)))) = found else {
            continue;
        };
        if notice.uri != line.uri {
            tracing::info!(
                uri = line.uri,
                "its corpus has changed; left for the next comparison"
            );
            continue;
        }
        SOURCE.clone_into(&mut notice.source);
        notice.min_version = line.version.min_version;
        if let Some(event_time_ms) = line.version.event_time_ms {
            notice.event_time_ms = event_time_ms;
        }
        if !send(Ok(Noticed::Document(notice))) {
            return;
        }
    }
}

fn open_corpus(stores: &ObjectStores, runtime: &Handle, uri: &str) -> Option<Corpus> {
    let uri = ObjectUri::parse(uri).ok()?;
    let opened = match uri.path() {
        Some(path) => Corpus::open(path, crate::now_ms()),
        None => Corpus::open_object(stores, &uri, runtime, crate::now_ms()),
    };
    opened
        .inspect_err(|error| {
            tracing::warn!(error = error_chain(error), "left for the next comparison");
        })
        .ok()
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::{HeaderSeen, ObjectSeen, SignalSeen};

    #[test]
    fn removals_are_limited_by_their_share() {
        let limit = RemovalLimit::default();
        assert!(!limit.withholds(0, 0, 0));
        assert!(!limit.withholds(5, 10, 5));
        assert!(limit.withholds(6, 10, 4));
        assert!(
            limit.withholds(1, 10, 0),
            "an empty listing is never believed"
        );
        let force = RemovalLimit {
            force: true,
            ..limit
        };
        assert!(!force.withholds(10, 10, 0));
    }

    fn difference(class: Class, header: Option<i64>, signal: Option<i64>) -> Difference {
        Difference {
            class,
            uri: "file:///a".into(),
            object: Some(ObjectSeen {
                etag: None,
                size_bytes: None,
                media_type: None,
                event_time_ms: 7,
                line: None,
            }),
            header: header.map(|version| HeaderSeen {
                version,
                etag: None,
                deleted: false,
            }),
            signal: signal.map(|version| SignalSeen {
                version,
                etag: None,
                deleted: false,
            }),
        }
    }

    /// The version that the vectorizer makes of a repair, at any offset.
    fn written(version: RepairVersion, offset: i64) -> i64 {
        let plain = DocumentVersion::new(version.event_time_ms.unwrap_or(7), offset).get();
        plain.max(version.min_version.unwrap_or(0))
    }

    #[test]
    fn a_repair_beats_what_it_must_and_nothing_newer() {
        let at = |ms, offset| DocumentVersion::new(ms, offset).get();
        let (header, newer) = (at(1_000, 3), at(2_000, 0));
        for offset in [0, 5, 0xF_FFFF] {
            let version = |class, header, signal| {
                written(
                    RepairVersion::of(&difference(class, header, signal), 1_500),
                    offset,
                )
            };
            // Signals again at the very version of the header.
            for class in [Class::SignalMissing, Class::SignalBehind] {
                assert_eq!(version(class, Some(header), Some(at(900, 1))), header);
            }
            assert_eq!(
                version(Class::RemovalUnsignalled, Some(header), None),
                header
            );
            assert!(version(Class::RemovalUnsignalled, None, Some(header)) > header);
            assert!(version(Class::RemovalUnsignalled, Some(header), Some(newer)) > newer);
            assert!(version(Class::Stale, Some(header), None) > header);
            assert!(version(Class::SignalAhead, Some(header), Some(newer)) > newer);
            let removal = version(Class::Orphaned, Some(header), None);
            assert!(
                removal > header && removal < newer,
                "what came after the listing stays"
            );
        }
    }
}
