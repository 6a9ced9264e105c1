//! What is different: one URI at a time, without asking anybody.

use std::fmt;

use millrace_schemas::DocumentVersion;
use serde::{Deserialize, Serialize};

use crate::headers::Header;
use crate::listing::{Item, Place};
use crate::merge::Aligned;
use crate::topics::{NoticeRecord, SignalRecord};

/// A kind of difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The object is there, the index has no header of it.
    Missing,
    /// The header was written from another version of the object.
    Stale,
    /// The index has a header, and there is no object.
    Orphaned,
    /// Index and object agree, and nothing was ever signalled.
    SignalMissing,
    /// The last signal is of an older version than the header, or of another content: a writer
    /// was cut off before its signal, or a paused one woke up and published late.
    SignalBehind,
    /// The last signal is of a newer version than the header: the index has lost something.
    SignalAhead,
    /// The document is gone, and the last signal does not say so.
    RemovalUnsignalled,
}

impl Class {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 7] = [
        Self::Missing,
        Self::Stale,
        Self::Orphaned,
        Self::SignalMissing,
        Self::SignalBehind,
        Self::SignalAhead,
        Self::RemovalUnsignalled,
    ];

    /// Its name in reports and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Stale => "stale",
            Self::Orphaned => "orphaned",
            Self::SignalMissing => "signal_missing",
            Self::SignalBehind => "signal_behind",
            Self::SignalAhead => "signal_ahead",
            Self::RemovalUnsignalled => "removal_unsignalled",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One difference, with what each side says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Its kind.
    pub class: Class,
    /// The document.
    pub uri: String,
    /// What the store has.
    pub object: Option<ObjectSeen>,
    /// What the index holds.
    pub header: Option<HeaderSeen>,
    /// What was signalled last.
    pub signal: Option<SignalSeen>,
}

/// The object of a difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectSeen {
    /// Which version it is.
    pub etag: Option<String>,
    /// Its length.
    pub size_bytes: Option<i64>,
    /// As the store knows it.
    pub media_type: Option<String>,
    /// When it was written, or seen, ms since 1970.
    pub event_time_ms: i64,
    /// In a corpus: how many items came before it.
    pub line: Option<u64>,
}

/// The header of a difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderSeen {
    /// Version that was written.
    pub version: i64,
    /// Tag of the object that was read.
    pub etag: Option<String>,
    /// A tombstone.
    pub deleted: bool,
}

/// The signal of a difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalSeen {
    /// Version of the document.
    pub version: i64,
    /// Tag of the object that was read.
    pub etag: Option<String>,
    /// It says that the document is gone.
    pub deleted: bool,
}

impl Difference {
    fn of(class: Class, all: Aligned) -> Box<Self> {
        Box::new(Self {
            class,
            uri: all.uri,
            object: all.item.map(ObjectSeen::from),
            header: all.header.map(HeaderSeen::from),
            signal: all.signal.map(SignalSeen::from),
        })
    }
}

impl From<Item> for ObjectSeen {
    fn from(item: Item) -> Self {
        Self {
            etag: item.etag,
            size_bytes: item.size_bytes,
            media_type: item.media_type,
            event_time_ms: item.event_time_ms,
            line: match item.place {
                Place::Line(line) => Some(line),
                Place::Object | Place::Corpus => None,
            },
        }
    }
}

impl From<Header> for HeaderSeen {
    fn from(header: Header) -> Self {
        Self {
            version: header.version,
            etag: header.etag,
            deleted: header.deleted,
        }
    }
}

impl From<SignalRecord> for SignalSeen {
    fn from(signal: SignalRecord) -> Self {
        Self {
            version: signal.version,
            etag: signal.etag,
            deleted: signal.deleted,
        }
    }
}

/// What can be judged at all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judging {
    /// The listing is whole: what is not in it may be gone.
    pub absences: bool,
    /// Signals were read.
    pub signals: bool,
    /// Dead letters are looked at.
    pub dead_letters: bool,
    /// When the listing began, ms since 1970: what was written later was not in it.
    pub listed_from_ms: i64,
}

/// What one URI is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// All that is there agrees, or there is nothing.
    Same,
    /// A notice of this very state is on its way, or it came after the listing.
    OnItsWay,
    /// This version of the object ended as a dead letter.
    DeadLettered,
    /// A difference; an orphan is one only when the store says so too.
    Different {
        difference: Box<Difference>,
        /// Of an orphaned line: its corpus was read to its end.
        corpus_was_read: bool,
    },
}

