//! Where stateful consumers keep their state: a folder of one process, Valkey for several.

use std::sync::Arc;

use anyhow::Context;
use millrace_state::{EmbeddedState, StateStore, ValkeyState};

use crate::config::{Config, Profile};

/// Whether there is a place for states.
pub fn are_configured(config: &Config) -> bool {
    config.profile == Profile::Embedded || config.state.valkey.is_some()
}

/// Opens the state of `consumer`, which names its folder or namespace.
///
/// # Errors
/// No place is configured, it can't be reached, or another process or version has it.
pub async fn open(config: &Config, consumer: &str) -> anyhow::Result<Arc<dyn StateStore>> {
    let context = || format!("can't open the state of the {consumer}");
    match config.profile {
        Profile::Embedded => {
            let folder = config.data_dir.join("state").join(consumer);
            let open = move || EmbeddedState::open(&folder);
            let opened = tokio::task::spawn_blocking(open).await?;
            Ok(Arc::new(opened.with_context(context)?))
        }
        Profile::Cluster => {
            let valkey = config.state.valkey.as_ref().with_context(|| {
                format!(
                    "the {consumer} of the cluster profile keeps its state in Valkey or Redis, so that \
                     its members can hand partitions over; set state.valkey.url, such as \
                     \"redis://127.0.0.1:6379\""
                )
            })?;
            let namespace = format!("{}{consumer}", config.kafka.topic_prefix);
            let opened = ValkeyState::connect(valkey, &namespace).await;
            Ok(Arc::new(opened.with_context(context)?))
        }
    }
}
