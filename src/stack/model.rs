//! Finding and loading the encoder.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
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
    let folder = folder(section)?;
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
