//! Reading a topic outside any group: from anywhere, to its present end or on and on.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc;

use crate::admin::{AdminError, REQUEST_TIMEOUT};
use crate::{Admin, ConfigError, KafkaConfig, Record};

/// Records that wait for a slow caller.
const BUFFERED_RECORDS: usize = 256;
/// How soon the reading thread notices that nobody listens any more.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);

/// Where to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// The oldest record.
    Beginning,
    /// After the newest record.
    End,
    /// This many offsets before the end, in each partition.
    Latest(u64),
    /// The first record of this time (ms since 1970) or later.
    Timestamp(i64),
    /// These offsets; partitions without one are not read.
    Offsets(BTreeMap<i32, i64>),
}

/// Where to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadUntil {
    /// At the ends that the partitions had when the reader was opened.
    PresentEnd,
    /// Never: wait for what comes.
    Forever,
}

/// Why a topic cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReaderError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The topic's partitions or offsets cannot be learned.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The brokers refused the read, or librdkafka did.
    #[error("cannot read {topic}")]
    Kafka {
        /// The topic's full name.
        topic: String,
        /// What librdkafka said.
        #[source]
        source: KafkaError,
    },
    /// The operating system gives no thread.
    #[error("no thread for reading")]
    Thread(#[source] std::io::Error),
}

/// Reads a topic in a thread of its own, which ends when the reader is dropped.
pub struct TopicReader {
    records: mpsc::Receiver<Result<Record, ReaderError>>,
    /// What came behind the records of the last batch.
    failed: Option<ReaderError>,
    starts: BTreeMap<i32, i64>,
    ends: BTreeMap<i32, i64>,
}

impl TopicReader {
    /// Opens the topic with this full name. Offsets are captured before this returns: with
    /// [`ReadFrom::End`] it sees everything that is published afterwards.
    ///
    /// # Errors
    /// There is no such topic, or the brokers cannot be reached.
    pub async fn open(
        config: &KafkaConfig,
        topic: &str,
        from: &ReadFrom,
        until: ReadUntil,
    ) -> Result<Self, ReaderError> {
        let admin = Admin::connect(config)?;
        let mut ranges = BTreeMap::new();
        for partition in admin.partitions(topic).await? {
            ranges.insert(partition, admin.watermarks(topic, partition).await?);
        }
        let ends: BTreeMap<i32, i64> = ranges
            .iter()
            .map(|(&partition, &(_, end))| (partition, end))
            .collect();
        let starts = match from {
            ReadFrom::Beginning => ranges
                .iter()
                .map(|(&partition, &(start, _))| (partition, start))
                .collect(),
            ReadFrom::End => ends.clone(),
            ReadFrom::Latest(count) => {
                let count = i64::try_from(*count).unwrap_or(i64::MAX);
                let latest = |(&partition, &(start, end)): (&i32, &(i64, i64))| {
                    (partition, end.saturating_sub(count).max(start))
                };
                ranges.iter().map(latest).collect()
            }
            ReadFrom::Timestamp(time_ms) => admin.offsets_at(topic, *time_ms, &ends).await?,
            ReadFrom::Offsets(offsets) => {
                let known = |(&partition, &offset): (&i32, &i64)| {
                    let (start, end) = ranges.get(&partition)?;
                    Some((partition, offset.clamp(*start, *end)))
                };
                offsets.iter().filter_map(known).collect()
            }
        };
        Self::spawn(config, topic, starts, ends, until)
    }

