//! Identities of producers, and transactions.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse, EndTxnRequest, EndTxnResponse, InitProducerIdRequest,
    InitProducerIdResponse, ProducerId, TxnOffsetCommitRequest, TxnOffsetCommitResponse,
};

use super::offsets::{CheckedOffsets, SentOffset};
use super::{Caller, code};
use crate::groups::group::Speaker;
use crate::metadata::TopicPartition;
use crate::service::Service;
use crate::transactions::Producer;

/// Before these versions clients knew fencing by an older name (KIP-588).
fn for_version(
    outcome: Result<(), ResponseError>,
    caller: &Caller,
    fenced_since: i16,
) -> Result<(), ResponseError> {
    outcome.map_err(|error| match error {
        ResponseError::ProducerFenced if caller.version < fenced_since => {
            ResponseError::InvalidProducerEpoch
        }
        error => error,
    })
}

pub fn init_producer_id(
    service: &Arc<Service>,
    caller: &Caller,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    let current = Producer {
        id: request.producer_id.0,
        epoch: request.producer_epoch,
    };
    let current = Some(current).filter(|current| caller.version >= 3 && current.id >= 0);
    let given = match &request.transactional_id {
        None => service.transactions.new_producer(),
        Some(id) => service
            .transactions
            .init(id, request.transaction_timeout_ms, current),
    };
    // It may have aborted what an earlier holder left open.
    service.appended.notify_waiters();
    match given {
        Ok(producer) => InitProducerIdResponse::default()
            .with_producer_id(ProducerId(producer.id))
            .with_producer_epoch(producer.epoch),
        Err(error) => InitProducerIdResponse::default()
            .with_error_code(code(&for_version(Err(error), caller, 4)))
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1),
    }
}

pub fn add_partitions_to_txn(
    service: &Arc<Service>,
    caller: &Caller,
    request: AddPartitionsToTxnRequest,
) -> AddPartitionsToTxnResponse {
    let topics = request.v3_and_below_topics;
    let partitions: Vec<TopicPartition> = topics
        .iter()
        .flat_map(|topic| {
            topic.partitions.iter().map(|index| TopicPartition {
                topic: topic.name.to_string(),
                partition: *index,
            })
        })
        .collect();
    let exists = |at: &TopicPartition| service.topics.partition(&at.topic, at.partition).is_some();
    let producer = Producer {
        id: request.v3_and_below_producer_id.0,
        epoch: request.v3_and_below_producer_epoch,
    };
    // All or none: with one unknown, the others are told that they were not tried.
    let all_exist = partitions.iter().all(exists);
    let added = if all_exist {
        service.transactions.add_partitions(
            &request.v3_and_below_transactional_id,
            producer,
            partitions,
        )
    } else {
        Err(ResponseError::OperationNotAttempted)
    };
    let added = for_version(added, caller, 2);
    let topics = topics.into_iter().map(|topic| {
        let results = topic.partitions.iter().map(|index| {
            let at = TopicPartition {
                topic: topic.name.to_string(),
                partition: *index,
            };
            let outcome = if exists(&at) {
                added
            } else {
                Err(ResponseError::UnknownTopicOrPartition)
            };
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(*index)
                .with_partition_error_code(code(&outcome))
        });
        let results = results.collect();
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic.name)
            .with_results_by_partition(results)
    });
    AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(topics.collect())
}

pub fn add_offsets_to_txn(
    service: &Arc<Service>,
    caller: &Caller,
    request: AddOffsetsToTxnRequest,
) -> AddOffsetsToTxnResponse {
    let producer = Producer {
        id: request.producer_id.0,
        epoch: request.producer_epoch,
    };
    let added =
        service
            .transactions
            .add_group(&request.transactional_id, producer, &request.group_id);
    AddOffsetsToTxnResponse::default().with_error_code(code(&for_version(added, caller, 2)))
}

pub fn txn_offset_commit(
    service: &Arc<Service>,
    caller: &Caller,
    request: TxnOffsetCommitRequest,
) -> TxnOffsetCommitResponse {
    let speaker = Speaker {
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_deref(),
        generation: request.generation_id,
    };
    let mut offsets = CheckedOffsets::default();
    for topic in &request.topics {
        let sent = topic.partitions.iter().map(|partition| SentOffset {
            partition: partition.partition_index,
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata: partition.committed_metadata.clone(),
        });
        offsets.check(service, topic.name.clone(), sent);
    }
    let accepted = std::mem::take(&mut offsets.accepted);
    let producer = Producer {
        id: request.producer_id.0,
        epoch: request.producer_epoch,
    };
    // Before version 3 the producer could not say for which member it speaks.
    let member = if caller.version >= 3 {
        service
            .groups
            .check_transactional(&request.group_id, speaker)
    } else {
        Ok(())
    };
    let added = member.and_then(|()| {
        service.transactions.add_offsets(
            &request.transactional_id,
            producer,
            &request.group_id,
            accepted,
        )
    });
    let added = for_version(added, caller, i16::MAX);
    let topics = offsets.answers(added).map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(partition, error_code)| {
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(partition)
                .with_error_code(error_code)
        });
        TxnOffsetCommitResponseTopic::default()
            .with_name(name)
            .with_partitions(partitions.collect())
    });
    TxnOffsetCommitResponse::default().with_topics(topics.collect())
}

pub fn end_txn(service: &Arc<Service>, caller: &Caller, request: EndTxnRequest) -> EndTxnResponse {
    let producer = Producer {
        id: request.producer_id.0,
        epoch: request.producer_epoch,
    };
    let ended = service
        .transactions
        .end(&request.transactional_id, producer, request.committed);
    service.appended.notify_waiters();
    EndTxnResponse::default().with_error_code(code(&for_version(ended, caller, 2)))
}
