//! One notice through all stages: fetch, extract, chunk, embed, index, signal.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use millrace_index::Record as IndexRecord;
use millrace_models::Encoder;
use millrace_objects::ObjectStores;
use millrace_schemas::{DocId, DocumentNotice, Layout, Origin, OutcomeKind, Signal, TraceParent};
use tokio::sync::Semaphore;
use tracing::Instrument;

use crate::chunk::{Chunk, ChunkError, ChunkLimits, Chunker};
use crate::config::VectorizerConfig;
use crate::embed::{EmbedError, Embedder};
use crate::extract::{ExtractError, ExtractedText, Extractor, MediaType};
use crate::failure::{Refusal, Stage};
use crate::fetch::{Content, Fetched, fetch};
use crate::index::{Document, DocumentWriter, WriteError, Written};
use crate::publish::{PublishError, Publisher};
use crate::signal::{Features, mean_vector, tombstone};
use crate::stats::Counters;
use millrace_retry::{FullJitter, OutOfPatience, Patience, error_chain};

/// How often a newer version may get in between before the notice is left to be delivered again.
const MAX_CONFLICTS: u32 = 20;

/// The stages, shared by all documents.
pub(crate) struct Stages {
    pub objects: ObjectStores,
    pub extractor: Extractor,
    pub encoder: Arc<Encoder>,
    pub embedder: Embedder,
    pub writer: DocumentWriter,
    pub publisher: Publisher,
    pub counters: Arc<Counters>,
    /// Documents cut and read for features at a time: one a core.
    pub readers: Semaphore,
    pub patience: Patience,
    pub config: VectorizerConfig,
}

/// How the work on a notice ended, and what it took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finished {
    pub outcome: OutcomeKind,
    pub version: i64,
    pub chunks: usize,
    pub tokens: usize,
    pub took: Took,
}

/// Time in the stages.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Took {
    pub fetch: Duration,
    pub extract: Duration,
    pub embed: Duration,
    pub index: Duration,
}

/// Why the work on a notice did not end.
#[derive(Debug)]
pub(crate) enum Interrupted {
    /// It can never pass: dead letter.
    Refused(Refusal),
    /// The pipeline is shutting down; the notice is delivered again.
    Stopping,
    /// The process must restart; the notice is delivered again.
    Fatal(String),
}

impl From<WriteError> for Interrupted {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Refused(refusal) => Self::Refused(refusal),
            WriteError::Closed => Self::Stopping,
        }
    }
}

impl From<PublishError> for Interrupted {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Refused(refusal) => Self::Refused(refusal),
            PublishError::Fatal(reason) => Self::Fatal(reason),
            PublishError::Stopping => Self::Stopping,
        }
    }
}

impl From<OutOfPatience> for Interrupted {
    fn from(_: OutOfPatience) -> Self {
        Self::Stopping
    }
}

impl From<Refusal> for Interrupted {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// A notice on its way.
pub(crate) struct Job<'a> {
    pub notice: &'a DocumentNotice,
    pub doc_id: DocId,
    pub version: i64,
    pub trace: TraceParent,
    pub origin: Origin,
}

/// A document that is ready for the index.
struct Vectorized {
    document: Document,
    features: Features,
    tokens: usize,
}

impl Stages {
    /// Takes one notice to its end. On a conflict the index holds a newer version: that is right
    /// where it was made of the same object, and otherwise the object is read again and written
    /// just above it, since versions can lie and the object can't.
    pub async fn process(&self, job: &Job<'_>) -> Result<Finished, Interrupted> {
        let mut finished = Finished {
            outcome: OutcomeKind::Indexed,
            version: job.version,
            chunks: 0,
            tokens: 0,
            took: Took::default(),
        };
        let mut conflict: Option<IndexRecord> = None;
        for _ in 0..MAX_CONFLICTS {
            let started = Instant::now();
            let fetched = fetch(
                &self.objects,
                job.notice,
                self.config.max_document_bytes,
                conflict.is_some(),
                &self.patience,
            )
            .instrument(tracing::info_span!("fetch"))
            .await;
            finished.took.fetch += started.elapsed();
            let (newer, fetched) = match fetched? {
                Fetched::Gone => {
                    if conflict.as_ref().is_some_and(|header| header.deleted) {
                        return Ok(stale(&finished));
                    }
                    match self.remove(job, &mut finished).await? {
                        None => return Ok(finished),
                        Some(newer) => (newer, Fetched::Gone),
                    }
                }
                Fetched::Present(content) => {
                    if conflict
                        .as_ref()
                        .is_some_and(|header| same_object(header, &content))
                    {
                        return Ok(stale(&finished));
                    }
                    match self.update(job, &content, &mut finished).await? {
                        None => return Ok(finished),
                        Some(newer) => (newer, Fetched::Present(content)),
                    }
                }
            };
            let settled = match &fetched {
                Fetched::Gone => newer.deleted,
                // What came with a notice can't be read again: its version is all there is.
                Fetched::Present(content) => content.inline || same_object(&newer, content),
            };
            // A removal that nothing can check is believed at its version, and is stale here.
            let believed = matches!(fetched, Fetched::Gone) && !is_checkable(job.notice);
            if settled || believed {
                return Ok(stale(&finished));
            }
            finished.version = newer.version.saturating_add(1);
            conflict = Some(newer);
        }
        tracing::warn!(
            uri = job.notice.uri,
            "other writers keep getting in between; leaving it for later"
        );
        Err(Interrupted::Stopping)
    }

