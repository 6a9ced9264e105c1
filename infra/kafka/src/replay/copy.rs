//! Records once more on another topic, byte for byte.

use crate::producer::Enqueued;
use crate::{
    Admin, AdminError, KafkaConfig, ProduceError, Producer, RawRecord, Record, RecordPosition,
};

/// Copies records to one topic.
#[derive(Clone)]
pub struct Copier {
    producer: Producer,
    topic: String,
    /// Whether source and target have the same number of partitions.
    same_partitions: bool,
}

/// What became of records that were copied together.
#[derive(Debug, Default)]
pub struct Copied {
    /// Where they are now, in their order; those that were refused are left out.
    pub written: Vec<RecordPosition>,
    /// Those that the topic can never take, by their place among the records.
    pub refused: Vec<(usize, ProduceError)>,
}

impl Copier {
    /// From one topic to another, both by full name.
    ///
    /// Where both have the same number of partitions a record keeps its own: so copies stay beside what
    /// is partitioned like them, also those whose keys alone would put them elsewhere (`signals`).
    /// Otherwise the key decides, as for every producer.
    ///
    /// # Errors
    /// One of them is not there, or the brokers cannot be reached.
    pub async fn open(
        kafka: &KafkaConfig,
        producer: Producer,
        source: &str,
        target: &str,
    ) -> Result<Self, AdminError> {
        let admin = Admin::connect(kafka)?;
        let (source, partitions) =
            tokio::try_join!(admin.partitions(source), admin.partitions(target))?;
        Ok(Self {
            producer,
            topic: target.to_owned(),
            same_partitions: source == partitions,
        })
    }

    /// Whether a record keeps its partition.
    #[must_use]
    pub fn keeps_partitions(&self) -> bool {
        self.same_partitions
    }

    /// Copies records with key, value, headers and timestamp as they are, and waits until all are
    /// acknowledged. Of one partition they stay in order.
    ///
    /// # Errors
    /// The brokers did not acknowledge one: all of them may be written or not.
    pub async fn copy(&self, records: &[Record]) -> Result<Copied, ProduceError> {
        let mut copied = Copied::default();
        let mut enqueued: Vec<(usize, Enqueued)> = Vec::with_capacity(records.len());
        for (place, record) in records.iter().enumerate() {
            let partition = self.same_partitions.then_some(record.partition);
            match self.producer.enqueue_in(self.raw(record), partition).await {
                Ok(waiting) => enqueued.push((place, waiting)),
                Err(error @ ProduceError::Rejected { .. }) => copied.refused.push((place, error)),
                Err(error) => return Err(error),
            }
        }
        for (place, waiting) in enqueued {
            match waiting.acknowledged().await {
                Ok(position) => copied.written.push(position),
                Err(error @ ProduceError::Rejected { .. }) => copied.refused.push((place, error)),
                Err(error) => return Err(error),
            }
        }
        Ok(copied)
    }

    fn raw(&self, record: &Record) -> RawRecord {
        RawRecord {
            topic: self.topic.clone(),
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.clone(),
            timestamp_ms: record.timestamp_ms,
            partition_key: None,
        }
    }
}
