//! The index generations that this process has open, each with the encoder of its model.
//!
//! A request asks once which generation serves, and gets its index and its encoder together: so query
//! and documents are of one model, whenever the alias moves.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, bail};
use millrace_index::{Generation, Generations, IndexSpec, SearchIndex};
use millrace_models::Encoder;

use super::{index, model};
use crate::config::Config;

/// A generation and what embeds it; cheap to clone.
#[derive(Clone)]
pub struct OpenGeneration {
    /// What it is.
    pub spec: IndexSpec,
    /// Reads and writes this generation alone.
    pub index: Arc<dyn SearchIndex>,
    /// The model that its vectors are of.
    pub encoder: Arc<Encoder>,
}

impl OpenGeneration {
    /// The vector of a query, `[dimension]`.
    ///
    /// # Errors
    /// The encoder makes none: its server is away, perhaps.
    pub async fn embed(&self, query: String) -> anyhow::Result<Vec<f32>> {
        let encoder = Arc::clone(&self.encoder);
        let encoded = tokio::task::spawn_blocking(move || encoder.encode(&[&query])).await??;
        encoded
            .into_iter()
            .next()
            .context("the query could not be embedded")
    }
}

/// The generations that are open.
pub struct OpenGenerations {
    config: Config,
    generations: Arc<dyn Generations>,
    open: Mutex<BTreeMap<u32, OpenGeneration>>,
    /// Held while one is opened: two loads of a model at once would take its memory twice.
    opening: tokio::sync::Mutex<()>,
}

impl OpenGenerations {
    /// Opens what serves, or makes the first generation with the configured model.
    ///
    /// # Errors
    /// The index can't be reached or is another process's; its model is not there, or is not the
    /// configured one where there never was another.
    pub async fn start(config: &Config) -> anyhow::Result<Arc<Self>> {
        let opened = Self {
            config: config.clone(),
            generations: index::connect(config).await?,
            open: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
        };
        let name = &config.index.name;
        let unusable = || format!("the index {name} can't be used");
        let listed = opened.generations.list(name).await;
        let listed = listed.with_context(unusable)?;
        let serving = opened.generations.resolve(name).await;
        let serving = match serving.with_context(unusable)? {
            Some(serving) => Some(serving),
            None => {
                if let Some(found) = listed.first() {
                    tracing::warn!(
                        index = found.index,
                        alias = name,
                        "what served is gone; this one does from here on"
                    );
                }
                listed.first().cloned()
            }
        };
        match serving {
            // Once there were two, the configuration does not say which model serves.
            Some(found) if found.generation > index::FIRST_GENERATION || listed.len() > 1 => {
                opened.open(&found).await.with_context(unusable)?
            }
            _ => {
                let encoder = model::load(config).await?;
                let created = opened.create(index::FIRST_GENERATION, encoder).await;
                created.with_context(unusable)?
            }
        };
        let serving = opened.serving().await?;
        let warmed = serving.index.warm_up().await;
        warmed.context("the index can't be warmed up")?;
        Ok(Arc::new(opened))
    }

    /// Which one serves now: what a request asks first, and once.
    ///
    /// # Errors
    /// None does, the index can't be reached, or this process can't load its model.
    pub async fn serving(&self) -> anyhow::Result<OpenGeneration> {
        let name = &self.config.index.name;
        let Some(serving) = self.generations.resolve(name).await? else {
            bail!(
                "the alias {name} points at no generation: what served was removed; \
                 `millrace rollout switch --force` has another one serve"
            );
        };
        self.open(&serving).await
    }

    /// A generation that is there, with its encoder; both are kept for the next time.
    ///
    /// # Errors
    /// The index can't be reached, or the generation's model is not in the store.
    pub async fn open(&self, wanted: &Generation) -> anyhow::Result<OpenGeneration> {
        if let Some(open) = self.known(wanted) {
            return Ok(open);
        }
        let _opening = self.opening.lock().await;
        if let Some(open) = self.known(wanted) {
            return Ok(open);
        }
        let loaded = model::of_generation(&self.config, wanted).await?;
        self.keep(wanted.generation, loaded).await
    }

    /// Makes a generation with this encoder, or opens it where it is of that model.
    ///
    /// # Errors
    /// It is of another model, or the index can't be reached.
    pub async fn create(
        &self,
        generation: u32,
        encoder: Arc<Encoder>,
    ) -> anyhow::Result<OpenGeneration> {
        let _opening = self.opening.lock().await;
        self.keep(generation, encoder).await
    }

    async fn keep(&self, generation: u32, encoder: Arc<Encoder>) -> anyhow::Result<OpenGeneration> {
        let spec = index::spec(&self.config, generation, &encoder);
        let open = OpenGeneration {
            index: self.generations.open(&spec).await?,
            spec,
            encoder,
        };
        self.lock().insert(generation, open.clone());
        Ok(open)
    }

    /// As it is open; one that was made anew by another model since is not.
    fn known(&self, wanted: &Generation) -> Option<OpenGeneration> {
        let open = self.lock().get(&wanted.generation).cloned();
        open.filter(|open| open.spec.model_fingerprint == wanted.model_fingerprint)
    }

    /// Lets go of a generation and its encoder, once nobody uses them any more.
    pub fn close(&self, generation: u32) {
        self.lock().remove(&generation);
    }

    /// What moves the alias and removes generations.
    pub fn all(&self) -> &Arc<dyn Generations> {
        &self.generations
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u32, OpenGeneration>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
