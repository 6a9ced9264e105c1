//! ListOffsets and DeleteRecords.

use std::io;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{
    DeleteRecordsRequest, DeleteRecordsResponse, ListOffsetsRequest, ListOffsetsResponse,
};
use tracing::error;

use super::Caller;
use crate::log::PartitionLog;
use crate::service::Service;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const READ_COMMITTED: i8 = 1;

pub fn list_offsets(
    service: &Arc<Service>,
    _caller: &Caller,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let committed_only = request.isolation_level == READ_COMMITTED;
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|wanted| {
            let answer = ListOffsetsPartitionResponse::default()
                .with_partition_index(wanted.partition_index);
            let found = match service
                .topics
                .partition(&topic.name, wanted.partition_index)
            {
                None => Err(ResponseError::UnknownTopicOrPartition),
                Some((_, partition)) => find(&partition.log(), wanted.timestamp, committed_only),
            };
            match found {
                Ok((offset, timestamp)) => answer
                    .with_offset(offset)
                    .with_timestamp(timestamp)
                    .with_leader_epoch(0),
                Err(error) => answer
                    .with_error_code(error.code())
                    .with_offset(-1)
                    .with_timestamp(-1),
            }
        });
        let partitions = partitions.collect();
        ListOffsetsTopicResponse::default()
            .with_name(topic.name)
            .with_partitions(partitions)
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

/// Offset and time; −1 for both where no record is late enough.
fn find(
    log: &PartitionLog,
    timestamp: i64,
    committed_only: bool,
) -> Result<(i64, i64), ResponseError> {
    let end = if committed_only {
        log.stable_offset()
    } else {
        log.end_offset()
    };
    let found = match timestamp {
        LATEST => return Ok((end, -1)),
        EARLIEST => return Ok((log.start_offset(), -1)),
        MAX_TIMESTAMP => log.latest_time(),
        time if time >= 0 => log.offset_for_time(time),
        _ => return Err(ResponseError::UnsupportedVersion),
    };
    let found = found.map_err(storage)?;
    Ok(found
        .filter(|(offset, _)| *offset < end)
        .unwrap_or((-1, -1)))
}

pub fn delete_records(
    service: &Arc<Service>,
    _caller: &Caller,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|wanted| {
            let answer = DeleteRecordsPartitionResult::default()
                .with_partition_index(wanted.partition_index);
            let deleted = match service
                .topics
                .partition(&topic.name, wanted.partition_index)
            {
                None => Err(ResponseError::UnknownTopicOrPartition),
                // Readers of a compacted topic alone rely on finding every key.
                Some((topic, _)) if !topic.config().delete => Err(ResponseError::PolicyViolation),
                Some((_, partition)) => delete_before(&mut partition.log(), wanted.offset),
            };
            match deleted {
                Ok(low_watermark) => answer.with_low_watermark(low_watermark),
                Err(error) => answer.with_error_code(error.code()).with_low_watermark(-1),
            }
        });
        let partitions = partitions.collect();
        DeleteRecordsTopicResult::default()
            .with_name(topic.name)
            .with_partitions(partitions)
    });
    DeleteRecordsResponse::default().with_topics(topics.collect())
}

fn delete_before(log: &mut PartitionLog, offset: i64) -> Result<i64, ResponseError> {
    let offset = if offset == -1 {
        log.end_offset()
    } else {
        offset
    };
    if offset < 0 || offset > log.end_offset() {
        return Err(ResponseError::OffsetOutOfRange);
    }
    log.delete_before(offset).map_err(storage)?;
    Ok(log.start_offset())
}

fn storage(cause: io::Error) -> ResponseError {
    error!(%cause, "the log could not be read or written");
    ResponseError::KafkaStorageError
}
