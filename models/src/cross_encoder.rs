//! The cross-encoder: how well a text answers a query, both read together.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;

use rayon::prelude::*;

use crate::config::ModelConfig;
use crate::cpu::{Classifier, CpuBert, CpuWorkers, Head};
use crate::described::Described;
use crate::encoder::check_sequences;
use crate::error::ModelError;
use crate::fingerprint::ModelFingerprint;
use crate::sequence::{Segments, TokenSequence};
use crate::tokenizer::Tokenizer;
use crate::weights::WeightsFile;

/// A cross-encoder of the BERT family, on the CPU.
///
/// Share one between threads; calls block until their scores are there.
pub struct CrossEncoder {
    tokenizer: Tokenizer,
    config: ModelConfig,
    fingerprint: ModelFingerprint,
    version: String,
    model: CpuBert,
    workers: CpuWorkers,
}

impl CrossEncoder {
    /// Loads a transformers folder of `BertForSequenceClassification` with one label; its last path
    /// component names the model. Without a number of threads there is one a core.
    ///
    /// # Errors
    /// [`ModelError`] when the folder is missing, incomplete, of another architecture or damaged, or
    /// when no threads start.
    pub fn load(folder: &Path, threads: Option<NonZeroUsize>) -> Result<Self, ModelError> {
        let config = ModelConfig::read_cross_encoder(folder)?;
        let described = Described::read(folder, &config)?;
        let file = WeightsFile::read(folder.join("model.safetensors"))?;
        let weights = file.tensors()?;
        let head = Head::Score(Classifier::load(&weights, &config)?);
        Ok(Self {
            model: CpuBert::load(&weights, &config, head)?,
            workers: CpuWorkers::start(threads, "cross-encoder")?,
            version: described.version,
            tokenizer: described.tokenizer,
            fingerprint: described.fingerprint,
            config,
        })
    }

    /// How well each text answers the query, in order: the model's logit, higher for better. Where a
    /// pair is longer than [`Self::max_tokens`], the longer of the two is cut.
    ///
    /// # Errors
    /// [`ModelError::Tokenize`].
    pub fn score(&self, query: &str, texts: &[&str]) -> Result<Vec<f32>, ModelError> {
        let failed = |index, source| ModelError::Tokenize { index, source };
        let query = self.tokenizer.first_of_pair(query);
        let query = query.map_err(|source| failed(0, source))?;
        let pair = |(index, text): (usize, &&str)| {
            let pair = self.tokenizer.encode_pair(&query, text, true);
            pair.map_err(|source| failed(index, source))
        };
        let pairs: Vec<TokenSequence> = self.workers.install(|| {
            let pairs = texts.par_iter().enumerate().map(pair);
            pairs.collect::<Result<_, _>>()
        })?;
        let lent: Vec<Segments<'_>> = pairs.iter().map(TokenSequence::segments).collect();
        self.score_tokens(&lent)
    }

    /// As [`Self::score`], of pairs as [`Tokenizer::encode_pair`] makes them.
    ///
    /// # Errors
    /// [`ModelError::Sequence`] for a pair that is empty, longer than [`Self::max_tokens`] or holds
    /// an id outside the vocabulary.
    pub fn score_tokens(&self, pairs: &[Segments<'_>]) -> Result<Vec<f32>, ModelError> {
        check_sequences(pairs.iter().map(|pair| pair.ids), &self.config)?;
        let scores = self.workers.forward(&self.model, pairs);
        Ok(scores.into_iter().flatten().collect())
    }

    /// Where pairs are cut, in tokens, special ones included.
    #[must_use]
    pub fn max_tokens(&self) -> usize {
        self.config.max_tokens
    }

    /// Size of the vocabulary: a token's id is below it.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.config.vocab_size
    }

    /// Who made the scores.
    #[must_use]
    pub fn fingerprint(&self) -> &ModelFingerprint {
        &self.fingerprint
    }

    /// Name and fingerprint for people and records.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The model's tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }
}

impl fmt::Debug for CrossEncoder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("CrossEncoder")
            .field("version", &self.version)
            .field("max_tokens", &self.max_tokens())
            .finish_non_exhaustive()
    }
}
