//! A document to the index: header, chunks, and no chunk too many.
//!
//! **Update.** Where the document gets shorter, the chunks that it loses become tombstones first: once
//! the header is overwritten nobody knows any more that they were there, and a writer that was cut
//! off after it would leave them for good. Then the header is written; where it is stale, no chunk
//! is. Then the chunks, at the same version. Then the header is read again (realtime) and chunk
//! numbers beyond *its* count become tombstones at *its* version: whoever wrote last, no chunk of
//! another version is left.
//!
//! Where there was no header at all, header and chunks go in one request, which halves the commits
//! of a first load. The promise holds: the only new order is a chunk written although the header
//! turned out stale, and the same last step, which also runs on a stale header, removes it. After
//! a crash in between the notice is delivered again and takes that step then.
//!
//! **Removal.** Chunk tombstones first, the header's last: until the header is a tombstone it still
//! says how many chunks there are, so a removal that was cut off can be done again. A chunk of a
//! newer version refuses the tombstone by itself.
//!
//! **Conflict.** A newer header is given back to the caller, who compares it with the object.

use std::sync::Arc;

use millrace_index::{
    BulkAction, BulkSink, FinalOutcome, IndexError, Record, Rejection, SearchIndex, SinkClosed,
    SinkState,
};
use millrace_kafka::DeadLetterReason;
use millrace_schemas::DocId;

use crate::failure::{Refusal, Stage};
use millrace_retry::{OutOfPatience, Patience, error_chain};

const SINK_CLASS: &str = "millrace_index::FinalOutcome";

/// Chunks written in one go: what one document takes of the sink at a time.
const CHUNKS_AT_ONCE: usize = 256;

/// What a document's records have in common.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub doc_id: DocId,
    pub uri: String,
    pub title: Option<String>,
    pub media_type: String,
    pub language: Option<String>,
    pub categories: Vec<String>,
    pub tags: Vec<String>,
    pub published_at_ms: Option<i64>,
    pub model_version: String,
    pub etag: Option<String>,
    /// Text and vector of each chunk, in order.
    pub chunks: Vec<(String, Vec<f32>)>,
}

/// How a write ended.
#[derive(Debug)]
pub(crate) enum Written {
    /// The index holds this version.
    Current,
    /// A newer version was written meanwhile, by another owner of the partition.
    Overtaken,
    /// The index already held this newer header.
    Conflict(Box<Record>),
}

/// Why nothing can be said.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// The index will never take it.
    Refused(Refusal),
    /// The pipeline is shutting down.
    Closed,
}

impl From<OutOfPatience> for WriteError {
    fn from(_: OutOfPatience) -> Self {
        Self::Closed
    }
}

impl From<SinkClosed> for WriteError {
    fn from(_: SinkClosed) -> Self {
        Self::Closed
    }
}

/// Writes documents through the bulk sink and reads headers.
#[derive(Clone)]
pub(crate) struct DocumentWriter {
    index: Arc<dyn SearchIndex>,
    sink: BulkSink,
    patience: Patience,
}

impl DocumentWriter {
    pub fn new(index: Arc<dyn SearchIndex>, sink: BulkSink, patience: Patience) -> Self {
        Self {
            index,
            sink,
            patience,
        }
    }

    /// What became of `actions`. A sink that waits for its index is not waited for once the
    /// pipeline stops; one that works is.
    async fn submit(&self, actions: Vec<BulkAction>) -> Result<Vec<FinalOutcome>, WriteError> {
        let stuck = async {
            self.patience.ended().await;
            let mut state = self.sink.state();
            // An error is a sink that has ended, which `submit` tells itself.
            let _ = state.wait_for(|state| *state != SinkState::Running).await;
        };
        tokio::select! {
            biased;
            outcomes = self.sink.submit(actions) => Ok(outcomes?),
            () = stuck => Err(WriteError::Closed),
        }
    }

