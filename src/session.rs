//! How a command reaches the pipeline: the `up` that runs on its data folder,
//! or else a stack of its own for as long as the command takes.

use std::net::{Ipv4Addr, SocketAddr};

use millrace_broker::Broker;
use millrace_kafka::KafkaConfig;
use tokio_util::sync::CancellationToken;

use crate::api::client::ApiClient;
use crate::config::{Config, Profile};
use crate::stack::address::RunningAddress;
use crate::stack::{Needs, Stack, embedded_broker, stop_broker};

/// A pipeline to speak to.
pub struct Session {
    /// Its API.
    pub api: ApiClient,
    /// Its topics; without the pipeline, in the embedded profile, nothing listens there.
    pub kafka: KafkaConfig,
    own: Option<Stack>,
}

impl Session {
    /// Reaches the running `up`, or starts what is needed in this process.
    ///
    /// # Errors
    /// A part can't be started, or the data folder is another process's.
    pub async fn attach_or_start(config: &Config, needs: Needs) -> anyhow::Result<Self> {
        if let Some(address) = RunningAddress::read(&config.data_dir)? {
            tracing::info!(pid = address.pid, api = address.api, "using the running up");
            return Ok(Self {
                api: ApiClient::new(&address)?,
                kafka: kafka_of(config, &address),
                own: None,
            });
        }
        let stack = Stack::start(&on_free_ports(config), needs).await?;
        let address = stack.address();
        Ok(Self {
            api: ApiClient::new(address)?,
            kafka: kafka_of(config, address),
            own: Some(stack),
        })
    }

    /// Cancelled when this process's own stack can't go on; never for a running `up`.
    pub fn failed(&self) -> CancellationToken {
        self.own
            .as_ref()
            .map_or_else(CancellationToken::new, Stack::failed)
    }

    /// Stops what this session started; a running `up` goes on.
    pub async fn close(self) {
        if let Some(stack) = self.own {
            stack.shutdown().await;
        }
    }
}

/// The topics alone, for commands that need neither index nor encoder.
pub struct TopicsSession {
    /// Where the topics are.
    pub kafka: KafkaConfig,
    own: Option<Broker>,
}

impl TopicsSession {
    /// Reaches the running `up`'s topics, the cluster's, or starts the embedded broker.
    ///
    /// # Errors
    /// The broker can't be started, or the data folder is another process's.
    pub fn attach_or_start(config: &Config) -> anyhow::Result<Self> {
        if let Some(address) = RunningAddress::read(&config.data_dir)? {
            return Ok(Self {
                kafka: kafka_of(config, &address),
                own: None,
            });
        }
        if config.profile == Profile::Cluster {
            return Ok(Self {
                kafka: config.kafka.clone(),
                own: None,
            });
        }
        let broker = embedded_broker(&on_free_ports(config))?;
        let kafka = KafkaConfig {
            bootstrap: broker.bootstrap(),
            ..config.kafka.clone()
        };
        Ok(Self {
            kafka,
            own: Some(broker),
        })
    }

    /// Stops the broker if this session started it.
    pub async fn close(self) {
        if let Some(broker) = self.own {
            stop_broker(broker).await;
        }
    }
}

fn kafka_of(config: &Config, address: &RunningAddress) -> KafkaConfig {
    KafkaConfig {
        bootstrap: address.kafka.clone(),
        topic_prefix: address.topic_prefix.clone(),
        ..config.kafka.clone()
    }
}

/// A command's own stack must not take the ports that an `up` elsewhere uses.
fn on_free_ports(config: &Config) -> Config {
    let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut config = config.clone();
    config.api.listen = free;
    config.broker.listen = free;
    config
}
