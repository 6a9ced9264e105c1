//! The cross-encoder that ranks texts, where one is configured.

use std::num::NonZeroUsize;

use millrace_models::{CrossEncoder, ModelError, Segments};

use crate::model::{Model, next_id, warm_up};
use crate::rate::Rate;
use crate::registry::RegisterError;
use crate::source::{ModelSource, VersionFolder};

/// A cross-encoder, warm.
#[derive(Debug)]
pub(crate) struct Reranker {
    id: u64,
    name: String,
    version: String,
    model: CrossEncoder,
    rate: Rate,
}

impl Reranker {
    /// Loads a cross-encoder of the source and warms it up. Blocks for seconds, and while it is fetched.
    pub fn load(
        source: &ModelSource,
        reference: &str,
        threads: Option<NonZeroUsize>,
    ) -> Result<Self, RegisterError> {
        let VersionFolder {
            name,
            version,
            folder,
        } = source.find(reference)?;
        let model = CrossEncoder::load(&folder, threads)?;
        let rate = warm_up(model.max_tokens(), model.vocabulary(), |batch| {
            model.score_tokens(batch).map(drop)
        })?;
        tracing::info!(
            model = name,
            version,
            fingerprint = model.version(),
            tokens_per_second = rate.tokens_per_second().round(),
            "a cross-encoder ranks"
        );
        Ok(Self {
            id: next_id(),
            name,
            version,
            model,
            rate,
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn version(&self) -> &str {
        &self.version
    }

    pub fn model(&self) -> &CrossEncoder {
        &self.model
    }
}

impl Model for Reranker {
    fn id(&self) -> u64 {
        self.id
    }

    fn rate(&self) -> &Rate {
        &self.rate
    }

    fn compute(&self, pairs: &[Segments<'_>]) -> Result<Vec<Vec<f32>>, ModelError> {
        let scores = self.model.score_tokens(pairs)?;
        Ok(scores.into_iter().map(|score| vec![score]).collect())
    }
}
