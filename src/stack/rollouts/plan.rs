//! What a rollout would do, and whether one may begin.

use std::sync::Arc;
use std::time::Instant;

use millrace_index::SearchRequest;
use millrace_models::Encoder;
use millrace_retry::error_chain;
use millrace_schemas::{Rollout, RolloutGeneration};
use serde::{Deserialize, Serialize};

use super::orders::refused;
use super::{RolloutError, Rollouts};
use crate::rollout::records;
use crate::shared_store;
use crate::stack::generations::OpenGeneration;
use crate::stack::{index, model};

/// Chunks that the new model's rate is measured on.
const RATE_CHUNKS: usize = 48;
/// As the index keeps them.
const VECTOR_COMPONENT_BYTES: u64 = 4;

/// What a rollout would do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    pub from: RolloutGeneration,
    pub to: RolloutGeneration,
    /// What the present generation holds.
    pub documents: u64,
    pub chunks: u64,
    /// Records of `documents` that the topic still has: what is read first.
    pub records: i64,
    /// Bytes of the vectors that the new generation will hold.
    pub vector_bytes: u64,
    /// Chunks a second of the new model, as measured now on some of the index; none where it is empty.
    pub chunks_per_second: Option<f64>,
    /// How long embedding takes at that rate.
    pub seconds: Option<f64>,
}

impl Rollouts {
    /// What a rollout to this model of the store would do, or a backfill where it is none; nothing is
    /// changed.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub async fn plan(&self, model: Option<&str>) -> Result<Plan, RolloutError> {
        let work = self.work.lock().await;
        let (rollout, old, encoder) = self.proposed(model).await?;
        drop(work);
        let counts = old.index.count().await?;
        let lags = self.lags(&rollout.from, &rollout.index).await?;
        let dimension = encoder.dimension() as u64;
        let texts = some_texts(&old).await?;
        let chunks_per_second = if texts.is_empty() {
            None
        } else {
            let began = Instant::now();
            let count = texts.len() as f64;
            let made = tokio::task::spawn_blocking(move || {
                let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                encoder.encode(&texts).map(drop)
            });
            made.await
                .map_err(anyhow::Error::from)?
                .map_err(anyhow::Error::from)?;
            Some(count / began.elapsed().as_secs_f64())
        };
        Ok(Plan {
            documents: counts.documents,
            chunks: counts.chunks,
            records: lags.iter().map(|lag| lag.end - lag.oldest).sum(),
            vector_bytes: counts.chunks * dimension * VECTOR_COMPONENT_BYTES,
            chunks_per_second,
            seconds: chunks_per_second.map(|rate| counts.chunks as f64 / rate),
            from: rollout.from,
            to: rollout.to,
        })
    }

    /// The rollout that would begin, the generation that serves, and the new one's encoder: of the model
    /// that serves where none is given.
    pub(super) async fn proposed(
        &self,
        model: Option<&str>,
    ) -> Result<(Rollout, OpenGeneration, Arc<Encoder>), RolloutError> {
        if let Some(open) = self.now().filter(|rollout| rollout.phase.is_open()) {
            return refused(format!(
                "a rollout is {} already, from generation {} to {} with {}, begun by {}; finish or abort it first",
                open.phase,
                open.from.generation,
                open.to.generation,
                open.to.model_version,
                open.who
            ));
        }
        let old = self.deps.generations.serving().await?;
        let encoder = match model {
            Some(model) => self.another(model, &old).await?,
            None => Arc::clone(&old.encoder),
        };
        // A number is given once: whoever missed that one was given up must not write into its follower.
        let there = self.deps.generations.all().list(&old.spec.name).await?;
        let there = there.iter().map(|found| found.generation).max();
        let last = self.now().map(|last| records::number(&last.to));
        let generation = old.spec.generation.max(there.max(last).unwrap_or(0)) + 1;
        let new = index::spec(&self.deps.config, generation, &encoder);
        new.validate()?;
        Ok((records::begin(&old.spec, &new), old, encoder))
    }

    /// The encoder of another model than the one that serves.
    async fn another(
        &self,
        model: &str,
        old: &OpenGeneration,
    ) -> Result<Arc<Encoder>, RolloutError> {
        let loaded = model::load_stored(&self.deps.config, model).await;
        let encoder = loaded.map_err(|error| {
            if shared_store::is_away(&error) {
                RolloutError::Failed(error.into())
            } else {
                RolloutError::Invalid(error_chain(error.as_ref()))
            }
        })?;
        if old.spec.model_fingerprint == encoder.fingerprint().as_str() {
            return refused(format!(
                "{model} is the model that serves: {} was embedded by {}; `millrace backfill` makes an \
                 index of the same model anew",
                old.spec.index_name(),
                old.spec.model_version
            ));
        }
        Ok(encoder)
    }
}

/// Texts of some chunks, by a search for anything.
async fn some_texts(open: &OpenGeneration) -> anyhow::Result<Vec<String>> {
    let request = SearchRequest {
        vector: Some(vec![1.0; open.spec.dimension]),
        mode: millrace_index::Mode::Vector,
        k: RATE_CHUNKS,
        window: RATE_CHUNKS,
        ..SearchRequest::default()
    };
    let found = open.index.search(&request).await?;
    Ok(found.into_iter().map(|hit| hit.text).collect())
}
