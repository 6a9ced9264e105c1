//! Stores that no other test uses.

use std::sync::Arc;

use anyhow::Result;
use millrace_state::{EmbeddedState, StateStore, ValkeyConfig, ValkeyState};

/// Where states are kept.
pub enum Place {
    /// A folder a state.
    Folder(tempfile::TempDir),
    /// A namespace a state.
    Valkey { config: ValkeyConfig, test: String },
}

impl Place {
    pub fn embedded() -> Result<Self> {
        Ok(Self::Folder(tempfile::tempdir()?))
    }

    pub fn real() -> Result<Self> {
        let config = ValkeyConfig {
            url: millrace_servers::redis()?,
            ..ValkeyConfig::default()
        };
        let test = millrace_servers::unique_name("state-test");
        Ok(Self::Valkey { config, test })
    }

    /// The state of this consumer; a folder is to be opened once.
    pub async fn state(&self, consumer: &str) -> Result<Arc<dyn StateStore>> {
        Ok(match self {
            Self::Folder(folder) => Arc::new(EmbeddedState::open(&folder.path().join(consumer))?),
            Self::Valkey { config, test } => {
                Arc::new(ValkeyState::connect(config, &format!("{test}.{consumer}")).await?)
            }
        })
    }
}
