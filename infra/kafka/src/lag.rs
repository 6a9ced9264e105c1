//! How far a consumer group is behind.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use serde::Serialize;

use crate::admin::{Admin, AdminError, REQUEST_TIMEOUT, blocking, failed};
use crate::clock::now_ms;

/// How far a group is behind on one partition.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PartitionLag {
    /// The topic's full name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset that the group resumes from: the committed one, or the oldest where it has
    /// committed none.
    pub current: i64,
    /// Whether the group has committed an offset here.
    pub committed: bool,
    /// The offset that the next record gets.
    pub end: i64,
    /// Records between the two. Compaction and transactions leave gaps, so fewer may be left.
    pub lag: i64,
    /// The age of the next unread record in seconds; 0 where there is none.
    pub lag_seconds: f64,
}

impl Admin {
    /// The names of all consumer groups that the brokers know, sorted.
    ///
    /// # Errors
    /// The brokers cannot be reached.
    pub async fn groups(&self) -> Result<Vec<String>, AdminError> {
        let client = self.config.reader_client()?;
        let result = blocking(move || {
            let client: BaseConsumer = client.create()?;
            let list = client.fetch_group_list(None, REQUEST_TIMEOUT)?;
            Ok(list
                .groups()
                .iter()
                .map(|group| group.name().to_owned())
                .collect())
        });
        let mut names: Vec<String> = result.await?.map_err(failed("list the groups"))?;
        names.sort_unstable();
        Ok(names)
    }

    /// How far `group` is behind on `topics` (full names). Without topics: on all those with the
    /// configured prefix where it has committed an offset. Sorted by topic and partition.
    ///
    /// # Errors
    /// The brokers cannot be reached, or a named topic does not exist.
    pub async fn group_lag(
        &self,
        group: &str,
        topics: &[String],
    ) -> Result<Vec<PartitionLag>, AdminError> {
        let names = if topics.is_empty() {
            self.list().await?
        } else {
            topics.to_vec()
        };
        let mut ends = BTreeMap::new();
        for topic in names {
            for partition in self.partitions(&topic).await? {
                ends.insert(
                    (topic.clone(), partition),
                    self.watermarks(&topic, partition).await?,
                );
            }
        }
        let committed = self
            .committed(group, ends.keys().cloned().collect())
            .await?;
        let mut lags: Vec<PartitionLag> = ends
            .into_iter()
            .filter_map(|((topic, partition), (start, end))| {
                let committed = committed.get(&(topic.clone(), partition)).copied();
                if committed.is_none() && topics.is_empty() {
                    return None;
                }
                // Retention may have removed what the group had still to read.
                let current = committed.map_or(start, |offset| offset.max(start)).min(end);
                Some(PartitionLag {
                    topic,
                    partition,
                    current,
                    committed: committed.is_some(),
                    end,
                    lag: end - current,
                    lag_seconds: 0.0,
                })
            })
            .collect();
        self.fill_ages(&mut lags).await?;
        Ok(lags)
    }

    async fn committed(
        &self,
        group: &str,
        partitions: Vec<(String, i32)>,
    ) -> Result<HashMap<(String, i32), i64>, AdminError> {
        let action = format!("read the offsets of the group {group}");
        let client = self.config.offsets_client(group)?;
        let result = blocking(move || {
            // A consumer that never subscribes joins no group; it may ask what a group committed.
            let consumer: BaseConsumer = client.create()?;
            let mut list = TopicPartitionList::with_capacity(partitions.len());
            for (topic, partition) in &partitions {
                list.add_partition(topic, *partition);
            }
            consumer.committed_offsets(list, REQUEST_TIMEOUT)
        });
        let list = result.await?.map_err(failed(action))?;
        Ok(list
            .elements()
            .iter()
            .filter_map(|element| match element.offset() {
                Offset::Offset(offset) => {
                    Some(((element.topic().to_owned(), element.partition()), offset))
                }
                _ => None,
            })
            .collect())
    }

    /// Reads the next unread record of each partition that is behind, for its time.
    async fn fill_ages(&self, lags: &mut [PartitionLag]) -> Result<(), AdminError> {
        let mut behind: BTreeMap<String, BTreeMap<i32, i64>> = BTreeMap::new();
        for lag in lags.iter().filter(|lag| lag.lag > 0) {
            behind
                .entry(lag.topic.clone())
                .or_default()
                .insert(lag.partition, lag.current);
        }
        let now_ms = now_ms();
        for (topic, positions) in behind {
            let client = self.config.reader_client()?;
            let name = topic.clone();
            let times = blocking(move || next_record_times(&client.create()?, &name, positions))
                .await?
                .map_err(failed(format!("read the next unread records of {topic}")))?;
            for lag in lags.iter_mut().filter(|lag| lag.topic == topic) {
                if let Some(time_ms) = times.get(&lag.partition) {
                    #[expect(
                        clippy::cast_precision_loss,
                        reason = "an age in ms is far below 2^52"
                    )]
                    let age_ms = now_ms.saturating_sub(*time_ms).max(0) as f64;
                    lag.lag_seconds = age_ms / 1000.0;
                }
            }
        }
        Ok(())
    }
}

/// The time of the first record at or after each position, ms since 1970. One topic at a time:
/// librdkafka reports the end of a partition by its number alone.
fn next_record_times(
    consumer: &BaseConsumer,
    topic: &str,
    mut positions: BTreeMap<i32, i64>,
) -> Result<BTreeMap<i32, i64>, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(positions.len());
    for (&partition, &offset) in &positions {
        list.add_partition_offset(topic, partition, Offset::Offset(offset))?;
    }
    consumer.assign(&list)?;
    let mut times = BTreeMap::new();
    let deadline = Instant::now() + REQUEST_TIMEOUT;
    while !positions.is_empty() {
        match consumer.poll(deadline.saturating_duration_since(Instant::now())) {
            Some(Ok(message)) => {
                let partition = message.partition();
                if positions.remove(&partition).is_some() {
                    times.insert(partition, message.timestamp().to_millis().unwrap_or(0));
                    let mut done = TopicPartitionList::new();
                    done.add_partition(topic, partition);
                    consumer.pause(&done)?;
                }
            }
            // Only gaps are left before the end: no record is unread.
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                positions.remove(&partition);
            }
            Some(Err(error)) => return Err(error),
            None if Instant::now() >= deadline => {
                return Err(KafkaError::MessageConsumption(
                    RDKafkaErrorCode::OperationTimedOut,
                ));
            }
            None => {}
        }
    }
    Ok(times)
}
