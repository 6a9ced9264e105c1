//! The sources side by side, one URI after the other.

use std::iter::Peekable;

use crate::headers::Header;
use crate::listing::{Item, Place};
use crate::runs::{Keyed, SpillError};
use crate::topics::{NoticeRecord, SignalRecord};

/// All that is known of one URI; of each source what counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Aligned {
    pub uri: String,
    pub item: Option<Item>,
    pub header: Option<Header>,
    pub signal: Option<SignalRecord>,
    pub pending: Option<NoticeRecord>,
    pub dead: Option<NoticeRecord>,
    /// A line's corpus was read to its end, so a line that is not there is gone.
    pub corpus_was_read: bool,
}

type Source<T> = Box<dyn Iterator<Item = Result<T, SpillError>> + Send>;

/// The sources, each sorted by URI and order.
pub(crate) struct Sources {
    pub items: Source<Item>,
    pub headers: Source<Header>,
    pub signals: Source<SignalRecord>,
    pub pending: Source<NoticeRecord>,
    pub dead: Source<NoticeRecord>,
}

/// Walks all sources at once.
pub(crate) struct Merged {
    items: Peekable<Source<Item>>,
    headers: Peekable<Source<Header>>,
    signals: Peekable<Source<SignalRecord>>,
    pending: Peekable<Source<NoticeRecord>>,
    dead: Peekable<Source<NoticeRecord>>,
    /// Corpora whose name the present URI begins with, shortest first: between `a` and `a#1` there
    /// may be `a!`, `a!#1` and so on, for `!` comes before `#`.
    corpora: Vec<String>,
    failed: bool,
}

impl Merged {
    pub fn of(sources: Sources) -> Self {
        Self {
            items: sources.items.peekable(),
            headers: sources.headers.peekable(),
            signals: sources.signals.peekable(),
            pending: sources.pending.peekable(),
            dead: sources.dead.peekable(),
            corpora: Vec::new(),
            failed: false,
        }
    }

    fn advance(&mut self) -> Result<Option<Aligned>, SpillError> {
        let heads = [
            head(&mut self.items)?,
            head(&mut self.headers)?,
            head(&mut self.signals)?,
            head(&mut self.pending)?,
            head(&mut self.dead)?,
        ];
        let Some(uri) = heads.into_iter().flatten().min().map(str::to_owned) else {
            return Ok(None);
        };
        while self
            .corpora
            .pop_if(|name| !uri.starts_with(&**name))
            .is_some()
        {}
        let item = last_of(&mut self.items, &uri)?;
        if item
            .as_ref()
            .is_some_and(|item| item.place == Place::Corpus)
        {
            self.corpora.push(uri.clone());
        }
        let corpus = uri.split_once('#').map(|(corpus, _)| corpus);
        Ok(Some(Aligned {
            item,
            header: last_of(&mut self.headers, &uri)?,
            signal: last_of(&mut self.signals, &uri)?,
            pending: last_of(&mut self.pending, &uri)?,
            dead: last_of(&mut self.dead, &uri)?,
            corpus_was_read: corpus.is_some_and(|corpus| self.corpora.iter().any(|c| c == corpus)),
            uri,
        }))
    }
}

impl Iterator for Merged {
    type Item = Result<Aligned, SpillError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.advance();
        self.failed = next.is_err();
        next.transpose()
    }
}

/// The URI that comes next in a source.
fn head<T: Keyed>(source: &mut Peekable<Source<T>>) -> Result<Option<&str>, SpillError> {
    match source.next_if(Result::is_err) {
        Some(Err(error)) => Err(error),
        // `next_if` gives errors only.
        Some(Ok(_)) | None => Ok(source
            .peek()
            .and_then(|next| next.as_ref().ok())
            .map(Keyed::key)),
    }
}