    async fn remove(
        &self,
        job: &Job<'_>,
        finished: &mut Finished,
    ) -> Result<Option<IndexRecord>, Interrupted> {
        let started = Instant::now();
        let written = self
            .writer
            .remove(&job.doc_id, &job.notice.uri, finished.version)
            .instrument(tracing::info_span!("index"))
            .await;
        finished.took.index += started.elapsed();
        match written? {
            Written::Conflict(newer) => {
                if newer.deleted {
                    // As for an update: perhaps our own, cut off before its signal.
                    self.signal_removal(job, newer.version).await?;
                }
                Ok(Some(*newer))
            }
            Written::Overtaken => {
                finished.outcome = OutcomeKind::Stale;
                Ok(None)
            }
            Written::Current => {
                self.signal_removal(job, finished.version).await?;
                finished.outcome = OutcomeKind::Removed;
                Ok(None)
            }
        }
    }

    async fn signal_removal(&self, job: &Job<'_>, version: i64) -> Result<(), PublishError> {
        let model = self.encoder.version();
        let signal = tombstone(
            &job.doc_id,
            &job.notice.uri,
            version,
            model,
            job.origin.clone(),
        );
        self.publisher.signal(&signal, job.trace).await
    }

    async fn update(
        &self,
        job: &Job<'_>,
        content: &Content,
        finished: &mut Finished,
    ) -> Result<Option<IndexRecord>, Interrupted> {
        let vectorized = self.vectorize(job, content, finished).await?;
        let Vectorized {
            document,
            features,
            tokens,
        } = vectorized;
        (finished.chunks, finished.tokens) = (document.chunks.len(), tokens);
        let vectors: Vec<Vec<f32>> = document
            .chunks
            .iter()
            .map(|(_, vector)| vector.clone())
            .collect();
        let signal = |version| -> Signal {
            let vector = mean_vector(&vectors);
            let model = self.encoder.version();
            Signal {
                etag: content.etag.clone(),
                size_bytes: i64::try_from(content.bytes.len()).ok(),
                ..features.clone().signal(
                    &job.doc_id,
                    &job.notice.uri,
                    version,
                    model,
                    vector,
                    job.origin.clone(),
                )
            }
        };
        let started = Instant::now();
        let written = self
            .writer
            .write(&document, finished.version)
            .instrument(tracing::info_span!("index", chunks = finished.chunks))
            .await;
        finished.took.index += started.elapsed();
        match written? {
            Written::Current => {
                self.counters
                    .chunks
                    .fetch_add(document.chunks.len() as u64, Relaxed);
                self.publisher
                    .signal(&signal(finished.version), job.trace)
                    .await?;
                Ok(None)
            }
            // The newer version's writer publishes its own signal; ours would come after it.
            Written::Overtaken => {
                finished.outcome = OutcomeKind::Stale;
                Ok(None)
            }
            Written::Conflict(newer) => {
                if same_object(&newer, content) {
                    // Perhaps this notice wrote that header in an earlier life, above a version
                    // that lied, and was cut off after it: nobody else would write the chunks that
                    // are missing, and nothing tells whether its signal is. Where it is not, this
                    // repeats it.
                    self.writer.complete(&document, &newer).await?;
                    self.publisher
                        .signal(&signal(newer.version), job.trace)
                        .await?;
                }
                Ok(Some(*newer))
            }
        }
    }

