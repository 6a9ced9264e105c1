//! One-shot listing of a folder, a bucket, a file or a corpus.

use futures::stream::{self, BoxStream, StreamExt};
use millrace_objects::{ListError, ObjectEntry, ObjectStores, ObjectUri};
use millrace_schemas::{DocumentEvent, DocumentNotice, Layout};
use tokio::runtime::Handle;

use crate::corpus::{Corpus, CorpusError, CorpusItem};
use crate::publish::Noticed;
use crate::rejection::Rejection;
use crate::rows::ReadProgress;

/// Lines of a corpus that may wait for their reader.
const CORPUS_QUEUE: usize = 256;

/// Something that a listing could not take in; the rest follows.
#[derive(Debug, thiserror::Error)]
pub enum ListingError {
    /// A folder, an object or a bucket that cannot be listed.
    #[error(transparent)]
    List(#[from] ListError),
    /// A corpus that cannot be read to its end; what was read of it stands.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
}

/// What a listing tells while it goes.
#[derive(Debug)]
pub enum Listed {
    /// Something to publish.
    Noticed(Noticed),
    /// A corpus begins; its size and how far it is. Its lines follow, in their order.
    Corpus(ReadProgress),
    /// All of a corpus was read: what has not come is not in it. The file as it was listed.
    CorpusEnd(ObjectEntry),
}

/// Lists `prefix` and makes a notice of every object; of a corpus, one of every line (see
/// [`crate::corpus`]).
///
/// The event time is the time of observation for files. For bucket objects it is their last
/// modification, so that a listing repeats what an upload notice said and wins over none that came
/// later.
pub fn list(
    stores: &ObjectStores,
    prefix: &ObjectUri,
) -> BoxStream<'static, Result<Listed, ListingError>> {
    let stores = stores.clone();
    stores
        .list(prefix)
        .flat_map(move |entry| match entry {
            Ok(entry) => objects(stores.clone(), entry, "listing"),
            Err(error) => stream::iter([Err(error.into())]).boxed(),
        })
        .boxed()
}

/// The notices that one object makes.
pub(crate) fn objects(
    stores: ObjectStores,
    entry: ObjectEntry,
    source: &'static str,
) -> BoxStream<'static, Result<Listed, ListingError>> {
    stream::once(async move {
        let now_ms = crate::now_ms();
        let is_file = entry.uri.path().is_some();
        let event_time_ms = match entry.meta.last_modified_ms {
            Some(modified_ms) if !is_file => modified_ms,
            _ => now_ms,
        };
        let (uri, runtime) = (entry.uri.clone(), Handle::current());
        let opening = tokio::task::spawn_blocking(move || match uri.path() {
            Some(path) => Corpus::open(path, now_ms),
            None => Corpus::open_object(&stores, &uri, &runtime, now_ms),
        });
        match opening.await {
            Ok(Ok(Some(corpus))) => lines(corpus, entry),
            // As a document it would be another thing.
            Ok(Err(error)) if !is_file => stream::iter([Err(error.into())]).boxed(),
            // Not to be opened: whoever fetches the document says why, and counts it.
            Ok(Ok(None) | Err(_)) | Err(_) => single(&entry, event_time_ms, source),
        }
    })
    .flatten()
    .boxed()
}

fn single(
    entry: &ObjectEntry,
    event_time_ms: i64,
    source: &'static str,
) -> BoxStream<'static, Result<Listed, ListingError>> {
    let notice = DocumentNotice {
        uri: entry.uri.to_string(),
        event: DocumentEvent::Created,
        event_time_ms,
        etag: entry.meta.etag.clone(),
        size_bytes: i64::try_from(entry.meta.size_bytes).ok(),
        media_type: entry.meta.media_type.clone(),
        content: None,
        title: None,
        layout: Layout::Document,
        metadata: std::collections::BTreeMap::new(),
        min_version: None,
        source: source.to_owned(),
    };
    stream::iter([Ok(Listed::Noticed(Noticed::Document(Box::new(notice))))]).boxed()
}

fn lines(corpus: Corpus, entry: ObjectEntry) -> BoxStream<'static, Result<Listed, ListingError>> {
    let (items, queue) = tokio::sync::mpsc::channel(CORPUS_QUEUE);
    let progress = corpus.progress();
    tokio::task::spawn_blocking(move || {
        let mut whole = true;
        for item in corpus {
            whole &= item.is_ok();
            let listed = item.map_err(ListingError::from).map(|item| {
                Listed::Noticed(match item {
                    CorpusItem::Document(notice) => Noticed::Document(notice),
                    CorpusItem::Rejected(line) => Noticed::Rejected(Rejection::of_line(line)),
                })
            });
            // The reader of the queue has gone.
            if items.blocking_send(listed).is_err() {
                return;
            }
        }
        if whole {
            // As above.
            let _ = items.blocking_send(Ok(Listed::CorpusEnd(entry)));
        }
    });
    let items = stream::unfold(queue, |mut queue| async {
        queue.recv().await.map(|item| (item, queue))
    });
    stream::iter([Ok(Listed::Corpus(progress))])
        .chain(items)
        .boxed()
}
