//! Produce.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};
use tracing::{error, warn};

use super::text;
use crate::log::AppendError;
use crate::log::batch::BatchHeader;
use crate::metadata::TopicPartition;
use crate::partition::Stored;
use crate::service::Service;
use crate::transactions::{Producer, TransactionalAppendError};

/// `None` with acks=0: nobody waits for an answer.
pub fn produce(service: &Arc<Service>, request: ProduceRequest) -> Option<ProduceResponse> {
    let transactional_id = request.transactional_id.as_ref().map(|id| id.to_string());
    let mut topics = Vec::with_capacity(request.topic_data.len());
    for topic in request.topic_data {
        let partitions = topic.partition_data.iter().map(|data| {
            let answer = PartitionProduceResponse::default()
                .with_index(data.index)
                .with_log_append_time_ms(-1);
            let stored = match request.acks {
                -1..=1 => append(service, transactional_id.as_deref(), &topic.name, data),
                _ => Err((ResponseError::InvalidRequiredAcks, None)),
            };
            match stored {
                Ok(stored) => answer
                    .with_base_offset(stored.base_offset)
                    .with_log_start_offset(stored.start_offset),
                Err((error, message)) => answer
                    .with_error_code(error.code())
                    .with_base_offset(-1)
                    .with_log_start_offset(-1)
                    .with_error_message(message.map(text)),
            }
        });
        let partitions = partitions.collect();
        topics.push(
            TopicProduceResponse::default()
                .with_name(topic.name)
                .with_partition_responses(partitions),
        );
    }
    service.appended.notify_waiters();
    (request.acks != 0).then(|| ProduceResponse::default().with_responses(topics))
}

type Refusal = (ResponseError, Option<String>);

fn append(
    service: &Service,
    transactional_id: Option<&str>,
    topic_name: &str,
    data: &PartitionProduceData,
) -> Result<Stored, Refusal> {
    let unknown = (ResponseError::UnknownTopicOrPartition, None);
    let (topic, partition) = service
        .topics
        .partition(topic_name, data.index)
        .ok_or(unknown)?;
    let batch = data
        .records
        .as_ref()
        .ok_or((ResponseError::InvalidRecord, Some("no records".to_owned())))?;
    let config = topic.config();
    let header = BatchHeader::parse(batch)
        .map_err(|error| refusal(topic_name, data.index, &error.into()))?;
    let appended = if header.is_transactional() {
        let id = transactional_id.ok_or((ResponseError::InvalidTxnState, None))?;
        let producer = Producer {
            id: header.producer_id,
            epoch: header.producer_epoch,
        };
        let at = TopicPartition {
            topic: topic_name.to_owned(),
            partition: data.index,
        };
        match service
            .transactions
            .append(id, producer, &at, &partition, batch, &config)
        {
            Ok(stored) => Ok(stored),
            Err(TransactionalAppendError::Refused(error)) => return Err((error, None)),
            Err(TransactionalAppendError::Append(error)) => Err(error),
        }
    } else {
        partition.append(batch, &config, service.config.flush)
    };
    appended.map_err(|error| refusal(topic_name, data.index, &error))
}

fn refusal(topic: &str, partition: i32, error: &AppendError) -> Refusal {
    use crate::log::batch::BatchError;
    let response = match error {
        AppendError::Batch(BatchError::Magic(_)) => ResponseError::UnsupportedForMessageFormat,
        AppendError::Batch(_) => ResponseError::CorruptMessage,
        AppendError::TooLarge { .. } => ResponseError::MessageTooLarge,
        AppendError::InvalidRecord(_) => ResponseError::InvalidRecord,
        AppendError::Sequence(reason) if reason.is_fenced() => ResponseError::InvalidProducerEpoch,
        AppendError::Sequence(_) => ResponseError::OutOfOrderSequenceNumber,
        AppendError::Storage(_) => ResponseError::KafkaStorageError,
    };
    match error {
        AppendError::Storage(cause) => {
            error!(topic, partition, %cause, "a batch could not be written");
        }
        refused => warn!(topic, partition, reason = %refused, "a batch was refused"),
    }
    (response, Some(error.to_string()))
}
