//! Making the topics that are declared, and comparing those that are there.

use std::collections::BTreeSet;
use std::time::Instant;

use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::{MetadataPartition, MetadataTopic};

use super::{
    Admin, AdminError, SETTLE_INTERVAL, SETTLE_TIMEOUT, TopicDescription, failed, options,
};
use crate::topics::{self, TopicSpec};

/// What became of a declared topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// It was made.
    Created,
    /// It is there as declared.
    Existing,
    /// It is there and differs; nothing was changed.
    Differs {
        /// `setting: declared X, found Y`, one for each.
        differences: Vec<String>,
    },
}

/// A declared topic and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateReport {
    /// The topic's full name.
    pub topic: String,
    /// What became of it.
    pub result: Created,
}

impl Admin {
    /// Makes the declared topics that are missing; reports, and does not change, those that differ.
    ///
    /// # Errors
    /// The brokers cannot be reached, or refuse a topic.
    pub async fn create_declared(&self) -> Result<Vec<CreateReport>, AdminError> {
        let made = self.create_missing(|_| true).await?;
        let mut reports = Vec::new();
        for spec in topics::declared() {
            let topic = self.config.topic(&spec.name);
            let result = if made.contains(&topic) {
                Created::Created
            } else {
                compare(spec, &self.describe(&topic).await?)
            };
            reports.push(CreateReport { topic, result });
        }
        Ok(reports)
    }

    /// Makes these declared topics where they are missing. Who may not make topics needs them to be there.
    ///
    /// # Errors
    /// The brokers cannot be reached, or refuse a topic.
    pub async fn create_named(&self, names: &[&str]) -> Result<(), AdminError> {
        let is_named = |spec: &TopicSpec| names.contains(&spec.name.as_str());
        self.create_missing(is_named).await.map(drop)
    }

    async fn create_missing(
        &self,
        is_meant: impl Fn(&TopicSpec) -> bool,
    ) -> Result<BTreeSet<String>, AdminError> {
        let existing = self.list().await?;
        let is_missing = |spec: &&TopicSpec| !existing.contains(&self.config.topic(&spec.name));
        let declared = topics::declared().iter().filter(|spec| is_meant(spec));
        let missing: Vec<_> = declared.filter(is_missing).collect();
        self.create(&missing).await
    }

    /// What [`create_declared`](Self::create_declared) would report; makes nothing.
    ///
    /// # Errors
    /// The brokers cannot be reached.
    pub async fn compare_declared(&self) -> Result<Vec<CreateReport>, AdminError> {
        let existing = self.list().await?;
        let mut reports = Vec::new();
        for spec in topics::declared() {
            let topic = self.config.topic(&spec.name);
            let result = if existing.contains(&topic) {
                compare(spec, &self.describe(&topic).await?)
            } else {
                Created::Created
            };
            reports.push(CreateReport { topic, result });
        }
        Ok(reports)
    }

    /// Makes one topic as `spec` says, where it is missing. For another number of partitions than
    /// the declared one.
    ///
    /// # Errors
    /// The brokers cannot be reached, or refuse it.
    pub async fn create_topic(&self, spec: &TopicSpec) -> Result<(), AdminError> {
        self.create(&[spec]).await.map(drop)
    }

    /// Makes all of these in one request, which a busy cluster answers as soon as one for a single topic.
    /// The full names of those that it made; others have come to be meanwhile.
    async fn create(&self, specs: &[&TopicSpec]) -> Result<BTreeSet<String>, AdminError> {
        let mut made = BTreeSet::new();
        if specs.is_empty() {
            return Ok(made);
        }
        let names: Vec<String> = specs
            .iter()
            .map(|spec| self.config.topic(&spec.name))
            .collect();
        let settings: Vec<_> = specs.iter().map(|spec| spec.settings()).collect();
        let new = specs.iter().zip(&names).zip(&settings);
        let new = new.map(|((spec, name), settings)| {
            // The brokers' own default, so that one file serves one broker and a cluster.
            let replication = TopicReplication::Fixed(-1);
            settings.iter().fold(
                NewTopic::new(name, spec.partitions, replication),
                |new, (setting, value)| new.set(setting, value),
            )
        });
        let new: Vec<NewTopic<'_>> = new.collect();
        let asked = self.admin.create_topics(&new, &options()).await;
        let results = asked.map_err(failed(format!("create the topics {}", names.join(", "))))?;
        for result in results {
            match result {
                Ok(topic) => {
                    made.insert(topic);
                }
                // Another process made it a moment ago.
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => {
                    let source = KafkaError::AdminOp(code);
                    return Err(failed(format!("create the topic {topic}"))(source));
                }
            }
        }
        for (spec, topic) in specs.iter().zip(&names) {
            let partitions = made.contains(topic).then_some(spec.partitions);
            self.until_led(topic, partitions).await?;
        }
        Ok(made)
    }

    /// Waits until the brokers tell of a topic just made, with a leader for each partition, of which
    /// there are `partitions` where that is known.
    async fn until_led(&self, topic: &str, partitions: Option<i32>) -> Result<(), AdminError> {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        loop {
            let metadata = self.metadata(Some(topic)).await?;
            let found = metadata.topics().iter().flat_map(MetadataTopic::partitions);
            let leaders: Vec<i32> = found.map(MetadataPartition::leader).collect();
            let all_led = !leaders.is_empty() && leaders.iter().all(|&leader| leader >= 0);
            let all_there =
                partitions.is_none_or(|wanted| i32::try_from(leaders.len()) == Ok(wanted));
            if all_led && all_there {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let source = KafkaError::MetadataFetch(RDKafkaErrorCode::LeaderNotAvailable);
                return Err(failed(format!("use the new topic {topic}"))(source));
            }
            tokio::time::sleep(SETTLE_INTERVAL).await;
        }
    }
}

fn compare(spec: &TopicSpec, found: &TopicDescription) -> Created {
    let mut differences = Vec::new();
    let partitions = found.partitions.len();
    if i32::try_from(partitions) != Ok(spec.partitions) {
        differences.push(format!(
            "partitions: declared {}, found {partitions}",
            spec.partitions
        ));
    }
    for (setting, declared) in spec.settings() {
        match found.settings.get(setting) {
            Some(value) if *value == declared => {}
            Some(value) => {
                differences.push(format!("{setting}: declared {declared}, found {value}"));
            }
            None => differences.push(format!(
                "{setting}: declared {declared}, not told by the brokers"
            )),
        }
    }
    if differences.is_empty() {
        Created::Existing
    } else {
        Created::Differs { differences }
    }
}
