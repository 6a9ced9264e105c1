//! The consumer as a whole, and what it stands on.

use std::sync::Arc;
use std::time::Duration;

use millrace_kafka::{AdminError, ConsumerHandle, ConsumerState, Drained, KafkaConfig, Producer};
use millrace_schemas::SchemaRegistry;
use millrace_state::StateStore;
use millrace_stateful::{Deps, Refusals, RunState, StartError, StatefulConsumer, Work as _, group};
use tokio::sync::watch;

use crate::config::LabelerConfig;
use crate::partition::{LabelsAll, Shared};
use crate::stats::{Counters, LabelerStats, PartitionStats};
use crate::values::Offsets;

/// What the labeler stands on.
pub struct LabelerDeps {
    /// How to reach the brokers.
    pub kafka: KafkaConfig,
    /// For everything that is published.
    pub producer: Producer,
    /// For Confluent-framed values, where a registry is configured.
    pub registry: Option<Arc<dyn SchemaRegistry>>,
    /// Where answers are kept until nothing corrects them any more.
    pub state: Arc<dyn StateStore>,
    /// Settings.
    pub config: LabelerConfig,
}

/// The consumer of `impressions` and `behavior.by-request`.
pub struct Labeler;

/// The group that writes this generation of the state.
#[must_use]
pub fn labeler_group(kafka: &KafkaConfig, generation: u32) -> String {
    group(kafka, LabelsAll::NAME, generation)
}

impl Labeler {
    /// Joins the group and begins to work, on the live generation of the state.
    ///
    /// # Errors
    /// [`StartError`]; nothing was read or written.
    pub async fn start(deps: LabelerDeps) -> Result<LabelerHandle, StartError> {
        let LabelerDeps {
            kafka,
            producer,
            registry,
            state,
            config,
        } = deps;
        config
            .validate()
            .map_err(|error| StartError::Config(error.into()))?;
        let deps = Deps {
            kafka,
            producer: producer.clone(),
            state,
            batch_records: config.batch_records,
            batch_bytes: config.batch_bytes,
        };
        let labels = LabelsAll {
            shared: Arc::new(Shared {
                registry,
                refusals: Refusals::new(producer, LabelsAll::NAME, "label"),
                counters: Counters::default(),
                max_skew_ms: config.max_skew_ms,
            }),
            config,
        };
        let consumer = StatefulConsumer::start(deps, labels).await?;
        Ok(LabelerHandle { consumer })
    }
}

/// Watches and stops a running labeler. Dropped, it stops at once without waiting.
pub struct LabelerHandle {
    consumer: StatefulConsumer<LabelsAll>,
}

impl LabelerHandle {
    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> LabelerStats {
        let shared = &self.consumer.work().shared;
        let standings = self.consumer.standings().into_iter();
        let partitions = standings.map(|(partition, standing)| {
            let offsets = Offsets::from(&standing.position);
            let stats = PartitionStats {
                watermark_ms: standing.view,
                clicks_offset: offsets.clicks,
                impressions_offset: offsets.answers,
                started: standing.started,
            };
            (partition, stats)
        });
        LabelerStats {
            dead_lettered: shared.refusals.count(),
            refused_writes: self.consumer.refused_writes(),
            partitions: partitions.collect(),
            ..shared.counters.get()
        }
    }

    /// The consumer of `behavior.by-request`.
    #[must_use]
    pub fn consumer(&self) -> ConsumerHandle {
        self.consumer.member()
    }

    /// Whether that one works.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<ConsumerState> {
        self.consumer.health()
    }

    /// How it is.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<RunState> {
        self.consumer.state()
    }

    /// Takes all that the topics hold now as all there is: waits until it was applied, then ends all
    /// windows. For bounded inputs. Covers the partitions of this process.
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