    /// Writes `document` at `version`.
    pub async fn write(&self, document: &Document, version: i64) -> Result<Written, WriteError> {
        let before = self.header(&document.doc_id).await?;
        if let Some(newer) = before.as_ref().filter(|header| header.version > version) {
            self.remove_beyond(newer, chunk_count(document), document)
                .await?;
            return Ok(Written::Conflict(Box::new(newer.clone())));
        }
        let chunks_before = before.as_ref().map_or(0, live_chunks);
        self.tombstones(
            &document.doc_id,
            &document.uri,
            chunk_count(document)..chunks_before,
            version,
        )
        .await?;
        let header = BulkAction::upsert(document.header(version));
        let mut chunks = document.chunk_actions(version);
        let first: Vec<BulkAction> = if before.is_none() {
            std::iter::once(header)
                .chain(chunks.by_ref().take(CHUNKS_AT_ONCE))
                .collect()
        } else {
            vec![header]
        };
        let mut outcomes = self.submit(first).await?.into_iter();
        match outcomes.next() {
            Some(FinalOutcome::Indexed) => {}
            Some(FinalOutcome::Stale) => return self.conflict(document).await,
            other => return Err(WriteError::Refused(refusal(other))),
        }
        let mut refused = outcomes.find(is_refused);
        while refused.is_none() {
            let next: Vec<BulkAction> = chunks.by_ref().take(CHUNKS_AT_ONCE).collect();
            if next.is_empty() {
                break;
            }
            refused = self.submit(next).await?.into_iter().find(is_refused);
        }
        if let Some(refused) = refused {
            // The header must not claim what is not there: without a tag the reconciler sees it.
            let header = Record {
                etag: None,
                ..document.header(version)
            };
            self.submit(vec![BulkAction::upsert(header)]).await?;
            return Err(WriteError::Refused(refusal(Some(refused))));
        }
        let written = chunk_count(document).max(chunks_before);
        let Some(now) = self.header(&document.doc_id).await? else {
            // A header that was just written is missing: the index was rebuilt under us.
            return Err(WriteError::Closed);
        };
        self.remove_beyond(&now, written, document).await?;
        Ok(if now.version > version {
            Written::Overtaken
        } else {
            Written::Current
        })
    }

    /// Writes those chunks of `document` that are not there at the version of `header`, which was
    /// written from the same object by a writer that may have been cut off.
    pub async fn complete(&self, document: &Document, header: &Record) -> Result<(), WriteError> {
        let ids: Vec<String> = (0..live_chunks(header))
            .map(|number| document.doc_id.chunk(number))
            .collect();
        let stored = self.records(&ids).await?;
        let missing: Vec<BulkAction> = document
            .chunk_actions(header.version)
            .zip(stored)
            .filter(|(_, stored)| {
                stored
                    .as_ref()
                    .is_none_or(|stored| stored.version < header.version)
            })
            .map(|(chunk, _)| chunk)
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        match self.submit(missing).await?.into_iter().find(is_refused) {
            Some(refused) => Err(WriteError::Refused(refusal(Some(refused)))),
            None => Ok(()),
        }
    }

    /// Writes tombstones for the document `doc_id` at `version`.
    pub async fn remove(
        &self,
        doc_id: &DocId,
        uri: &str,
        version: i64,
    ) -> Result<Written, WriteError> {
        let before = self.header(doc_id).await?;
        if let Some(newer) = before.as_ref().filter(|header| header.version > version) {
            return Ok(Written::Conflict(Box::new(newer.clone())));
        }
        let chunks = before.as_ref().map_or(0, live_chunks);
        self.tombstones(doc_id, uri, 0..chunks, version).await?;
        let header = BulkAction::Tombstone {
            id: doc_id.to_string(),
            doc_id: doc_id.to_string(),
            chunk: None,
            version,
            uri: uri.to_owned(),
        };
        match self.submit(vec![header]).await?.into_iter().next() {
            Some(FinalOutcome::Indexed) => Ok(Written::Current),
            Some(FinalOutcome::Stale) => match self.header(doc_id).await? {
                Some(newer) => Ok(Written::Conflict(Box::new(newer))),
                None => Err(WriteError::Closed),
            },
            other => Err(WriteError::Refused(refusal(other))),
        }
    }

    async fn conflict(&self, document: &Document) -> Result<Written, WriteError> {
        let Some(newer) = self.header(&document.doc_id).await? else {
            return Err(WriteError::Closed);
        };
        self.remove_beyond(&newer, chunk_count(document), document)
            .await?;
        Ok(Written::Conflict(Box::new(newer)))
    }

    /// Turns chunk numbers from the count of `header` up to `written` into tombstones at its version.
    async fn remove_beyond(
        &self,
        header: &Record,
        written: u32,
        document: &Document,
    ) -> Result<(), WriteError> {
        let extra = live_chunks(header)..written;
        if extra.is_empty() {
            return Ok(());
        }
        let ids: Vec<String> = extra
            .clone()
            .map(|number| document.doc_id.chunk(number))
            .collect();
        let stored = self.records(&ids).await?;
        let live: Vec<u32> = extra
            .zip(stored)
            .filter(|(_, stored)| stored.as_ref().is_some_and(|stored| !stored.deleted))
            .map(|(number, _)| number)
            .collect();
        self.tombstones(
            &document.doc_id,
            &document.uri,
            live.into_iter(),
            header.version,
        )
        .await
    }

