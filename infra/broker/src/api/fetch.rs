//! Fetch with long poll.
//!
//! Fetch sessions are declined: session id 0 tells the client to name all its partitions each time,
//! which on one node costs nothing worth the state.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchRequest};
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, FetchResponse, FetchableTopicResponse, PartitionData,
};
use kafka_protocol::messages::{BrokerId, ProducerId};
use tokio::time::Instant;
use tracing::error;

use super::Caller;
use crate::log::{Located, PartitionLog};
use crate::service::Service;

/// One answer's records, whatever the client asks for (Kafka's `fetch.max.bytes`).
const MAX_ANSWER_BYTES: usize = 55 << 20;
const READ_COMMITTED: i8 = 1;

/// One partition's answer before its records are read.
struct Found {
    data: PartitionData,
    located: Option<Located>,
    max_bytes: usize,
}

pub async fn fetch(
    service: &Arc<Service>,
    _caller: &Caller,
    request: FetchRequest,
) -> FetchResponse {
    if request.session_id != 0 && request.session_epoch > 0 {
        return FetchResponse::default()
            .with_error_code(ResponseError::FetchSessionIdNotFound.code());
    }
    let deadline =
        Instant::now() + Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let wanted = u64::try_from(request.min_bytes).unwrap_or(0);
    loop {
        let appended = service.appended.notified();
        tokio::pin!(appended);
        // Before looking, so that nothing appended in between is missed.
        appended.as_mut().enable();
        let found = look(service, &request);
        let available: u64 = found
            .iter()
            .flat_map(|(_, all)| all)
            .map(Found::available)
            .sum();
        let has_error = found
            .iter()
            .flat_map(|(_, all)| all)
            .any(|found| found.data.error_code != 0);
        let moved = found
            .iter()
            .flat_map(|(_, all)| all)
            .any(|found| found.located.is_some());
        if (available >= wanted && (moved || wanted == 0))
            || has_error
            || Instant::now() >= deadline
        {
            return read(
                found,
                usize::try_from(request.max_bytes)
                    .unwrap_or(0)
                    .min(MAX_ANSWER_BYTES),
            );
        }
        // Whether it rang or timed out, the next look tells.
        let _rang = tokio::time::timeout_at(deadline, appended).await;
    }
}

type FoundByTopic = Vec<(kafka_protocol::messages::TopicName, Vec<Found>)>;

fn look(service: &Service, request: &FetchRequest) -> FoundByTopic {
    let committed_only = request.isolation_level == READ_COMMITTED;
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|wanted| {
            let known = service.topics.partition(&topic.topic, wanted.partition);
            let mut data = PartitionData::default()
                .with_partition_index(wanted.partition)
                .with_preferred_read_replica(BrokerId(-1))
                .with_records(Some(bytes::Bytes::new()));
            let max_bytes = usize::try_from(wanted.partition_max_bytes).unwrap_or(0);
            let located = match known {
                None => Err(ResponseError::UnknownTopicOrPartition),
                Some((_, partition)) => locate(&partition.log(), wanted, committed_only, &mut data),
            };
            data.error_code = super::code(&located);
            if data.error_code != 0 {
                data.high_watermark = data.high_watermark.max(-1);
            }
            Found {
                data,
                located: located.unwrap_or_default(),
                max_bytes,
            }
        });
        (topic.topic.clone(), partitions.collect())
    });
    topics.collect()
}

fn locate(
    log: &PartitionLog,
    wanted: &FetchPartition,
    committed_only: bool,
    data: &mut PartitionData,
) -> Result<Option<Located>, ResponseError> {
    data.high_watermark = log.end_offset();
    data.last_stable_offset = log.stable_offset();
    data.log_start_offset = log.start_offset();
    // The only leader epoch that there is.
    if wanted.current_leader_epoch > 0 {
        return Err(ResponseError::UnknownLeaderEpoch);
    }
    if wanted.fetch_offset < log.start_offset() || wanted.fetch_offset > log.end_offset() {
        return Err(ResponseError::OffsetOutOfRange);
    }
    let located = log
        .read_from(wanted.fetch_offset, committed_only)
        .map_err(|cause| {
            error!(partition = wanted.partition, %cause, "records could not be found");
            ResponseError::KafkaStorageError
        })?;
    if committed_only {
        let aborted = located
            .iter()
            .flat_map(|located| &located.aborted)
            .map(|aborted| {
                AbortedTransaction::default()
                    .with_producer_id(ProducerId(aborted.producer_id))
                    .with_first_offset(aborted.first_offset)
            });
        data.aborted_transactions = Some(aborted.collect());
    }
    Ok(located)
}

impl Found {
    fn available(&self) -> u64 {
        let available = self
            .located
            .as_ref()
            .map_or(0, |located| located.slice.available);
        available.min(self.max_bytes as u64)
    }
}

fn read(found: FoundByTopic, max_bytes: usize) -> FetchResponse {
    let mut left = max_bytes;
    let mut is_first = true;
    let topics =
        found.into_iter().map(|(topic, partitions)| {
            let partitions = partitions.into_iter().map(|found| {
            let mut data = found.data;
            let Some(located) = found.located else { return data };
            match located.slice.read(found.max_bytes.min(left), is_first) {
                Ok(records) => {
                    left = left.saturating_sub(records.len());
                    is_first &= records.is_empty();
                    data.records = Some(records.into());
                }
                Err(cause) => {
                    error!(partition = data.partition_index, %cause, "records could not be read");
                    data.error_code = ResponseError::KafkaStorageError.code();
                }
            }
            data
        });
            FetchableTopicResponse::default()
                .with_topic(topic)
                .with_partitions(partitions.collect())
        });
    FetchResponse::default().with_responses(topics.collect())
}
