//! What the store has: the objects of a folder or bucket, and the lines of its corpora.

use futures::StreamExt;
use millrace_objects::{ObjectEntry, ObjectStores, ObjectUri, ReadError};
use millrace_producers::Noticed;
use millrace_producers::listing::{Listed, ListingError, list};
use millrace_retry::error_chain;
use millrace_schemas::DocumentNotice;
use serde::{Deserialize, Serialize};

use crate::runs::{Keyed, Sorted, Sorting, Spill, SpillError};

/// What an [`Item`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// An object that is a document.
    Object,
    /// The corpus itself, which is none: all of it was read, so what was not in it is gone.
    Corpus,
    /// A document in a corpus: what came out of it this many items after the first.
    Line(u64),
}

/// Something that a listing found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Its name.
    pub uri: String,
    /// What it is.
    pub place: Place,
    /// Which version it is.
    pub etag: Option<String>,
    /// Its length.
    pub size_bytes: Option<i64>,
    /// As the store knows it.
    pub media_type: Option<String>,
    /// When it was written, as far as buckets say; of files, when it was seen. ms since 1970.
    pub event_time_ms: i64,
}

impl Keyed for Item {
    fn key(&self) -> &str {
        &self.uri
    }

    /// Of two lines with one id the later counts, as it does in the pipeline.
    fn order(&self) -> i64 {
        match self.place {
            Place::Object | Place::Corpus => 0,
            Place::Line(line) => i64::try_from(line).unwrap_or(i64::MAX),
        }
    }

    fn memory_bytes(&self) -> usize {
        let text = |text: &Option<String>| text.as_deref().map_or(0, str::len);
        size_of::<Self>() + self.uri.len() + text(&self.etag) + text(&self.media_type)
    }
}

/// A listing, sorted.
pub(crate) struct Listing {
    pub items: Sorted<Item>,
    /// Documents found; corpora themselves are none.
    pub documents: u64,
    /// Names that can't be documents, and lines of corpora that are none.
    pub left_out: u64,
    /// Why there may be objects that are not in it.
    pub incomplete: Option<String>,
    /// The root is one object and no folder.
    pub is_object: bool,
}

/// Lists `root`. `seen` is told of each object and corpus as it was found, but of no line.
pub(crate) async fn read(
    stores: &ObjectStores,
    root: &ObjectUri,
    spill: &Spill,
    seen: &mut (dyn FnMut(&Item) + Send),
) -> Result<Listing, SpillError> {
    let root_uri = root.to_string();
    let mut sorting = Sorting::begin(spill);
    let (mut documents, mut left_out, mut is_object) = (0, 0, false);
    let mut incomplete: Option<String> = None;
    // In a corpus: how many items of it have come.
    let mut lines: Option<u64> = None;
    let mut listed = list(stores, root);
    while let Some(next) = listed.next().await {
        let item = match next {
            Ok(Listed::Corpus(_)) => {
                lines = Some(0);
                continue;
            }
            Ok(Listed::CorpusEnd(entry)) => {
                lines = None;
                if let Err(reason) = unchanged(stores, &entry).await {
                    incomplete.get_or_insert(reason);
                    continue;
                }
                corpus(&entry)
            }
            Ok(Listed::Noticed(Noticed::Document(notice))) => {
                let place = match next_line(&mut lines, &notice.uri) {
                    Some(line) => Place::Line(line),
                    None => Place::Object,
                };
                item(*notice, place)
            }
            Ok(Listed::Noticed(Noticed::Rejected(rejection))) => {
                tracing::debug!(reason = rejection.message, "not a document");
                next_line(&mut lines, "#");
                left_out += 1;
                continue;
            }
            // No document can have such a name: nothing is hidden behind it.
            Err(ListingError::List(error))
                if matches!(error.source, ReadError::NotAllowed { .. })
                    && stores.allow_list().permits(root).is_ok() =>
            {
                tracing::debug!(error = %error_chain(&error), "left out");
                left_out += 1;
                continue;
            }
            Err(error) => {
                lines = None;
                let reason = error_chain(&error);
                tracing::warn!(reason, "the listing is incomplete");
                incomplete.get_or_insert(reason);
                continue;
            }
        };
        is_object |= item.uri == root_uri;
        if !matches!(item.place, Place::Line(_)) {
            seen(&item);
        }
        if item.place != Place::Corpus {
            documents += 1;
        }
        if !sorting.push(item).await {
            break;
        }
    }
    Ok(Listing {
        items: sorting.finish().await?,
        documents,
        left_out,
        incomplete,
        is_object,
    })
}

/// Numbers what comes out of a corpus, rejected lines included. An object ends the corpus before
/// it: one that could not be read on has no end of its own.
fn next_line(lines: &mut Option<u64>, uri: &str) -> Option<u64> {
    if !uri.contains('#') {
        *lines = None;
    }
    let line = *lines;
    *lines = line.map(|line| line + 1);
    line
}

/// A corpus that is being written looks shorter than it is going to be.
async fn unchanged(stores: &ObjectStores, entry: &ObjectEntry) -> Result<(), String> {
    match stores.head(&entry.uri).await {
        Ok(meta) if meta.etag == entry.meta.etag => Ok(()),
        Ok(_) => Err(format!("{} changed while it was read", entry.uri)),
        Err(error) => Err(format!("{}: {}", entry.uri, error_chain(&error))),
    }
}

fn corpus(entry: &ObjectEntry) -> Item {
    Item {
        uri: entry.uri.to_string(),
        place: Place::Corpus,
        etag: entry.meta.etag.clone(),
        size_bytes: i64::try_from(entry.meta.size_bytes).ok(),
        media_type: None,
        event_time_ms: crate::now_ms(),
    }
}

fn item(notice: DocumentNotice, place: Place) -> Item {
    Item {
        uri: notice.uri,
        place,
        etag: notice.etag,
        size_bytes: notice.size_bytes,
        media_type: notice.media_type,
        event_time_ms: notice.event_time_ms,
    }
}
