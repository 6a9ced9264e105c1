//! The consumer that keeps profiles, and what it stands on.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use millrace_joiner::ItemReader;
use millrace_kafka::{HttpSchemaRegistry, KafkaConfig, Producer};
use millrace_profiles::{ItemVectors, ProfileReader, Profiles, ProfilesDeps, ProfilesHandle};
use millrace_state::{StateError, StateStore};
use millrace_telemetry::Health;
use tokio_util::sync::CancellationToken;

use super::deadline::Deadline;
use super::recommending::features;
use super::{readiness, states};
use crate::config::Config;

/// What models made of items, from the joiner's table of signals.
///
/// # Errors
/// The brokers do not answer.
pub async fn item_vectors(
    kafka: &KafkaConfig,
    joiner_state: Arc<dyn StateStore>,
) -> anyhow::Result<Arc<dyn ItemVectors>> {
    let items = ItemReader::connect(kafka, joiner_state).await?;
    Ok(Arc::new(JoinedVectors(items)))
}

/// Reads profiles that another process keeps, in the space of `model_version`; as they are stored
/// where this process has no model.
///
/// # Errors
/// The state can't be opened, or the brokers do not answer.
pub async fn reader(
    config: &Config,
    kafka: &KafkaConfig,
    vectors: Arc<dyn ItemVectors>,
    model_version: &str,
) -> anyhow::Result<ProfileReader> {
    let state = states::open(config, "profiles").await?;
    let reader = ProfileReader::connect(kafka, state).await?;
    Ok(if model_version.is_empty() {
        reader
    } else {
        reader.in_space(model_version, vectors)
    })
}

struct JoinedVectors(ItemReader);

#[async_trait]
impl ItemVectors for JoinedVectors {
    async fn vectors(
        &self,
        model_version: &str,
        item_ids: &[String],
    ) -> Result<HashMap<String, Vec<f32>>, StateError> {
        self.0.vectors(model_version, item_ids).await
    }
}

/// The running consumer.
pub struct Profiling {
    /// What it has done, and the reader of profiles.
    pub profiles: Arc<ProfilesHandle>,
}

impl Profiling {
    /// Opens the state, joins the group and begins to work. `model_version` names the model whose
    /// vectors profiles are made of, `vectors` has what it made of items.
    ///
    /// # Errors
    /// Settings that can't work, a state that can't be opened.
    pub async fn start(
        config: &Config,
        kafka: &KafkaConfig,
        vectors: Arc<dyn ItemVectors>,
        model_version: &str,
        health: &Health,
        failed: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let registry = HttpSchemaRegistry::from_config(kafka)?;
        let profiles = Profiles::start(ProfilesDeps {
            kafka: kafka.clone(),
            producer: Producer::connect(kafka)?,
            registry: registry.map(|registry| Arc::new(registry) as _),
            state: states::open(config, "profiles").await?,
            model_version: model_version.to_owned(),
            vectors: Some(vectors),
            // What the features read is what profiles have to keep.
            fields: features(config, model_version)?.profile_settings().fields,
            config: config.profiles.clone(),
        })
        .await?;
        let consumer = profiles.health();
        readiness::follow_consumer(health.part("profiles"), consumer, failed.clone());
        readiness::follow_stateful(profiles.state(), failed.clone());
        Ok(Self {
            profiles: Arc::new(profiles),
        })
    }

    /// Finishes what has begun, then leaves the group.
    pub async fn stop(self, deadline: Deadline) {
        let drained = self.profiles.shutdown(deadline.left_for_handlers());
        deadline.wait_for("the profiles", drained).await;
    }
}