    async fn tombstones(
        &self,
        doc_id: &DocId,
        uri: &str,
        numbers: impl Iterator<Item = u32>,
        version: i64,
    ) -> Result<(), WriteError> {
        let actions: Vec<BulkAction> = numbers
            .map(|number| BulkAction::Tombstone {
                id: doc_id.chunk(number),
                doc_id: doc_id.to_string(),
                chunk: Some(number),
                version,
                uri: uri.to_owned(),
            })
            .collect();
        if actions.is_empty() {
            return Ok(());
        }
        // Stale is as good as written: a newer version of the chunk is there.
        match self.submit(actions).await?.into_iter().find(is_refused) {
            Some(refused) => Err(WriteError::Refused(refusal(Some(refused)))),
            None => Ok(()),
        }
    }

    async fn header(&self, doc_id: &DocId) -> Result<Option<Record>, WriteError> {
        Ok(self
            .records(&[doc_id.to_string()])
            .await?
            .into_iter()
            .next()
            .flatten())
    }

    /// Reads records, waiting while the index is away.
    async fn records(&self, ids: &[String]) -> Result<Vec<Option<Record>>, WriteError> {
        let reading = self
            .patience
            .until_done("reading records of the index", || async {
                match self.index.get(ids).await {
                    Ok(records) => Ok(Ok(records)),
                    // 401, 403 and the like are repaired by people; like a halted bulk, this waits.
                    Err(
                        error @ (IndexError::Unavailable { .. }
                        | IndexError::Storage { .. }
                        | IndexError::Refused { .. }),
                    ) => Err(error_chain(&error)),
                    Err(error) => Ok(Err(WriteError::Refused(Refusal::new(
                        Stage::Index,
                        "index_read_failed",
                        "millrace_index::IndexError",
                        error_chain(&error),
                    )))),
                }
            });
        reading.await?
    }
}

impl Document {
    fn header(&self, version: i64) -> Record {
        Record {
            id: self.doc_id.to_string(),
            version,
            etag: self.etag.clone(),
            chunk_count: Some(chunk_count(self)),
            ..self.common()
        }
    }

    fn chunk_actions(&self, version: i64) -> impl Iterator<Item = BulkAction> + '_ {
        (0_u32..)
            .zip(&self.chunks)
            .map(move |(number, (text, vector))| {
                BulkAction::upsert(Record {
                    id: self.doc_id.chunk(number),
                    chunk: Some(number),
                    version,
                    text: Some(text.clone()),
                    vector: Some(vector.clone()),
                    ..self.common()
                })
            })
    }

    fn common(&self) -> Record {
        Record {
            doc_id: self.doc_id.to_string(),
            uri: self.uri.clone(),
            title: self.title.clone(),
            media_type: Some(self.media_type.clone()),
            language: self.language.clone(),
            categories: self.categories.clone(),
            tags: self.tags.clone(),
            published_at_ms: self.published_at_ms,
            model_version: self.model_version.clone(),
            ..Record::default()
        }
    }
}

fn chunk_count(document: &Document) -> u32 {
    u32::try_from(document.chunks.len()).unwrap_or(u32::MAX)
}

fn live_chunks(header: &Record) -> u32 {
    if header.deleted {
        0
    } else {
        header.chunk_count.unwrap_or(0)
    }
}

fn is_refused(outcome: &FinalOutcome) -> bool {
    matches!(
        outcome,
        FinalOutcome::Reject(_) | FinalOutcome::RetryExhausted { .. }
    )
}

/// What a dead letter says of an outcome. The engine's words may quote the document, so only its
/// types are passed on.
fn refusal(outcome: Option<FinalOutcome>) -> Refusal {
    let reason = match outcome {
        Some(FinalOutcome::Reject(Rejection {
            error_type,
            cause_type,
            status,
            ..
        })) => DeadLetterReason {
            message: match &cause_type {
                Some(cause) => {
                    format!("the index refuses the record: {error_type}, caused by {cause}")
                }
                None => format!("the index refuses the record: {error_type}"),
            },
            class: cause_type.unwrap_or_else(|| error_type.clone()),
            error_type,
            http_status: Some(status),
            attempts: 1,
        },
        Some(FinalOutcome::RetryExhausted { attempts, last }) => DeadLetterReason {
            error_type: "retry_exhausted".to_owned(),
            class: last.error_type.clone(),
            message: format!(
                "the index did not take the record in {attempts} attempts, others passed: {}",
                last.error_type
            ),
            http_status: last.status,
            attempts,
        },
        Some(FinalOutcome::Indexed | FinalOutcome::Stale) | None => DeadLetterReason {
            error_type: "no_outcome".to_owned(),
            class: SINK_CLASS.to_owned(),
            message: "the bulk sink gave no outcome for the record".to_owned(),
            http_status: None,
            attempts: 1,
        },
    };
    Refusal {
        stage: Stage::Index,
        reason,
    }
}