pub(crate) fn judge(all: Aligned, judging: Judging) -> Verdict {
    let class = match (&all.item, &all.header) {
        // Lines are its documents; a header of its own is from when it was none.
        (
            Some(Item {
                place: Place::Corpus,
                ..
            }),
            _,
        ) => return Verdict::Same,
        (Some(item), Some(header)) if !header.deleted && agree(item, header) => {
            signal_of_live(header, all.signal.as_ref(), judging)
        }
        (Some(_), Some(header)) if !header.deleted => Some(Class::Stale),
        (Some(_), _) => Some(Class::Missing),
        (None, Some(header)) if !header.deleted => {
            let version = DocumentVersion::from(header.version);
            if version.event_time_ms() >= judging.listed_from_ms {
                return Verdict::OnItsWay;
            }
            judging.absences.then_some(Class::Orphaned)
        }
        (None, tombstone) => signal_of_gone(tombstone.as_ref(), all.signal.as_ref(), judging),
    };
    let Some(class) = class else {
        return Verdict::Same;
    };
    if all
        .pending
        .as_ref()
        .is_some_and(|notice| tells(notice, all.item.as_ref()))
    {
        return Verdict::OnItsWay;
    }
    let is_dead = |notice: &NoticeRecord| all.item.is_some() && tells(notice, all.item.as_ref());
    if judging.dead_letters && all.dead.as_ref().is_some_and(is_dead) {
        return Verdict::DeadLettered;
    }
    let corpus_was_read = all.corpus_was_read;
    Verdict::Different {
        difference: Difference::of(class, all),
        corpus_was_read,
    }
}

/// Stores without tags can't be told apart; a header without one was never finished.
fn agree(item: &Item, header: &Header) -> bool {
    item.etag.is_none() || item.etag == header.etag
}

fn signal_of_live(
    header: &Header,
    signal: Option<&SignalRecord>,
    judging: Judging,
) -> Option<Class> {
    if !judging.signals {
        return None;
    }
    let Some(signal) = signal else {
        return Some(Class::SignalMissing);
    };
    let other_content = signal.deleted || (signal.etag.is_some() && signal.etag != header.etag);
    match signal.version.cmp(&header.version) {
        std::cmp::Ordering::Less => Some(Class::SignalBehind),
        std::cmp::Ordering::Equal => other_content.then_some(Class::SignalBehind),
        std::cmp::Ordering::Greater => Some(Class::SignalAhead),
    }
}

fn signal_of_gone(
    tombstone: Option<&Header>,
    signal: Option<&SignalRecord>,
    judging: Judging,
) -> Option<Class> {
    // Without a whole listing the object may be there, not indexed yet.
    if !judging.signals || !judging.absences {
        return None;
    }
    match (tombstone, signal) {
        (_, Some(signal)) if !signal.deleted => Some(Class::RemovalUnsignalled),
        (Some(_), None) => Some(Class::RemovalUnsignalled),
        (Some(tombstone), Some(signal)) if signal.version < tombstone.version => {
            Some(Class::SignalBehind)
        }
        (Some(_) | None, Some(_)) | (None, None) => None,
    }
}