/// The one of the greatest order of all those with this URI.
fn last_of<T: Keyed>(source: &mut Peekable<Source<T>>, uri: &str) -> Result<Option<T>, SpillError> {
    let mut last = None;
    while let Some(next) =
        source.next_if(|next| next.as_ref().map_or(true, |item| item.key() == uri))
    {
        last = Some(next?);
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::runs::{RunSorter, Spill};

    fn sorted<T: Keyed + Sync>(items: Vec<T>, memory_bytes: usize) -> Source<T> {
        let mut sorter = RunSorter::new(Spill {
            folder: std::env::temp_dir(),
            memory_bytes,
        });
        for item in items {
            sorter.push(item).unwrap();
        }
        Box::new(sorter.finish().unwrap())
    }

    fn uri() -> impl Strategy<Value = String> {
        // Names that are prefixes of each other, with and without records, `!` and `%` included.
        "[ab!%]{1,3}(#[12])?".prop_map(|name| format!("file:///{name}"))
    }

    fn item() -> impl Strategy<Value = Item> {
        (uri(), 0_u64..4).prop_map(|(uri, n)| Item {
            place: match (uri.contains('#'), n) {
                (true, line) => Place::Line(line),
                (false, 0) => Place::Object,
                (false, _) => Place::Corpus,
            },
            etag: Some(n.to_string()),
            size_bytes: None,
            media_type: None,
            event_time_ms: 0,
            uri,
        })
    }

    fn header() -> impl Strategy<Value = Header> {
        (uri(), any::<(i64, bool)>()).prop_map(|(uri, (version, deleted))| Header {
            uri,
            version,
            etag: None,
            deleted,
        })
    }

    fn signal() -> impl Strategy<Value = SignalRecord> {
        (uri(), 0_i64..1_000).prop_map(|(uri, offset)| SignalRecord {
            uri,
            offset,
            version: offset,
            etag: None,
            deleted: false,
        })
    }

    fn notice() -> impl Strategy<Value = NoticeRecord> {
        (uri(), 0_i64..1_000).prop_map(|(uri, time_ms)| NoticeRecord {
            uri,
            time_ms,
            removed: false,
            etag: None,
        })
    }

    /// The naive model: maps in memory, the greatest order wins.
    fn latest<T: Keyed + Clone>(all: &[T]) -> BTreeMap<String, T> {
        let mut map: BTreeMap<String, T> = BTreeMap::new();
        for item in all {
            match map.get(item.key()) {
                Some(known) if known.order() > item.order() => {}
                _ => {
                    map.insert(item.key().to_owned(), item.clone());
                }
            }
        }
        map
    }

    /// One of each URI and order: which of two equals counts is nobody's business.
    fn distinct<T: Keyed>(all: Vec<T>) -> Vec<T> {
        let mut seen = BTreeSet::new();
        all.into_iter()
            .filter(|item| seen.insert((item.key().to_owned(), item.order())))
            .collect()
    }

    proptest! {
        #[test]
        fn the_merge_gives_what_maps_in_memory_would(
            items in proptest::collection::vec(item(), 0..60),
            headers in proptest::collection::vec(header(), 0..60),
            signals in proptest::collection::vec(signal(), 0..60),
            pending in proptest::collection::vec(notice(), 0..20),
            dead in proptest::collection::vec(notice(), 0..20),
            memory_bytes in 1_usize..2_000,
        ) {
            let (items, headers, signals) = (distinct(items), distinct(headers), distinct(signals));
            let (pending, dead) = (distinct(pending), distinct(dead));
            let merged: Vec<Aligned> = Merged::of(Sources {
                items: sorted(items.clone(), memory_bytes),
                headers: sorted(headers.clone(), memory_bytes),
                signals: sorted(signals.clone(), memory_bytes),
                pending: sorted(pending.clone(), memory_bytes),
                dead: sorted(dead.clone(), memory_bytes),
            })
            .map(Result::unwrap)
            .collect();

            let (items, headers, signals) = (latest(&items), latest(&headers), latest(&signals));
            let (pending, dead) = (latest(&pending), latest(&dead));
            let uris: BTreeSet<&String> = items.keys().chain(headers.keys()).chain(signals.keys())
                .chain(pending.keys()).chain(dead.keys()).collect();
            let expected: Vec<Aligned> = uris.into_iter().map(|uri| Aligned {
                uri: uri.clone(),
                item: items.get(uri).cloned(),
                header: headers.get(uri).cloned(),
                signal: signals.get(uri).cloned(),
                pending: pending.get(uri).cloned(),
                dead: dead.get(uri).cloned(),
                corpus_was_read: uri.split_once('#').is_some_and(|(corpus, _)| {
                    items.get(corpus).is_some_and(|item| item.place == Place::Corpus)
                }),
            }).collect();
            prop_assert_eq!(merged, expected);
        }
    }
}