    /// Opens the topic with this full name for these offsets alone, by partition: the first, and the
    /// one behind the last. They are taken as they are; what is gone before them is passed over.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn open_ranges(
        config: &KafkaConfig,
        topic: &str,
        ranges: &BTreeMap<i32, (i64, i64)>,
    ) -> Result<Self, ReaderError> {
        let of = |(&partition, &(start, end)): (&i32, &(i64, i64))| {
            ((partition, start), (partition, end))
        };
        let (starts, ends) = ranges.iter().map(of).unzip();
        Self::spawn(config, topic, starts, ends, ReadUntil::PresentEnd)
    }

    fn spawn(
        config: &KafkaConfig,
        topic: &str,
        starts: BTreeMap<i32, i64>,
        ends: BTreeMap<i32, i64>,
        until: ReadUntil,
    ) -> Result<Self, ReaderError> {
        let failed = |source| ReaderError::Kafka {
            topic: topic.to_owned(),
            source,
        };
        let mut bounds = BTreeMap::new();
        let mut list = TopicPartitionList::new();
        for (&partition, &start) in &starts {
            let end = match until {
                ReadUntil::PresentEnd => ends.get(&partition).copied().unwrap_or(start),
                ReadUntil::Forever => i64::MAX,
            };
            if start < end {
                bounds.insert(partition, end);
                list.add_partition_offset(topic, partition, Offset::Offset(start))
                    .map_err(failed)?;
            }
        }
        let (sender, records) = mpsc::channel(BUFFERED_RECORDS);
        if !bounds.is_empty() {
            let consumer: BaseConsumer = config.reader_client()?.create().map_err(failed)?;
            consumer.assign(&list).map_err(failed)?;
            let name = topic.to_owned();
            std::thread::Builder::new()
                .name(format!("read-{topic}"))
                .spawn(move || read(&consumer, &name, bounds, until, &sender))
                .map_err(ReaderError::Thread)?;
        }
        Ok(Self {
            records,
            failed: None,
            starts,
            ends,
        })
    }

    /// The next record; of one partition in order, of several mixed. `None` at the end.
    ///
    /// # Errors
    /// The brokers refused the read; nothing follows.
    pub async fn next(&mut self) -> Option<Result<Record, ReaderError>> {
        match self.failed.take() {
            Some(failed) => Some(Err(failed)),
            None => self.records.recv().await,
        }
    }

    /// The records that are there, at most `max`, waiting for the first: as [`next`](Self::next), with
    /// one wake-up for many. Safe to cancel.
    ///
    /// # Errors
    /// The brokers refused the read; nothing follows.
    pub async fn next_batch(&mut self, max: usize) -> Option<Result<Vec<Record>, ReaderError>> {
        if let Some(failed) = self.failed.take() {
            return Some(Err(failed));
        }
        let mut received = Vec::new();
        if self.records.recv_many(&mut received, max).await == 0 {
            return None;
        }
        let mut records = Vec::with_capacity(received.len());
        for record in received {
            match record {
                Ok(record) => records.push(record),
                // It is the last one: the reading thread has ended.
                Err(error) if records.is_empty() => return Some(Err(error)),
                Err(error) => self.failed = Some(error),
            }
        }
        Some(Ok(records))
    }

    /// All that is left, up to the end: for bounded reads.
    ///
    /// # Errors
    /// The brokers refused the read.
    pub async fn collect(mut self) -> Result<Vec<Record>, ReaderError> {
        let mut records = Vec::new();
        while let Some(record) = self.next().await {
            records.push(record?);
        }
        Ok(records)
    }

    /// Where reading began, by partition.
    #[must_use]
    pub fn start_offsets(&self) -> &BTreeMap<i32, i64> {
        &self.starts
    }

    /// The partitions' ends when the reader was opened.
    #[must_use]
    pub fn end_offsets(&self) -> &BTreeMap<i32, i64> {
        &self.ends
    }
}

/// Feeds `sender` until every partition has reached its bound or nobody listens.
fn read(
    consumer: &BaseConsumer,
    topic: &str,
    mut bounds: BTreeMap<i32, i64>,
    until: ReadUntil,
    sender: &mpsc::Sender<Result<Record, ReaderError>>,
) {
    while !bounds.is_empty() && !sender.is_closed() {
        match consumer.poll(POLL_TIMEOUT) {
            None => {}
            Some(Ok(message)) => {
                let record = Record::copy_from(&message);
                let (partition, next) = (record.partition, record.offset + 1);
                let Some(&end) = bounds.get(&partition) else {
                    continue;
                };
                if next <= end && sender.blocking_send(Ok(record)).is_err() {
                    return;
                }
                if next >= end {
                    bounds.remove(&partition);
                }
            }
            // The records before the end may be gone: compacted, or markers of transactions.
            Some(Err(KafkaError::PartitionEOF(partition))) if until == ReadUntil::PresentEnd => {
                bounds.remove(&partition);
            }
            Some(Err(KafkaError::PartitionEOF(_))) => {}
            Some(Err(source)) if is_transient(&source) => {
                tracing::debug!(topic, error = %source, "while reading");
            }
            Some(Err(source)) => {
                // The listener may be gone, then nobody needs the error.
                let _ = sender.blocking_send(Err(ReaderError::Kafka {
                    topic: topic.to_owned(),
                    source,
                }));
                return;
            }
        }
    }
}

/// What librdkafka retries by itself.
pub(crate) fn is_transient(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::Resolve
        )
    )
}

impl Admin {
    /// The first offset of this time (ms since 1970) or later, by partition; where there is none, the
    /// end that `ends` says.
    ///
    /// # Errors
    /// The brokers cannot be reached, or there is no such topic.
    pub async fn offsets_at(
        &self,
        topic: &str,
        time_ms: i64,
        ends: &BTreeMap<i32, i64>,
    ) -> Result<BTreeMap<i32, i64>, AdminError> {
        let found = self.offsets_for_time(
            topic,
            time_ms,
            ends.keys().copied().collect(),
            REQUEST_TIMEOUT,
        );
        let found = found.await?;
        Ok(ends
            .iter()
            .map(|(&partition, &end)| (partition, found.get(&partition).copied().unwrap_or(end)))
            .collect())
    }
}
