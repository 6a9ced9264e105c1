//! Finding and loading the encoder.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use millrace_models::{Encoder, EncoderOptions, ModelStore};

use crate::config::ModelSection;

/// Loads the configured model on a thread that may block.
///
/// # Errors
/// The model is not in the store, or its folder can't be used.
pub async fn load(section: &ModelSection) -> anyhow::Result<Arc<Encoder>> {
    let folder = folder(section)?;
    let options = EncoderOptions {
        threads: section.threads.and_then(NonZeroUsize::new),
        ..EncoderOptions::default()
    };
    let encoder = tokio::task::spawn_blocking(move || Encoder::load(&folder, options))
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
    let name = &section.name;
    let folder = ModelStore::from_env()?.folder(name);
    if !folder.is_dir() {
        bail!(
            "the model {name} is not in {}; fetch it with `millrace model pull {name}`",
            folder.display()
        );
    }
    Ok(folder)
}
