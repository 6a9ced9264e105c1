//! How a command reaches the pipeline: the `up` that runs on its data folder,
//! or else a stack of its own for as long as the command takes.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{anyhow, bail};
use millrace_broker::Broker;
use millrace_kafka::{Admin, KafkaConfig};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::api::client::ApiClient;
use crate::config::{Config, Profile};
use crate::stack::address::RunningAddress;
use crate::stack::{Needs, Stack, broker};

/// A pipeline to speak to.
pub struct Session {
    /// Its API.
    pub api: ApiClient,
    /// Its topics; without the pipeline, in the embedded profile, nothing listens there.
    pub kafka: KafkaConfig,
    own: Option<Stack>,
    /// Cancelled when the pipeline is gone: this process's own, or the `up` that was reached.
    gone: CancellationToken,
    /// Ends the watch over that `up` with the session.
    _watch: Option<DropGuard>,
}

/// How often it is asked whether the `up` that was reached still runs.
const LOOK_EVERY: Duration = Duration::from_millis(500);

impl Session {
    /// Reaches the running `up`, or starts what is needed in this process.
    ///
    /// # Errors
    /// A part can't be started, or the data folder is another process's.
    pub async fn attach_or_start(config: &Config, needs: Needs) -> anyhow::Result<Self> {
        // What has no pipeline only looks, and must not make what it looks for.
        if !needs.pipeline {
            require_data_folder(config)?;
        }
        if let Some(address) = RunningAddress::read(&config.data_dir)? {
            let gone = CancellationToken::new();
            tracing::info!(pid = address.pid, api = address.api, "using the running up");
            return Ok(Self {
                api: ApiClient::new(&address)?,
                kafka: kafka_of(config, &address),
                own: None,
                gone: gone.clone(),
                _watch: Some(watch(config, address, gone)),
            });
        }
        let stack = Stack::start(&on_free_ports(config), needs).await?;
        let address = stack.address();
        Ok(Self {
            api: ApiClient::new(address)?,
            kafka: kafka_of(config, address),
            gone: stack.failed(),
            own: Some(stack),
            _watch: None,
        })
    }

    /// Returns when the pipeline is gone, with what to say of it.
    pub async fn gone(&self) -> anyhow::Error {
        self.gone.cancelled().await;
        if self.own.is_some() {
            return anyhow!("the vectorizer stopped; the log says why");
        }
        anyhow!(
            "the `up` that this command spoke to has stopped; what was published stays in its data \
             folder and goes on with the next `millrace up`, then run the command again for the rest"
        )
    }

    /// Waits until what this session started can work; a running `up` is taken as it is.
    pub async fn ready(&self) {
        if let Some(stack) = &self.own {
            stack.ready().await;
        }
    }

    /// Whether the pipeline is this process's own: it leaves what its configuration may not read.
    pub fn is_own(&self) -> bool {
        self.own.is_some()
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
    /// Ends the watch over brokers that do not answer with the session.
    _watch: Option<DropGuard>,
}

/// How long brokers may leave a command without an answer before it says so.
const SILENCE: Duration = Duration::from_secs(3);

impl TopicsSession {
    /// Reaches the running `up`'s topics, the cluster's, or starts the embedded broker.
    ///
    /// # Errors
    /// There is no data folder, the broker can't be started, or the folder is another process's.
    pub fn attach_or_start(config: &Config) -> anyhow::Result<Self> {
        require_data_folder(config)?;
        Self::attach_or_make(config)
    }

    /// As [`attach_or_start`](Self::attach_or_start), making the data folder where there is none.
    ///
    /// # Errors
    /// The broker can't be started, or the data folder is another process's.
    pub fn attach_or_make(config: &Config) -> anyhow::Result<Self> {
        if let Some(address) = RunningAddress::read(&config.data_dir)? {
            let kafka = kafka_of(config, &address);
            return Ok(Self {
                _watch: Some(tell_silence(&kafka)?),
                kafka,
                own: None,
            });
        }
        if config.profile == Profile::Cluster {
            return Ok(Self {
                _watch: Some(tell_silence(&config.kafka)?),
                kafka: config.kafka.clone(),
                own: None,
            });
        }
        let broker = broker::embedded(&on_free_ports(config), false)?;
        let kafka = KafkaConfig {
            bootstrap: broker.bootstrap(),
            ..config.kafka.clone()
        };
        Ok(Self {
            kafka,
            own: Some(broker),
            _watch: None,
        })
    }

    /// Stops the broker if this session started it.
    pub async fn close(self) {
        if let Some(broker) = self.own {
            broker::stop(broker).await;
        }
    }
}

/// Says once that brokers are waited for, where they give no answer: a request has its time-out, and
/// until then the terminal would be silent.
fn tell_silence(kafka: &KafkaConfig) -> anyhow::Result<DropGuard> {
    let admin = Admin::connect(kafka)?;
    let brokers = kafka.bootstrap.clone();
    let ended = CancellationToken::new();
    let watching = async move {
        if tokio::time::timeout(SILENCE, admin.list()).await.is_err() {
            eprintln!("waiting for the brokers at {brokers}…");
        }
    };
    tokio::spawn(ended.clone().run_until_cancelled_owned(watching));
    Ok(ended.drop_guard())
}

/// Cancels `gone` once the process at `address` runs no more, or another has its place.
fn watch(config: &Config, address: RunningAddress, gone: CancellationToken) -> DropGuard {
    let ended = CancellationToken::new();
    let data_dir = config.data_dir.clone();
    let watching = async move {
        // A folder that cannot be read for a moment says nothing of the process.
        while RunningAddress::read(&data_dir).map_or(true, |now| now.as_ref() == Some(&address)) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        gone.cancel();
    };
    tokio::spawn(ended.clone().run_until_cancelled_owned(watching));
    ended.drop_guard()
}

fn require_data_folder(config: &Config) -> anyhow::Result<()> {
    if config.profile == Profile::Embedded && !config.data_dir.is_dir() {
        bail!(
            "no data folder at {}; `millrace up` or `millrace ingest` makes one, and --data names another",
            config.data_dir.display()
        );
    }
    Ok(())
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
