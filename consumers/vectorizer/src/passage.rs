//! Passages outside the pipeline: the signal of a text that came with its notice, as the pipeline
//! would make it, without topics, object stores or an index. For recordings that are replayed.

use millrace_models::Encoder;
use millrace_schemas::{DocId, DocumentNotice, Origin, Signal};

use crate::chunk::{ChunkError, ChunkLimits, Chunker};
use crate::extract::{ExtractError, MediaType, read_inline_text};
use crate::signal::Features;

/// A passage that is read and not yet encoded.
#[derive(Clone, Debug)]
pub struct Passage {
    doc_id: DocId,
    uri: String,
    features: Features,
    token_ids: Vec<u32>,
}

/// Why a notice is no passage.
#[derive(Debug, thiserror::Error)]
pub enum PassageError {
    /// Its text is elsewhere.
    #[error("the notice of {uri} brings no text with it")]
    NoContent {
        /// The document.
        uri: String,
    },
    /// Its text can't be read.
    #[error("the text of {uri} can't be read")]
    Extract {
        /// The document.
        uri: String,
        /// Why.
        #[source]
        source: ExtractError,
    },
    /// The model's tokenizer refused it.
    #[error("the text of {uri} can't be cut")]
    Chunk {
        /// The document.
        uri: String,
        /// Why.
        #[source]
        source: ChunkError,
    },
}

impl Passage {
    /// Reads a notice's own text, plain and UTF-8 or of another charset. `key_phrases` is
    /// [`VectorizerConfig::key_phrases`](crate::VectorizerConfig::key_phrases).
    ///
    /// # Errors
    /// [`PassageError`], naming the document.
    pub fn read(
        notice: &DocumentNotice,
        encoder: &Encoder,
        key_phrases: usize,
    ) -> Result<Self, PassageError> {
        let uri = notice.uri.clone();
        let Some(content) = &notice.content else {
            return Err(PassageError::NoContent { uri });
        };
        let extracted = read_inline_text(content).map_err(|source| PassageError::Extract {
            uri: uri.clone(),
            source,
        })?;
        let features = Features::of(notice, MediaType::PlainText, &extracted, key_phrases);
        // A passage is one chunk whatever its length.
        let limits = ChunkLimits {
            target_tokens: encoder.max_tokens(),
            overlap_tokens: 0,
            max_chunks: 1,
        };
        let chunk = Chunker::new(encoder.tokenizer(), limits)
            .passage(features.title.as_deref(), &extracted.text)
            .map_err(|source| PassageError::Chunk {
                uri: uri.clone(),
                source,
            })?;
        Ok(Self {
            doc_id: DocId::from_uri(&uri),
            uri,
            features,
            token_ids: chunk.token_ids,
        })
    }

    /// What the encoder reads ([`Encoder::encode_tokens`]): the title and the text, cut at the
    /// model's maximum.
    #[must_use]
    pub fn token_ids(&self) -> &[u32] {
        &self.token_ids
    }

    /// The signal of this passage, whose tokens `model_version` encoded as `vector`.
    #[must_use]
    pub fn signal(
        self,
        version: i64,
        model_version: &str,
        vector: Vec<f32>,
        origin: Origin,
    ) -> Signal {
        self.features.signal(
            &self.doc_id,
            &self.uri,
            version,
            model_version,
            vector,
            origin,
        )
    }
}
