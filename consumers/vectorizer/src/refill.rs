//! Documents of one index generation made from what another has of them: for those whose notices the
//! topic no longer has, or whose objects can't be read any more.
//!
//! Chunks keep their boundaries and are embedded anew, at the version that they have, so that whatever
//! happened to the document later still wins.

use std::sync::Arc;

use millrace_index::{BulkSink, IndexError, Record, SearchIndex};
use millrace_models::Encoder;
use millrace_retry::{Patience, error_chain};
use millrace_schemas::DocId;

use crate::chunk::{ChunkError, ChunkLimits, Chunker};
use crate::config::VectorizerConfig;
use crate::index::{Document, DocumentWriter, WriteError, Written};
use crate::signal::mean_vector;

/// From one generation to another.
pub struct Refill {
    from: Arc<dyn SearchIndex>,
    writer: DocumentWriter,
    encoder: Arc<Encoder>,
    limits: ChunkLimits,
}

/// A document that is embedded and not yet written.
pub struct Prepared {
    document: Document,
    version: i64,
}

impl Prepared {
    /// The document's vector as a whole, `[dimension]`, as its signal has it.
    #[must_use]
    pub fn vector(&self) -> Vec<f32> {
        let chunks = self.document.chunks.iter();
        let vectors: Vec<Vec<f32>> = chunks.map(|(_, vector)| vector.clone()).collect();
        mean_vector(&vectors)
    }
}

/// What became of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refilled {
    /// It was written.
    Written,
    /// The other generation has a newer version by now.
    Newer,
}

/// Why a document was not made.
#[derive(Debug, thiserror::Error)]
pub enum RefillError {
    /// The first generation can't be read.
    #[error("the chunks of {uri} can't be read")]
    Read {
        /// The document.
        uri: String,
        /// Why.
        #[source]
        source: IndexError,
    },
    /// The model's tokenizer refused a chunk.
    #[error("the text of {uri} can't be cut")]
    Chunk {
        /// The document.
        uri: String,
        /// Why.
        #[source]
        source: ChunkError,
    },
    /// The encoder made no vectors: its server is away, perhaps.
    #[error("{uri} can't be embedded: {reason}")]
    Embed {
        /// The document.
        uri: String,
        /// Why.
        reason: String,
    },
    /// The other generation did not take it.
    #[error("{uri} can't be written: {reason}")]
    Write {
        /// The document.
        uri: String,
        /// Why.
        reason: String,
    },
}

impl Refill {
    /// Reads `from` and writes `to` through `sink`, with vectors of `encoder`.
    #[must_use]
    pub fn new(
        from: Arc<dyn SearchIndex>,
        to: Arc<dyn SearchIndex>,
        sink: BulkSink,
        encoder: Arc<Encoder>,
        config: &VectorizerConfig,
    ) -> Self {
        Self {
            from,
            writer: DocumentWriter::new(to, sink, Patience::default()),
            encoder,
            limits: config.chunk_limits(),
        }
    }

    /// Embeds the document of `header`, which is one of the first generation and no tombstone. `None`
    /// where that has not all of its text: it was written while this read it.
    ///
    /// # Errors
    /// [`RefillError`], naming the document.
    pub async fn prepare(&self, header: &Record) -> Result<Option<Prepared>, RefillError> {
        let doc_id = DocId::from_uri(&header.uri);
        let numbers = 0..header.chunk_count.unwrap_or(0);
        let ids: Vec<String> = numbers.map(|number| doc_id.chunk(number)).collect();
        let stored = self.from.get(&ids).await;
        let stored = stored.map_err(|source| RefillError::Read {
            uri: header.uri.clone(),
            source,
        })?;
        let texts: Option<Vec<String>> = stored
            .into_iter()
            .map(|chunk| {
                let chunk = chunk.filter(|chunk| chunk.version == header.version)?;
                chunk.text
            })
            .collect();
        let Some(texts) = texts.filter(|texts| !texts.is_empty()) else {
            return Ok(None);
        };
        let vectors = self.embed(header, &texts).await?;
        let document = Document {
            doc_id,
            uri: header.uri.clone(),
            title: header.title.clone(),
            media_type: header.media_type.clone().unwrap_or_default(),
            language: header.language.clone(),
            categories: header.categories.clone(),
            tags: header.tags.clone(),
            published_at_ms: header.published_at_ms,
            model_version: self.encoder.version().to_owned(),
            etag: header.etag.clone(),
            chunks: texts.into_iter().zip(vectors).collect(),
        };
        Ok(Some(Prepared {
            document,
            version: header.version,
        }))
    }

    /// Writes it, unless the other generation has a newer version.
    ///
    /// # Errors
    /// [`RefillError`], naming the document; done again, it ends the same.
    pub async fn write(&self, prepared: Prepared) -> Result<Refilled, RefillError> {
        let Prepared { document, version } = prepared;
        let failed = |reason| RefillError::Write {
            uri: document.uri.clone(),
            reason,
        };
        match self.writer.write(&document, version).await {
            Ok(Written::Current) => Ok(Refilled::Written),
            Ok(Written::Overtaken | Written::Conflict(_)) => Ok(Refilled::Newer),
            Err(WriteError::Refused(refusal)) => Err(failed(refusal.reason.message)),
            Err(WriteError::Closed) => Err(failed("the index is being closed".to_owned())),
        }
    }

    /// As the pipeline embeds them: the title goes before each chunk.
    async fn embed(&self, header: &Record, texts: &[String]) -> Result<Vec<Vec<f32>>, RefillError> {
        let (encoder, limits) = (Arc::clone(&self.encoder), self.limits);
        let (title, texts) = (header.title.clone(), texts.to_vec());
        let embedding = tokio::task::spawn_blocking(move || {
            let chunker = Chunker::new(encoder.tokenizer(), limits);
            let chunks = texts
                .iter()
                .map(|text| chunker.passage(title.as_deref(), text));
            let chunks = chunks.collect::<Result<Vec<_>, ChunkError>>()?;
            let token_ids: Vec<&[u32]> = chunks.iter().map(|it| it.token_ids.as_slice()).collect();
            Ok::<_, ChunkError>(encoder.encode_tokens(&token_ids))
        });
        let uri = || header.uri.clone();
        match embedding.await {
            Ok(Ok(Ok(vectors))) => Ok(vectors),
            Ok(Ok(Err(error))) => Err(RefillError::Embed {
                uri: uri(),
                reason: error_chain(&error),
            }),
            Ok(Err(source)) => Err(RefillError::Chunk { uri: uri(), source }),
            Err(error) => Err(RefillError::Embed {
                uri: uri(),
                reason: error_chain(&error),
            }),
        }
    }
}
