//! Finding and loading the encoder.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use millrace_index::Generation;
use millrace_models::store::ModelReference;
use millrace_models::{Encoder, EncoderOptions, ModelStore, StoreError};
use tokio::runtime::Handle;

use crate::config::{Config, EncoderKind, ModelSection};
use crate::shared_store::SharedStore;

/// Loads the configured model on a thread that may block, or finds the server that computes it.
///
/// # Errors
/// The model is not in the store, its folder can't be used, or its server is away or computes
/// another model.
pub async fn load(config: &Config) -> anyhow::Result<Arc<Encoder>> {
    load_folder(&config.model, folder(config).await?).await
}

/// Loads a model of the store, as the configured one is loaded.
///
/// # Errors
/// As [`load`].
pub async fn load_stored(config: &Config, name: &str) -> anyhow::Result<Arc<Encoder>> {
    load_folder(&config.model, locate(config, name).await?).await
}

/// The folder of a model, `NAME` or `NAME:VERSION`: in this machine's store, or else fetched into it
/// from the one that machines share.
///
/// # Errors
/// Neither has it, or it can't be fetched.
pub async fn locate(config: &Config, name: &str) -> anyhow::Result<PathBuf> {
    let reference: ModelReference = name.parse()?;
    let store = ModelStore::from_env()?;
    let missing = match store.locate(&reference) {
        Err(missing @ StoreError::NotStored { .. }) => missing,
        located => return Ok(located?),
    };
    // Opened only where it is needed: what lies here is used whether that is away or not.
    match SharedStore::of(config)? {
        Some(shared) => fetch(&shared, &reference, &store).await,
        None => Err(missing.into()),
    }
}

async fn fetch(
    shared: &SharedStore,
    reference: &ModelReference,
    store: &ModelStore,
) -> anyhow::Result<PathBuf> {
    let from = shared.root();
    tracing::info!(model = %reference, %from, "fetching the model");
    Ok(shared.fetch(reference, store, &mut |_, _| {}).await?.folder)
}

/// Loads the model that embedded a generation: the configured one where it is that, or else the one of
/// its fingerprint in the store, whatever it is called there.
///
/// # Errors
/// As [`load`]; neither is the model.
pub async fn of_generation(
    config: &Config,
    generation: &Generation,
) -> anyhow::Result<Arc<Encoder>> {
    let configured = version(config).await;
    if configured.is_ok_and(|version| same_weights(&version, &generation.model_version)) {
        let encoder = load(config).await?;
        if encoder.fingerprint().as_str() == generation.model_fingerprint {
            return Ok(encoder);
        }
    }
    let store = ModelStore::from_env()?;
    let (listed, wanted) = (store.clone(), &generation.model_fingerprint);
    let stored = tokio::task::spawn_blocking(move || listed.list()).await;
    let stored = stored.context("reading the model store was cut off")??;
    let found = stored
        .into_iter()
        .find(|card| card.fingerprint.as_str() == wanted);
    if let Some(card) = found {
        return load_folder(&config.model, card.folder).await;
    }
    if let Some(shared) = SharedStore::of(config)?
        && let Some(reference) = shared.with_fingerprint(wanted).await?
    {
        let folder = fetch(&shared, &reference, &store).await?;
        return load_folder(&config.model, folder).await;
    }
    bail!(
        "{} was embedded by {}, which is not in the model store; `millrace model import` brings it in, \
         or model.path names its folder",
        generation.index,
        generation.model_version
    );
}

/// Whether two versions, `NAME@FINGERPRINT`, are of one model, whatever its folder is called.
pub fn same_weights(one: &str, other: &str) -> bool {
    let weights = |version: &str| version.rsplit_once('@').map(|(_, of)| of.to_owned());
    weights(one).is_some() && weights(one) == weights(other)
}

async fn load_folder(section: &ModelSection, folder: PathBuf) -> anyhow::Result<Arc<Encoder>> {
    let options = EncoderOptions {
        threads: section.threads.and_then(NonZeroUsize::new),
        ..EncoderOptions::default()
    };
    let remote = match section.encoder {
        EncoderKind::Local => None,
        EncoderKind::Remote => Some(section.remote.clone()),
    };
    let runtime = Handle::current();
    let load = move || match remote {
        None => Encoder::load(&folder, options),
        Some(remote) => Encoder::connect(&folder, remote, runtime),
    };
    let encoder = tokio::task::spawn_blocking(load)
        .await
        .context("loading the model was cut off")??;
    Ok(Arc::new(encoder))
}

/// The model's version as the encoder would tell it, without loading the model.
///
/// # Errors
/// The model is not in the store, or its files can't be read.
pub async fn version(config: &Config) -> anyhow::Result<String> {
    version_in(folder(config).await?).await
}

/// As [`version`], where the model lies on this machine: nothing is fetched for it.
pub async fn version_here(config: &Config) -> Option<String> {
    let folder = match &config.model.path {
        Some(path) => path.clone(),
        None => {
            let reference = config.model.name.parse().ok()?;
            ModelStore::from_env().ok()?.locate(&reference).ok()?
        }
    };
    version_in(folder).await.ok()
}

async fn version_in(folder: PathBuf) -> anyhow::Result<String> {
    let read = tokio::task::spawn_blocking(move || millrace_models::version_of(&folder));
    Ok(read.await.context("reading the model was cut off")??)
}

async fn folder(config: &Config) -> anyhow::Result<PathBuf> {
    match &config.model.path {
        Some(path) => Ok(path.clone()),
        None => locate(config, &config.model.name).await,
    }
}
