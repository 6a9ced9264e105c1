//! What topics stand on: the embedded broker of this process, or the cluster's.

use millrace_broker::{Broker, BrokerConfig, BrokerError};
use millrace_kafka::{Admin, Created, KafkaConfig};

use crate::config::{Config, Profile};

/// The embedded broker or the cluster's, with all declared topics. `keep_members` as of [`embedded`].
///
/// # Errors
/// The embedded one can't be started, or the cluster's can't be reached.
pub async fn with_topics(
    config: &Config,
    keep_members: bool,
) -> anyhow::Result<(Option<Broker>, KafkaConfig)> {
    let (broker, kafka) = match config.profile {
        Profile::Cluster => {
            tracing::info!(bootstrap = config.kafka.bootstrap, "connecting to Kafka");
            (None, config.kafka.clone())
        }
        Profile::Embedded => {
            let broker = embedded(config, keep_members)?;
            let bootstrap = broker.bootstrap();
            let kafka = KafkaConfig {
                bootstrap,
                // One process at a time has the folder, so one stable member: after a kill it
                // has its partitions back at once instead of after the session time.
                group_instance_id: Some("embedded".to_owned()),
                ..config.kafka.clone()
            };
            (Some(broker), kafka)
        }
    };
    for topic in Admin::connect(&kafka)?.create_declared().await? {
        match topic.result {
            Created::Created => tracing::info!(topic = topic.topic, "topic created"),
            Created::Existing => {}
            Created::Differs { differences } => {
                tracing::warn!(
                    topic = topic.topic,
                    ?differences,
                    "topic differs from its declaration"
                );
            }
        }
    }
    Ok((broker, kafka))
}

/// Starts the embedded broker on the data folder. Members of groups go on where they were, or are forgotten
/// by who only looks: they were in the process that had the folder before.
///
/// # Errors
/// Another process has the folder, or the address is taken.
pub fn embedded(config: &Config, keep_members: bool) -> anyhow::Result<Broker> {
    let mut broker = BrokerConfig::new(config.data_dir.join("broker"));
    broker.keep_members = keep_members;
    broker.listen = config.broker.listen;
    Broker::start(broker).map_err(|error| {
        let context = match &error {
            BrokerError::Listen { .. } => {
                "can't start the embedded broker; set broker.listen (MILLRACE_BROKER__LISTEN) to \
                 another address, port 0 takes a free one"
            }
            _ => "can't start the embedded broker",
        };
        anyhow::Error::new(error).context(context)
    })
}

/// Stops the broker without holding up the runtime: it joins a thread.
pub async fn stop(broker: Broker) {
    if tokio::task::spawn_blocking(move || broker.stop())
        .await
        .is_err()
    {
        tracing::warn!("the embedded broker did not stop cleanly");
    }
}
