//! The consumer that keeps profiles, and what it stands on.

use std::sync::Arc;

use millrace_kafka::{HttpSchemaRegistry, KafkaConfig, Producer};
use millrace_profiles::{Profiles, ProfilesDeps, ProfilesHandle};
use millrace_telemetry::Health;
use tokio_util::sync::CancellationToken;

use super::deadline::Deadline;
use super::recommending::features;
use super::{readiness, states};
use crate::config::Config;

/// The running consumer.
pub struct Profiling {
    /// What it has done, and the reader of profiles.
    pub profiles: Arc<ProfilesHandle>,
}

impl Profiling {
    /// Opens the state, joins the group and begins to work. `model_version` names the model whose
    /// vectors profiles are made of.
    ///
    /// # Errors
    /// Settings that can't work, a state that can't be opened.
    pub async fn start(
        config: &Config,
        kafka: &KafkaConfig,
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
            // What the features read is what profiles have to keep.
            fields: features(config, model_version)?.profile_settings().fields,
            config: config.profiles.clone(),
        })
        .await?;
        let consumer = profiles.consumer().health();
        readiness::follow_consumer(health.part("profiles"), consumer, failed.clone());
        readiness::follow_profiles(profiles.state(), failed.clone());
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
