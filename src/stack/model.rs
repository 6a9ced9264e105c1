//! Finding and loading the encoder.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use millrace_index::Generation;
use millrace_models::store::ModelReference;
use millrace_models::{Encoder, EncoderOptions, ModelStore};
use tokio::runtime::Handle;

use crate::config::{EncoderKind, ModelSection};

/// Loads the configured model on a thread that may block, or finds the server that computes it.
///
/// # Errors
/// The model is not in the store, its folder can't be used, or its server is away or computes
/// another model.
pub async fn load(section: &ModelSection) -> anyhow::Result<Arc<Encoder>> {
    load_folder(section, folder(section)?).await
}

/// Loads a model of the store, as the configured one is loaded.
///
/// # Errors
/// As [`load`].
pub async fn load_stored(section: &ModelSection, name: &str) -> anyhow::Result<Arc<Encoder>> {
    let reference: ModelReference = name.parse()?;
    let folder = ModelStore::from_env()?.locate(&reference)?;
    load_folder(section, folder).await
}

/// Loads the model that embedded a generation: the configured one where it is that, or else the one of
/// its fingerprint in the store, whatever it is called there.
///
/// # Errors
/// As [`load`]; neither is the model.
pub async fn of_generation(
    section: &ModelSection,
    generation: &Generation,
) -> anyhow::Result<Arc<Encoder>> {
    let configured = version(section).await;
    if configured.is_ok_and(|version| same_weights(&version, &generation.model_version)) {
        let encoder = load(section).await?;
        if encoder.fingerprint().as_str() == generation.model_fingerprint {
            return Ok(encoder);
        }
    }
    let list = || anyhow::Ok(ModelStore::from_env()?.list()?);
    let stored = tokio::task::spawn_blocking(list).await;
    let stored = stored.context("reading the model store was cut off")??;
    let wanted = &generation.model_fingerprint;
    let found = stored
        .into_iter()
        .find(|card| card.fingerprint.as_str() == wanted);
    let Some(card) = found else {
        bail!(
            "{} was embedded by {}, which is not in the model store; `millrace model import` brings it \
             in, or model.path names its folder",
            generation.index,
            generation.model_version
        );
    };
    load_folder(section, card.folder).await
}

/// Whether two versions, `NAME@FINGERPRINT`, are of one model, whatever its folder is called.
fn same_weights(one: &str, other: &str) -> bool {
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
pub async fn version(section: &ModelSection) -> anyhow::Result<String> {
    let folder = folder(section)?;
    let read = tokio::task::spawn_blocking(move || millrace_models::version_of(&folder));
    Ok(read.await.context("reading the model was cut off")??)
}

fn folder(section: &ModelSection) -> anyhow::Result<PathBuf> {
    if let Some(path) = &section.path {
        return Ok(path.clone());
    }
    let reference: ModelReference = section.name.parse()?;
    Ok(ModelStore::from_env()?.locate(&reference)?)
}
