//! How to reach the brokers, and which client settings the delivery promise rests on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use rdkafka::ClientConfig;
use serde::{Deserialize, Serialize};

/// How to reach Kafka.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaConfig {
    /// `host:port` of some brokers, comma-separated. Default `127.0.0.1:9092`.
    pub bootstrap: String,
    /// Goes before every topic's name. Default `millrace.`.
    pub topic_prefix: String,
    /// Names this process in the brokers' logs and quotas; each client adds its role and a number.
    /// Default `millrace`.
    pub client_id: String,
    /// A stable name of this group member, where the process has one: after a crash it gets its
    /// partitions back at once instead of after the session time of 45 s. Unique in the group.
    pub group_instance_id: Option<String>,
    /// A Confluent-compatible schema registry. Where set, values are written in its framing.
    pub schema_registry_url: Option<String>,
    /// Further librdkafka properties, e.g. `security.protocol`. Those that would break the
    /// delivery promise are refused.
    pub librdkafka_options: BTreeMap<String, String>,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            bootstrap: "127.0.0.1:9092".to_owned(),
            topic_prefix: "millrace.".to_owned(),
            client_id: "millrace".to_owned(),
            group_instance_id: None,
            schema_registry_url: None,
            librdkafka_options: BTreeMap::new(),
        }
    }
}

/// Why a [`KafkaConfig`] cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// An option that would break what this crate promises.
    #[error("`kafka.librdkafka_options.{option}` is refused: {reason}")]
    RefusedOption {
        /// The librdkafka property.
        option: String,
        /// What it would break, and what to use instead.
        reason: &'static str,
    },
    /// A setting has no usable value.
    #[error("`kafka.{setting}` {rule}")]
    Invalid {
        /// The field.
        setting: &'static str,
        /// What it must be.
        rule: &'static str,
    },
}

const TRACKED: &str = "offsets are stored by the tracker alone, or records would be lost";
const UNIFORM: &str = "producers in other languages must choose the same partition for a key";
const DURABLE: &str = "a send is answered only after every in-sync replica has the record";
const FIELD: &str = "it has a setting of its own under `kafka`";

/// Properties that users may not set, with the reason.
const REFUSED: &[(&str, &str)] = &[
    ("acks", DURABLE),
    ("auto.commit.enable", TRACKED),
    (
        "auto.offset.reset",
        "a new group starts at the oldest record, or it would miss documents",
    ),
    ("bootstrap.servers", FIELD),
    ("check.crcs", "a damaged record must not be processed"),
    ("client.id", FIELD),
    (
        "delivery.report.only.error",
        "a send waits for its delivery report",
    ),
    ("enable.auto.commit", TRACKED),
    ("enable.auto.offset.store", TRACKED),
    (
        "enable.idempotence",
        "without it a retry may duplicate or reorder records",
    ),
    ("enable.partition.eof", "reading up to an end depends on it"),
    ("group.id", "a consumer group belongs to a role"),
    ("group.instance.id", FIELD),
    (
        "isolation.level",
        "records of aborted transactions must not be processed",
    ),
    ("metadata.broker.list", FIELD),
    ("offset.store.method", TRACKED),
    (
        "partition.assignment.strategy",
        "members of a group must agree on cooperative-sticky",
    ),
    ("partitioner", UNIFORM),
    ("request.required.acks", DURABLE),
    (
        "transactional.id",
        "two producers with one id would fence each other",
    ),
];

const FETCH_QUEUE_BACKOFF_MS: &str = "10";

/// Makes each client's `client.id` unique within the process.
static NEXT_CLIENT: AtomicU64 = AtomicU64::new(1);

