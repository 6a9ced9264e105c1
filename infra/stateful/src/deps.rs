//! What a stateful consumer stands on, and why it does not start.

use std::sync::Arc;

use millrace_kafka::{Admin, AdminError, ConsumerError, KafkaConfig, Producer};
use millrace_state::{StateError, StateStore};

use crate::work::Work;

/// What a stateful consumer stands on.
#[derive(Clone)]
pub struct Deps {
    /// How to reach the brokers.
    pub kafka: KafkaConfig,
    /// For everything that is published.
    pub producer: Producer,
    /// Where the state is kept.
    pub state: Arc<dyn StateStore>,
    /// Most records that one write covers.
    pub batch_records: usize,
    /// Most bytes of records that one write covers.
    pub batch_bytes: usize,
}

/// Why a stateful consumer does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting cannot work.
    #[error(transparent)]
    Config(Box<dyn std::error::Error + Send + Sync>),
    /// The brokers cannot be asked, or a topic is missing.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// A consumer cannot be created.
    #[error(transparent)]
    Consumer(#[from] ConsumerError),
    /// The state cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The topics that are joined are not partitioned alike.
    #[error(
        "{own} has {own_partitions} partitions and {beside} has {beside_partitions}, so records of one key \
         are not side by side. Partitions can't be taken away: make both topics anew with one count under \
         another kafka.topic_prefix, publish there again what they are made of (for signals the corpus), \
         mirror `behavior` into it, and start the {consumer} on it; its state is built from the topics"
    )]
    NotCopartitioned {
        /// Who joins them.
        consumer: &'static str,
        /// Full name of the consumer's own topic.
        own: String,
        /// Its partitions.
        own_partitions: usize,
        /// Full name of the topic beside.
        beside: String,
        /// Its partitions.
        beside_partitions: usize,
    },
}

/// The group of `consumer` that writes this generation of its state.
#[must_use]
pub fn group(kafka: &KafkaConfig, consumer: &str, generation: u32) -> String {
    format!("{}{generation:06}", group_prefix(kafka, consumer))
}

/// How the groups of all generations of a consumer's state begin.
#[must_use]
pub fn group_prefix(kafka: &KafkaConfig, consumer: &str) -> String {
    format!("{}{consumer}.", kafka.topic_prefix)
}

/// Equal partition counts, so that one partitioner puts the records of a key side by side.
pub(crate) async fn check_partitions<W: Work>(
    kafka: &KafkaConfig,
    admin: &Admin,
) -> Result<i32, StartError> {
    let own = kafka.topic(W::TOPIC);
    let own_partitions = admin.partitions(&own).await?.len();
    if let Some(beside) = W::BESIDE {
        let beside = kafka.topic(beside);
        let beside_partitions = admin.partitions(&beside).await?.len();
        if own_partitions != beside_partitions {
            return Err(StartError::NotCopartitioned {
                consumer: W::NAME,
                own,
                own_partitions,
                beside,
                beside_partitions,
            });
        }
    }
    Ok(i32::try_from(own_partitions).unwrap_or(i32::MAX))
}