/// Whether a notice is of the state that was listed.
fn tells(notice: &NoticeRecord, item: Option<&Item>) -> bool {
    match item {
        Some(item) => !notice.removed && notice.etag.is_some() && notice.etag == item.etag,
        None => notice.removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URI: &str = "file:///a";
    const LISTED_FROM_MS: i64 = 1_000;

    fn judging() -> Judging {
        Judging {
            absences: true,
            signals: true,
            dead_letters: true,
            listed_from_ms: LISTED_FROM_MS,
        }
    }

    fn version(n: i64) -> i64 {
        DocumentVersion::new(n, 0).get()
    }

    fn all(object: Option<&str>, header: Option<(i64, Option<&str>)>) -> Aligned {
        Aligned {
            uri: URI.into(),
            item: object.map(|etag| Item {
                uri: URI.into(),
                place: Place::Object,
                etag: Some(etag.into()),
                size_bytes: Some(1),
                media_type: None,
                event_time_ms: 1,
            }),
            // Without a tag: a tombstone.
            header: header.map(|(n, etag)| Header {
                uri: URI.into(),
                version: version(n),
                etag: etag.map(str::to_owned),
                deleted: etag.is_none(),
            }),
            ..Aligned::default()
        }
    }

    fn signalled(mut all: Aligned, n: i64, etag: Option<&str>) -> Aligned {
        all.signal = Some(SignalRecord {
            uri: URI.into(),
            offset: 0,
            version: version(n),
            etag: etag.map(str::to_owned),
            deleted: etag.is_none(),
        });
        all
    }

    fn noticed(removed: bool, etag: Option<&str>) -> Option<NoticeRecord> {
        Some(NoticeRecord {
            uri: URI.into(),
            time_ms: 0,
            removed,
            etag: etag.map(str::to_owned),
        })
    }

    fn class(all: Aligned) -> Option<Class> {
        match judge(all, judging()) {
            Verdict::Different { difference, .. } => Some(difference.class),
            Verdict::Same => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_pair_of_object_header_and_signal_has_its_class() {
        use Class::*;
        let live = |n, etag| Some((n, Some(etag)));
        let gone = |n| Some((n, None));
        for (expected, case) in [
            (None, signalled(all(Some("x"), live(5, "x")), 5, Some("x"))),
            (Some(Missing), all(Some("x"), None)),
            (Some(Missing), all(Some("x"), gone(5))),
            (Some(Stale), all(Some("y"), live(5, "x"))),
            (Some(Orphaned), all(None, live(5, "x"))),
            (Some(SignalMissing), all(Some("x"), live(5, "x"))),
            // The zombie: an older version came last.
            (
                Some(SignalBehind),
                signalled(all(Some("x"), live(5, "x")), 4, Some("w")),
            ),
            (
                Some(SignalBehind),
                signalled(all(Some("x"), live(5, "x")), 4, None),
            ),
            (
                Some(SignalBehind),
                signalled(all(Some("x"), live(5, "x")), 5, Some("w")),
            ),
            (
                Some(SignalBehind),
                signalled(all(Some("x"), live(5, "x")), 5, None),
            ),
            (
                Some(SignalAhead),
                signalled(all(Some("x"), live(5, "x")), 6, None),
            ),
            (Some(RemovalUnsignalled), all(None, gone(5))),
            (
                Some(RemovalUnsignalled),
                signalled(all(None, gone(5)), 4, Some("x")),
            ),
            (
                Some(RemovalUnsignalled),
                signalled(all(None, None), 4, Some("x")),
            ),
            (Some(SignalBehind), signalled(all(None, gone(5)), 4, None)),
            (None, signalled(all(None, gone(5)), 5, None)),
            (None, signalled(all(None, None), 5, None)),
        ] {
            assert_eq!(class(case.clone()), expected, "{case:#?}");
        }
        let mut untagged = all(Some("x"), live(5, "y"));
        untagged.item.as_mut().unwrap().etag = None;
        assert_eq!(
            class(untagged),
            Some(SignalMissing),
            "no tag, nothing to compare"
        );
        let mut unfinished = all(Some("x"), live(5, "x"));
        unfinished.header.as_mut().unwrap().etag = None;
        assert_eq!(class(unfinished), Some(Stale));
    }

    #[test]
    fn without_a_whole_listing_nothing_is_gone() {
        let judging = Judging {
            absences: false,
            ..judging()
        };
        let verdict = |all| judge(all, judging);
        assert_eq!(verdict(all(None, Some((5, Some("x"))))), Verdict::Same);
        assert_eq!(verdict(all(None, Some((5, None)))), Verdict::Same);
        assert_eq!(
            verdict(signalled(all(None, None), 4, Some("x"))),
            Verdict::Same
        );
        assert!(matches!(
            verdict(all(Some("x"), None)),
            Verdict::Different { .. }
        ));
    }

    #[test]
    fn what_is_on_its_way_or_known_to_fail_is_no_difference() {
        let with = |mut all: Aligned, pending, dead| {
            (all.pending, all.dead) = (pending, dead);
            judge(all, judging())
        };
        let missing = || all(Some("x"), None);
        assert_eq!(
            with(missing(), noticed(false, Some("x")), None),
            Verdict::OnItsWay
        );
        assert_eq!(
            with(missing(), None, noticed(false, Some("x"))),
            Verdict::DeadLettered
        );
        for other in [
            noticed(false, Some("w")),
            noticed(false, None),
            noticed(true, None),
        ] {
            let verdict = with(missing(), other.clone(), other);
            assert!(matches!(verdict, Verdict::Different { .. }), "{verdict:?}");
        }
        let orphan = || all(None, Some((5, Some("x"))));
        assert_eq!(with(orphan(), noticed(true, None), None), Verdict::OnItsWay);
        let dead = with(orphan(), None, noticed(true, None));
        assert!(matches!(dead, Verdict::Different { .. }), "{dead:?}");
        let later = all(None, Some((LISTED_FROM_MS, Some("x"))));
        assert_eq!(
            judge(later, judging()),
            Verdict::OnItsWay,
            "written after the look"
        );
    }
}
