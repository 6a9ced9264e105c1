//! The parts that run in one process, started in the order of the dataflow's
//! needs and stopped in the order of the dataflow itself: first what brings
//! work in, then what does it, last what keeps it.

pub mod address;
mod metrics;
mod model;
pub mod stop;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use millrace_broker::{Broker, BrokerConfig};
use millrace_index::{BulkSink, EmbeddedIndex, IndexSpec, OpenSearchIndex, SearchIndex, SinkConfig};
use millrace_kafka::{Admin, Consumer, ConsumerConfig, DeadLetters, KafkaConfig, Producer, topics};
use millrace_models::Encoder;
use millrace_objects::ObjectStores;
use millrace_producers::{FolderWatch, NoticesConfig, Publisher, notices_router};
use millrace_telemetry::Health;
use millrace_vectorizer::{Vectorizer, VectorizerDeps, VectorizerHandle};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use self::address::RunningAddress;
use crate::api::{self, ApiState};
use crate::config::{Config, Profile};
use crate::session::Needs;

/// How long the vectorizer may finish what it has begun.
const DRAIN: Duration = Duration::from_secs(10);

/// The running parts.
pub struct Stack {
    address: RunningAddress,
    api: ApiServer,
    folders: Vec<FolderWatch>,
    pipeline: Option<Pipeline>,
    broker: Option<Broker>,
    failed: CancellationToken,
}

struct Pipeline {
    vectorizer: VectorizerHandle,
    producer: Producer,
}