    /// Extract, chunk, embed.
    async fn vectorize(
        &self,
        job: &Job<'_>,
        content: &Content,
        finished: &mut Finished,
    ) -> Result<Vectorized, Interrupted> {
        let started = Instant::now();
        let (media_type, extracted) = self
            .extract(job.notice, content)
            .instrument(tracing::info_span!("extract"))
            .await?;
        let (features, chunks) = self
            .read(job.notice, media_type, extracted)
            .instrument(tracing::info_span!("chunk"))
            .await?;
        finished.took.extract += started.elapsed();
        let tokens: usize = chunks.iter().map(|chunk| chunk.token_ids.len()).sum();
        let started = Instant::now();
        let (texts, token_ids) = chunks
            .into_iter()
            .map(|chunk| (chunk.text, chunk.token_ids))
            .unzip::<_, _, Vec<_>, Vec<_>>();
        let vectors = self
            .embedder
            .embed(token_ids)
            .instrument(tracing::info_span!("embed", tokens))
            .await
            .map_err(|error| match error {
                EmbedError::Stopped => Interrupted::Stopping,
                error => Interrupted::Refused(Refusal::new(
                    Stage::Embed,
                    error.error_type(),
                    "millrace_vectorizer::embed::EmbedError",
                    error.to_string(),
                )),
            })?;
        finished.took.embed += started.elapsed();
        self.counters.tokens.fetch_add(tokens as u64, Relaxed);
        let document = Document {
            doc_id: job.doc_id.clone(),
            uri: job.notice.uri.clone(),
            title: features.title.clone(),
            media_type: features.media_type.clone(),
            language: features.language.clone(),
            categories: features.categories.clone(),
            tags: features.tags.clone(),
            published_at_ms: features.published_at_ms,
            model_version: self.encoder.version().to_owned(),
            etag: content.etag.clone(),
            chunks: texts.into_iter().zip(vectors).collect(),
        };
        Ok(Vectorized {
            document,
            features,
            tokens,
        })
    }

    async fn extract(
        &self,
        notice: &DocumentNotice,
        content: &Content,
    ) -> Result<(MediaType, ExtractedText), Interrupted> {
        // A record of a larger object is not of that object's type: `corpus.jsonl#7` is no JSONL.
        let name = if content.inline && notice.uri.contains('#') {
            ""
        } else {
            notice.uri.as_str()
        };
        let declared = content.media_type.as_deref();
        // Not through the patience for each attempt: reading is work of ours, bounded by its own
        // limits.
        let mut delays = FullJitter::default();
        let extracted = loop {
            match self
                .extractor
                .extract(content.bytes.clone(), declared, name)
                .await
            {
                Err(error) if error.is_transient() => {
                    tracing::warn!(
                        reason = error_chain(&error),
                        "the text cannot be read now; trying again"
                    );
                    self.patience.delay(delays.next_delay()).await?;
                }
                done => break done,
            }
        };
        extracted.map_err(|error: ExtractError| {
            let class = "millrace_vectorizer::extract::ExtractError";
            Refusal::new(Stage::Extract, error.error_type(), class, error.to_string()).into()
        })
    }

    /// What takes the processor besides the encoder, on a blocking thread.
    async fn read(
        &self,
        notice: &DocumentNotice,
        media_type: MediaType,
        extracted: ExtractedText,
    ) -> Result<(Features, Vec<Chunk>), Interrupted> {
        // Never closed; without the permit there would only be more readers at a time.
        let _permit = self.readers.acquire().await;
        let (encoder, notice, limits) = (
            Arc::clone(&self.encoder),
            notice.clone(),
            self.config.chunk_limits(),
        );
        let key_phrases = self.config.key_phrases;
        let reading = tokio::task::spawn_blocking(move || {
            let features = Features::of(&notice, media_type, &extracted, key_phrases);
            let chunks = cut(
                &encoder,
                limits,
                notice.layout,
                features.title.as_deref(),
                &extracted.text,
            )?;
            Ok::<_, ChunkError>((features, chunks))
        });
        let class = "millrace_vectorizer::chunk::ChunkError";
        match reading.await {
            Ok(Ok((features, chunks))) if !chunks.is_empty() => Ok((features, chunks)),
            Ok(Ok(_)) => {
                Err(Refusal::new(Stage::Chunk, "no_text", class, "the document has no text").into())
            }
            Ok(Err(error)) => {
                Err(Refusal::new(Stage::Chunk, error.error_type(), class, error.to_string()).into())
            }
            Err(failure) if failure.is_panic() => Err(Refusal::new(
                Stage::Chunk,
                "chunker_panicked",
                class,
                "cutting the text panicked",
            )
            .into()),
            Err(_) => Err(Interrupted::Stopping),
        }
    }
}

fn cut(
    encoder: &Encoder,
    limits: ChunkLimits,
    layout: Layout,
    title: Option<&str>,
    text: &str,
) -> Result<Vec<Chunk>, ChunkError> {
    let chunker = Chunker::new(encoder.tokenizer(), limits);
    match layout {
        Layout::Passage => Ok(vec![chunker.passage(title, text)?]),
        Layout::Document => chunker.document(title, text),
    }
}

fn stale(finished: &Finished) -> Finished {
    Finished {
        outcome: OutcomeKind::Stale,
        chunks: 0,
        ..*finished
    }
}

/// Whether `header` was written from `content`. Stores without tags can't tell, so they say no and
/// the object is written once more.
fn same_object(header: &IndexRecord, content: &Content) -> bool {
    !header.deleted && header.etag.is_some() && header.etag == content.etag
}

/// Whether the object of a notice can be looked at.
fn is_checkable(notice: &DocumentNotice) -> bool {
    millrace_objects::ObjectUri::parse(&notice.uri).is_ok_and(|uri| uri.fragment().is_none())
}
