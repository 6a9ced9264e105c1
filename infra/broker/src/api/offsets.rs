//! OffsetCommit, OffsetFetch, OffsetDelete.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponsePartition, OffsetFetchResponseTopic,
};
use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse,
    OffsetFetchRequest, OffsetFetchResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::{Caller, code, text};
use crate::clock::now_ms;
use crate::groups::group::Speaker;
use crate::metadata::{CommittedOffset, Metadata, TopicPartition};
use crate::service::Service;

/// Kafka's `offset.metadata.max.bytes`.
const MAX_METADATA_BYTES: usize = 4096;

/// One offset as a request sends it.
pub struct SentOffset {
    pub partition: i32,
    pub offset: i64,
    pub leader_epoch: i32,
    pub metadata: Option<StrBytes>,
}

/// The offsets of a request, each judged alone by what does not depend on the group.
#[derive(Default)]
pub struct CheckedOffsets {
    /// Those that can be committed.
    pub accepted: Vec<(TopicPartition, CommittedOffset)>,
    topics: Vec<(TopicName, Vec<JudgedPartition>)>,
}

/// A partition, and whether its offset can be committed.
type JudgedPartition = (i32, Result<(), ResponseError>);

impl CheckedOffsets {
    pub fn check(
        &mut self,
        service: &Service,
        topic: TopicName,
        offsets: impl Iterator<Item = SentOffset>,
    ) {
        let mut partitions = Vec::new();
        for sent in offsets {
            let metadata = sent.metadata.as_deref().unwrap_or_default();
            let check = if service.topics.partition(&topic, sent.partition).is_none() {
                Err(ResponseError::UnknownTopicOrPartition)
            } else if metadata.len() > MAX_METADATA_BYTES {
                Err(ResponseError::OffsetMetadataTooLarge)
            } else {
                let at = TopicPartition {
                    topic: topic.to_string(),
                    partition: sent.partition,
                };
                let committed = CommittedOffset {
                    offset: sent.offset,
                    leader_epoch: sent.leader_epoch,
                    metadata: metadata.to_owned(),
                    committed_ms: now_ms(),
                };
                self.accepted.push((at, committed));
                Ok(())
            };
            partitions.push((sent.partition, check));
        }
        self.topics.push((topic, partitions));
    }

    /// Each partition's code, once `committed` tells what became of the accepted ones.
    pub fn answers(
        self,
        committed: Result<(), ResponseError>,
    ) -> impl Iterator<Item = (TopicName, Vec<(i32, i16)>)> {
        self.topics.into_iter().map(move |(topic, partitions)| {
            let codes = partitions
                .into_iter()
                .map(|(partition, check)| (partition, code(&check.and(committed))));
            (topic, codes.collect())
        })
    }
}

pub fn offset_commit(
    service: &Arc<Service>,
    _caller: &Caller,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let mut offsets = CheckedOffsets::default();
    for topic in request.topics {
        let sent = topic.partitions.into_iter().map(|partition| SentOffset {
            partition: partition.partition_index,
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata: partition.committed_metadata,
        });
        offsets.check(service, topic.name, sent);
    }
    let speaker = Speaker {
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_deref(),
        generation: request.generation_id_or_member_epoch,
    };
    let accepted = std::mem::take(&mut offsets.accepted);
    let committed = service.groups.commit(&request.group_id, speaker, accepted);
    let topics = offsets.answers(committed).map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(partition, error_code)| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition)
                .with_error_code(error_code)
        });
        OffsetCommitResponseTopic::default()
            .with_name(name)
            .with_partitions(partitions.collect())
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

pub fn offset_fetch(
    service: &Arc<Service>,
    _caller: &Caller,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    let group = request.group_id.to_string();
    service.journal.read(|metadata| {
        let wanted: Vec<TopicPartition> = match request.topics {
            Some(topics) => {
                let named = topics.iter().flat_map(|topic| {
                    topic.partition_indexes.iter().map(|index| TopicPartition {
                        topic: topic.name.to_string(),
                        partition: *index,
                    })
                });
                named.collect()
            }
            None => metadata
                .offsets
                .get(&group)
                .map(|offsets| offsets.keys().cloned().collect())
                .unwrap_or_default(),
        };
        let mut topics: BTreeMap<String, Vec<OffsetFetchResponsePartition>> = BTreeMap::new();
        for at in wanted {
            let answer = fetched(metadata, &group, &at, request.require_stable);
            topics.entry(at.topic).or_default().push(answer);
        }
        let topics = topics.into_iter().map(|(name, partitions)| {
            OffsetFetchResponseTopic::default()
                .with_name(TopicName(text(name)))
                .with_partitions(partitions)
        });
        OffsetFetchResponse::default().with_topics(topics.collect())
    })
}

fn fetched(
    metadata: &Metadata,
    group: &str,
    at: &TopicPartition,
    require_stable: bool,
) -> OffsetFetchResponsePartition {
    let answer = OffsetFetchResponsePartition::default()
        .with_partition_index(at.partition)
        .with_committed_offset(-1)
        .with_committed_leader_epoch(-1)
        .with_metadata(Some(text("")));
    if require_stable && metadata.has_pending_offsets(group, at) {
        return answer.with_error_code(ResponseError::UnstableOffsetCommit.code());
    }
    match metadata
        .offsets
        .get(group)
        .and_then(|offsets| offsets.get(at))
    {
        None => answer,
        Some(committed) => answer
            .with_committed_offset(committed.offset)
            .with_committed_leader_epoch(committed.leader_epoch)
            .with_metadata(Some(text(committed.metadata.as_str()))),
    }
}

pub fn offset_delete(
    service: &Arc<Service>,
    _caller: &Caller,
    request: OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    let partitions: Vec<TopicPartition> = request
        .topics
        .iter()
        .flat_map(|topic| {
            topic.partitions.iter().map(|partition| TopicPartition {
                topic: topic.name.to_string(),
                partition: partition.partition_index,
            })
        })
        .collect();
    let answers = match service
        .groups
        .delete_offsets(&request.group_id, &partitions)
    {
        Ok(answers) => answers,
        Err(error) => return OffsetDeleteResponse::default().with_error_code(error.code()),
    };
    let mut answers = partitions.iter().zip(answers);
    let topics = request.topics.iter().map(|topic| {
        let partitions = answers
            .by_ref()
            .take(topic.partitions.len())
            .map(|(at, answer)| {
                OffsetDeleteResponsePartition::default()
                    .with_partition_index(at.partition)
                    .with_error_code(code(&answer))
            });
        OffsetDeleteResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    OffsetDeleteResponse::default().with_topics(topics.collect())
}
