//! The age of the next unread record: it is read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::PartitionLag;
use crate::admin::{Admin, AdminError, REQUEST_TIMEOUT, blocking, failed};
use crate::clock::now_ms;
use crate::reader::is_transient;

/// Topics that are read at a time, each by a client of its own.
const TOPICS_AT_ONCE: usize = 8;

/// The times of records, ms since 1970, by topic, partition and offset asked for; `None` where there is no
/// record to be read.
type Times = BTreeMap<(String, i32, i64), Option<i64>>;

impl Admin {
    /// Reads the next unread record of each partition that is behind, for its time: seconds are added to
    /// what was told in records. Of a partition that does not answer they stay unknown.
    ///
    /// # Errors
    /// The brokers refuse the read.
    pub async fn read_ages(&self, lags: &mut [PartitionLag]) -> Result<(), AdminError> {
        let mut behind: BTreeMap<String, BTreeMap<i32, BTreeSet<i64>>> = BTreeMap::new();
        for lag in lags.iter().filter(|lag| lag.lag > 0) {
            let partitions = behind.entry(lag.topic.clone()).or_default();
            partitions
                .entry(lag.partition)
                .or_default()
                .insert(lag.current);
        }
        let permits = Arc::new(Semaphore::new(TOPICS_AT_ONCE));
        let mut reading: JoinSet<Result<Times, AdminError>> = JoinSet::new();
        for (topic, offsets) in behind {
            let (admin, permits) = (self.clone(), Arc::clone(&permits));
            reading.spawn(async move {
                let _permit = permits.acquire().await;
                admin.record_times(topic, offsets).await
            });
        }
        let mut times = Times::new();
        while let Some(read) = reading.join_next().await {
            times.append(&mut read.map_err(|_| AdminError::Cancelled)??);
        }
        let now_ms = now_ms();
        for lag in lags {
            let key = (lag.topic.clone(), lag.partition, lag.current);
            if let Some(time_ms) = times.get(&key) {
                #[expect(clippy::cast_precision_loss, reason = "an age in ms is far below 2^52")]
                // A producer's clock may be ahead.
                let age_ms =
                    time_ms.map_or(0, |time_ms| now_ms.saturating_sub(time_ms).max(0)) as f64;
                lag.lag_seconds = Some(age_ms / 1000.0);
            }
        }
        Ok(())
    }

    /// The times of the first records at or after these offsets. Groups stand at different ones, and a
    /// consumer has one position a partition: so in rounds, each of one offset a partition.
    async fn record_times(
        &self,
        topic: String,
        mut offsets: BTreeMap<i32, BTreeSet<i64>>,
    ) -> Result<Times, AdminError> {
        let mut times = Times::new();
        let client = self.config.ages_client()?;
        let action = format!("read the next unread records of {topic}");
        let read = blocking(move || {
            let consumer: BaseConsumer = client.create()?;
            loop {
                let round: BTreeMap<i32, i64> = offsets
                    .iter_mut()
                    .filter_map(|(&partition, offsets)| Some((partition, offsets.pop_first()?)))
                    .collect();
                if round.is_empty() {
                    return Ok::<_, KafkaError>(times);
                }
                for (partition, time_ms) in next_record_times(&consumer, &topic, round.clone())? {
                    times.insert((topic.clone(), partition, round[&partition]), time_ms);
                }
            }
        });
        read.await?.map_err(failed(action))
    }
}

/// The time of the first record at or after each position, ms since 1970, or `None` where there is none
/// to be read; a partition that does not answer is absent. One topic at a time:
/// librdkafka reports the end of a partition by its number alone.
fn next_record_times(
    consumer: &BaseConsumer,
    topic: &str,
    mut positions: BTreeMap<i32, i64>,
) -> Result<BTreeMap<i32, Option<i64>>, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(positions.len());
    for (&partition, &offset) in &positions {
        list.add_partition_offset(topic, partition, Offset::Offset(offset))?;
    }
    consumer.assign(&list)?;
    // What an earlier round paused stays so over an assignment.
    consumer.resume(&list)?;
    let mut times = BTreeMap::new();
    let deadline = Instant::now() + REQUEST_TIMEOUT;
    while !positions.is_empty() {
        match consumer.poll(deadline.saturating_duration_since(Instant::now())) {
            Some(Ok(message)) => {
                let partition = message.partition();
                // One of an earlier round's, which was on its way, has another offset.
                if positions
                    .get(&partition)
                    .is_some_and(|&from| from <= message.offset())
                {
                    positions.remove(&partition);
                    times.insert(
                        partition,
                        Some(message.timestamp().to_millis().unwrap_or(0)),
                    );
                    let mut done = TopicPartitionList::new();
                    done.add_partition(topic, partition);
                    consumer.pause(&done)?;
                }
            }
            // Only gaps are left before the end, or a transaction that is open: nothing can be read.
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                times.extend(positions.remove(&partition).map(|_| (partition, None)));
            }
            // One broker that is away is no reason to tell nothing of the others.
            Some(Err(error)) if is_transient(&error) => {}
            Some(Err(error)) => return Err(error),
            None => {}
        }
        if Instant::now() >= deadline {
            let left: Vec<i32> = positions.into_keys().collect();
            tracing::warn!(topic, partitions = ?left, "the next unread records can't be read");
            break;
        }
    }
    Ok(times)
}
