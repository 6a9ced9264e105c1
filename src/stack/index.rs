//! Opening the search index that the profile names.

use std::sync::Arc;

use anyhow::Context;
use millrace_index::{EmbeddedIndex, IndexSpec, OpenSearchIndex, SearchIndex};
use millrace_models::Encoder;

use crate::config::{Config, Profile};

/// The generation that this version of the binary writes; rollouts will count on from here.
pub const GENERATION: u32 = 1;

/// Opens the index and makes sure that it fits the encoder.
///
/// # Errors
/// It can't be reached, is another process's, or was built by another model.
pub async fn open(config: &Config, encoder: &Encoder) -> anyhow::Result<Arc<dyn SearchIndex>> {
    let index: Arc<dyn SearchIndex> = match config.profile {
        Profile::Embedded => {
            let folder = config.data_dir.join("index");
            let open = move || EmbeddedIndex::open(folder);
            let opened = tokio::task::spawn_blocking(open).await?;
            Arc::new(opened.context("can't open the embedded index")?)
        }
        Profile::Cluster => Arc::new(
            OpenSearchIndex::new(config.index.opensearch.clone())
                .context("can't set up the OpenSearch client")?,
        ),
    };
    let spec = spec(config, encoder);
    index
        .ensure(&spec)
        .await
        .with_context(|| format!("the index {} can't be used", spec.name))?;
    index
        .warm_up()
        .await
        .context("the index can't be warmed up")?;
    Ok(index)
}

/// What the index must be for this encoder.
pub fn spec(config: &Config, encoder: &Encoder) -> IndexSpec {
    IndexSpec {
        name: config.index.name.clone(),
        generation: GENERATION,
        dimension: encoder.dimension(),
        model_version: encoder.version().to_owned(),
        model_fingerprint: encoder.fingerprint().to_string(),
        engine: config.index.engine,
    }
}
