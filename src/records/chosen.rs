//! Some of a topic's records, chosen by place and key.

use anyhow::ensure;
use millrace_kafka::{Admin, KafkaConfig, ReadUntil, Record, TopicReader};

use super::place::Place;
use crate::keys::KeyPrefixes;

/// Which records are meant.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The topic's full name.
    pub topic: String,
    /// Where to begin.
    pub from: Place,
    /// What comes before this alone.
    pub to: Option<Place>,
    /// Only this partition.
    pub partition: Option<i32>,
    /// Only keys that begin so.
    pub key_prefixes: KeyPrefixes,
    /// Records of each partition that [`Place::End`] begins before its end, where it does not say.
    pub latest: usize,
    /// At most so many.
    pub count: usize,
    /// Where to stop at the latest.
    pub until: ReadUntil,
}

/// The records that are meant, one by one.
pub struct Chosen {
    choice: Choice,
    reader: TopicReader,
    left: usize,
}

impl Chosen {
    /// Begins to read.
    ///
    /// # Errors
    /// The topic or the partition is not there, or the brokers can't be reached.
    pub async fn open(choice: Choice, kafka: &KafkaConfig) -> anyhow::Result<Self> {
        let topic = &choice.topic;
        let there = Admin::connect(kafka)?.partitions(topic).await?;
        if let Some(partition) = choice.partition {
            ensure!(
                there.contains(&partition),
                "{topic} has no partition {partition}; it has {}",
                numbers(&there)
            );
        }
        let from = choice.from.begin(&there, choice.latest);
        Ok(Self {
            reader: TopicReader::open(kafka, topic, &from, choice.until).await?,
            left: choice.count,
            choice,
        })
    }

    /// The next one; `None` behind the last.
    ///
    /// # Errors
    /// The brokers refused the read.
    pub async fn next(&mut self) -> anyhow::Result<Option<Record>> {
        while self.left > 0 {
            let Some(record) = self.reader.next().await else {
                return Ok(None);
            };
            let record = record?;
            if self.choice.takes(&record) {
                self.left -= 1;
                return Ok(Some(record));
            }
        }
        Ok(None)
    }
}

impl Choice {
    fn takes(&self, record: &Record) -> bool {
        let is_partition = |partition| partition == record.partition;
        self.partition.is_none_or(is_partition)
            && self.to.as_ref().is_none_or(|to| to.is_before(record))
            && self.key_prefixes.begin(record.key.as_deref())
    }
}

fn numbers(partitions: &[i32]) -> String {
    let numbers: Vec<String> = partitions.iter().map(ToString::to_string).collect();
    numbers.join(", ")
}
