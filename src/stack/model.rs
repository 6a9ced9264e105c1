//! Finding and loading the encoder.

use std::num::NonZeroUsize;
use std::sync::Arc;

use anyhow::{Context, bail};
use millrace_models::{Encoder, EncoderOptions, ModelStore};

use crate::config::ModelSection;

/// Loads the configured model on a thread that may block.
///
/// # Errors
/// The model is not in the store, or its folder can't be used.
pub async fn load(section: &ModelSection) -> anyhow::Result<Arc<Encoder>> {
    let folder = match &section.path {
        Some(path) => path.clone(),
        None => {
            let folder = ModelStore::from_env()?.folder(&section.name);
            if !folder.is_dir() {
                let name = &section.name;
                bail!(
                    "the model {name} is not in {}; fetch it with `millrace model pull {name}`",
                    folder.display()
                );
            }
            folder
        }
    };
    let options = EncoderOptions {
        threads: section.threads.and_then(NonZeroUsize::new),
        ..EncoderOptions::default()
    };
    let encoder = tokio::task::spawn_blocking(move || Encoder::load(&folder, options))
        .await
        .context("loading the model was cut off")??;
    Ok(Arc::new(encoder))
}
