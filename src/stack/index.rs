//! Opening the search index that the profile names.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use millrace_index::{EmbeddedIndex, Generations, IndexSpec, OpenSearchIndex};
use millrace_models::Encoder;

use crate::config::{Config, Profile};

/// The first generation of an index; rollouts count on from here.
pub const FIRST_GENERATION: u32 = 1;

/// The folder or cluster that has the generations; none is opened yet.
///
/// # Errors
/// It is another process's, or its settings can't work.
pub async fn connect(config: &Config) -> anyhow::Result<Arc<dyn Generations>> {
    Ok(match config.profile {
        Profile::Embedded => {
            let folder = folder(config);
            let open = move || EmbeddedIndex::open(folder);
            let opened = tokio::task::spawn_blocking(open).await?;
            Arc::new(opened.context("can't open the embedded index")?)
        }
        Profile::Cluster => Arc::new(
            OpenSearchIndex::new(config.index.opensearch.clone())
                .context("can't set up the OpenSearch client")?,
        ),
    })
}

/// Where the embedded index is.
pub fn folder(config: &Config) -> PathBuf {
    config.data_dir.join("index")
}

/// What a generation must be for this encoder.
pub fn spec(config: &Config, generation: u32, encoder: &Encoder) -> IndexSpec {
    IndexSpec {
        name: config.index.name.clone(),
        generation,
        dimension: encoder.dimension(),
        model_version: encoder.version().to_owned(),
        model_fingerprint: encoder.fingerprint().to_string(),
        engine: config.index.engine,
    }
}
