//! The consumer as a whole, and what it stands on.

use std::sync::Arc;
use std::time::Duration;

use millrace_features::Field;
use millrace_kafka::{AdminError, ConsumerHandle, ConsumerState, Drained, KafkaConfig, Producer};
use millrace_schemas::SchemaRegistry;
use millrace_state::StateStore;
use millrace_stateful::{
    Deps, Rebuild, Refusals, RunState, StartError, StatefulConsumer, Work as _, group,
};
use tokio::sync::watch;

use crate::apply::Applies;
use crate::config::ProfilesConfig;
use crate::partition::{Keeps, Shared};
use crate::reader::ProfileReader;
use crate::space::{ItemVectors, Space};
use crate::stats::{Counters, PartitionStats, ProfilesStats};
use crate::values;

/// What the consumer stands on.
pub struct ProfilesDeps {
    /// How to reach the brokers.
    pub kafka: KafkaConfig,
    /// For dead letters.
    pub producer: Producer,
    /// For Confluent-framed values, where a registry is configured.
    pub registry: Option<Arc<dyn SchemaRegistry>>,
    /// Where profiles are kept.
    pub state: Arc<dyn StateStore>,
    /// The model whose vectors profiles are made of.
    pub model_version: String,
    /// Where to find what that model made of items that a profile knows by another model's vectors;
    /// without it a profile's vectors begin anew with a new model.
    pub vectors: Option<Arc<dyn ItemVectors>>,
    /// The fields to whose values profiles have affinities, as the declared features want them.
    pub fields: Vec<Field>,
    /// Settings.
    pub config: ProfilesConfig,
}

/// The consumer of `feedback`.
pub struct Profiles;

/// The group that writes this generation of the state.
#[must_use]
pub fn profiles_group(kafka: &KafkaConfig, generation: u32) -> String {
    group(kafka, Keeps::NAME, generation)
}

impl Profiles {
    /// Joins the group and begins to work, on the live generation of the state.
    ///
    /// # Errors
    /// [`StartError`]; nothing was read or written.
    pub async fn start(deps: ProfilesDeps) -> Result<ProfilesHandle, StartError> {
        let ProfilesDeps {
            kafka,
            producer,
            registry,
            state,
            model_version,
            vectors,
            fields,
            config,
        } = deps;
        config
            .validate()
            .map_err(|error| StartError::Config(error.into()))?;
        let space = Space {
            model_version: model_version.clone(),
            vectors,
        };
        let keeps = Keeps {
            shared: Arc::new(Shared {
                registry,
                refusals: Refusals::new(producer.clone(), Keeps::NAME, "profile"),
                counters: Counters::default(),
            }),
            space: space.clone(),
            applying: Applies {
                settings: config.settings(fields),
                model_version,
                deduplication_hours: config.deduplication_hours,
                cached_users: config.cached_users,
            },
        };
        let deps = Deps {
            kafka,
            producer,
            state: Arc::clone(&state),
            batch_records: config.batch_records,
            batch_bytes: config.batch_bytes,
        };
        let consumer = StatefulConsumer::start(deps, keeps).await?;
        let reader = ProfileReader::within(Some(space), state, consumer.partition_count());
        Ok(ProfilesHandle { consumer, reader })
    }
}

/// Watches and stops a running consumer. Dropped, it stops at once without waiting.
pub struct ProfilesHandle {
    consumer: StatefulConsumer<Keeps>,
    reader: ProfileReader,
}

impl ProfilesHandle {
    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> ProfilesStats {
        let shared = &self.consumer.work().shared;
        let standings = self.consumer.standings().into_iter();
        let partitions = standings.map(|(partition, standing)| {
            let offset = values::offset(&standing.position);
            (partition, PartitionStats { offset })
        });
        let (applied, duplicates) = shared.counters.get();
        ProfilesStats {
            applied,
            duplicates,
            dead_lettered: shared.refusals.count(),
            refused_writes: self.consumer.refused_writes(),
            partitions: partitions.collect(),
        }
    }

    /// How it is.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<RunState> {
        self.consumer.state()
    }

    /// The consumer of `feedback`.
    #[must_use]
    pub fn consumer(&self) -> ConsumerHandle {
        self.consumer.member()
    }

    /// Whether that one works, whichever generation's it is.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<ConsumerState> {
        self.consumer.health()
    }

    /// Its state, to be built anew.
    #[must_use]
    pub fn rebuilds(&self) -> &dyn Rebuild {
        &self.consumer
    }

    /// Reads the profiles of all members, of the live generation, in the space of this one's model.
    #[must_use]
    pub fn reader(&self) -> ProfileReader {
        self.reader.clone()
    }

    /// Waits until all that `feedback` holds now is applied. Covers the partitions of this process.
    ///
    /// # Errors
    /// The brokers cannot be asked.
    pub async fn end_of_input(&self) -> Result<(), AdminError> {
        self.consumer.end_of_input().await
    }

    /// Takes nothing more, finishes what was begun within `deadline`, commits, leaves the group.
    pub async fn shutdown(&self, deadline: Duration) -> Drained {
        self.consumer.shutdown(deadline).await
    }
}