impl KafkaConfig {
    /// The full name of the topic that is declared as `name`.
    #[must_use]
    pub fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.topic_prefix)
    }

    /// Checks all settings that can be checked without a broker.
    ///
    /// # Errors
    /// Names the first setting that cannot be used.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.bootstrap.trim().is_empty() {
            return Err(ConfigError::Invalid {
                setting: "bootstrap",
                rule: "must name a broker",
            });
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if self.topic_prefix.len() > 100 || !self.topic_prefix.chars().all(allowed) {
            return Err(ConfigError::Invalid {
                setting: "topic_prefix",
                rule: "must be at most 100 letters, digits, dots, dashes and underscores",
            });
        }
        for option in self.librdkafka_options.keys() {
            if let Some((_, reason)) = REFUSED.iter().find(|(refused, _)| refused == option) {
                return Err(ConfigError::RefusedOption {
                    option: option.clone(),
                    reason,
                });
            }
        }
        Ok(())
    }

    fn client(&self, role: &str) -> Result<ClientConfig, ConfigError> {
        self.validate()?;
        let number = NEXT_CLIENT.fetch_add(1, Ordering::Relaxed);
        let client_id = format!("{}-{role}-{}-{number}", self.client_id, std::process::id());
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &self.bootstrap)
            .set("client.id", client_id)
            // A broker that restarts is tried again within a second, not within ten.
            .set("reconnect.backoff.max.ms", "1000");
        Ok(client)
    }

    fn with_options(&self, mut client: ClientConfig) -> ClientConfig {
        for (option, value) in &self.librdkafka_options {
            client.set(option, value);
        }
        client
    }

    /// For administrative requests.
    pub(crate) fn admin_client(&self) -> Result<ClientConfig, ConfigError> {
        Ok(self.with_options(self.client("admin")?))
    }

    /// For a member of `group`, whose offsets the tracker stores.
    pub(crate) fn group_client(&self, group: &str) -> Result<ClientConfig, ConfigError> {
        let mut client = self.client(group)?;
        client
            .set("group.id", group)
            .set("enable.auto.offset.store", "false")
            // Commits what the tracker stored, in the background; replayed after a crash is then
            // about a second's work.
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", "1000")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            .set("check.crcs", "true")
            // A topic or partition that is made later is found within this time.
            .set("topic.metadata.refresh.interval.ms", "10000")
            .set("max.poll.interval.ms", "300000")
            .set("queued.max.messages.kbytes", "32768")
            .set("queued.min.messages", "1000")
            // How long a partition whose local queue is full waits before it fetches again. The
            // default of 1000 ms cut a backlog of 100k records from 91k/s to 9.5k/s.
            .set("fetch.queue.backoff.ms", FETCH_QUEUE_BACKOFF_MS)
            .set("statistics.interval.ms", "5000");
        // KIP-848 moves both to the brokers, and librdkafka refuses them then.
        if self
            .librdkafka_options
            .get("group.protocol")
            .is_none_or(|protocol| protocol != "consumer")
        {
            client
                .set("partition.assignment.strategy", "cooperative-sticky")
                .set("session.timeout.ms", "45000");
        }
        if let Some(instance) = &self.group_instance_id {
            client.set("group.instance.id", instance);
        }
        Ok(self.with_options(client))
    }

    /// For reading outside any group. librdkafka wants a group id for `assign`, never uses it.
    pub(crate) fn reader_client(&self) -> Result<ClientConfig, ConfigError> {
        let mut client = self.client("reader")?;
        client
            .set("group.id", "millrace-reader")
            .set("enable.auto.offset.store", "false")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            .set("check.crcs", "true")
            .set("queued.max.messages.kbytes", "16384")
            .set("fetch.queue.backoff.ms", FETCH_QUEUE_BACKOFF_MS);
        Ok(self.with_options(client))
    }

    /// For reading single records, for their time: brokers are asked for little, often while they have much
    /// to do. A batch comes whole however small the limit is.
    pub(crate) fn ages_client(&self) -> Result<ClientConfig, ConfigError> {
        let mut client = self.reader_client()?;
        client
            .set("fetch.message.max.bytes", "16384")
            .set("queued.min.messages", "1");
        Ok(client)
    }

    /// For committing offsets in the name of `group` without joining it.
    pub(crate) fn offsets_client(&self, group: &str) -> Result<ClientConfig, ConfigError> {
        let mut client = self.reader_client()?;
        client.set("group.id", group);
        Ok(client)
    }

    /// For a producer.
    pub(crate) fn producer_client(&self) -> Result<ClientConfig, ConfigError> {
        let mut client = self.client("producer")?;
        client
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("compression.type", "zstd")
            .set("linger.ms", "5")
            // librdkafka's own default is CRC32: Java producers would put the same key elsewhere.
            .set("partitioner", "murmur2_random")
            // The largest that `topics.toml` allows anywhere; the broker holds each topic's limit.
            .set("message.max.bytes", "4194304")
            .set("message.timeout.ms", "120000");
        Ok(self.with_options(client))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_option(option: &str, value: &str) -> KafkaConfig {
        KafkaConfig {
            librdkafka_options: BTreeMap::from([(option.to_owned(), value.to_owned())]),
            ..KafkaConfig::default()
        }
    }

    #[test]
    fn an_option_that_breaks_the_promise_is_refused_by_name() {
        for (option, _) in REFUSED {
            let error = with_option(option, "x").validate().expect_err(option);
            assert!(error.to_string().contains(option), "{error}");
        }
        assert_eq!(with_option("security.protocol", "ssl").validate(), Ok(()));
    }

    #[test]
    fn the_consumer_protocol_is_opt_in() {
        let classic = KafkaConfig::default().group_client("g").expect("valid");
        assert_eq!(
            classic.get("partition.assignment.strategy"),
            Some("cooperative-sticky")
        );
        let kip_848 = with_option("group.protocol", "consumer")
            .group_client("g")
            .expect("valid");
        assert_eq!(kip_848.get("partition.assignment.strategy"), None);
        assert_eq!(kip_848.get("session.timeout.ms"), None);
    }

    #[test]
    fn every_client_has_its_own_id() {
        let config = KafkaConfig::default();
        let id = || {
            config
                .producer_client()
                .expect("valid")
                .get("client.id")
                .map(str::to_owned)
        };
        assert_ne!(id(), id());
    }
}
