//! Metadata, DescribeCluster, FindCoordinator: a cluster of one.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    BrokerId, DescribeClusterRequest, DescribeClusterResponse, FindCoordinatorRequest,
    FindCoordinatorResponse, MetadataRequest, MetadataResponse, TopicName,
};

use super::{Caller, text};
use crate::service::{BROKER_ID, Service};
use crate::topics::{Topic, TopicError};

const NODE: BrokerId = BrokerId(BROKER_ID);

pub fn metadata(
    service: &Arc<Service>,
    caller: &Caller,
    request: MetadataRequest,
) -> MetadataResponse {
    // Version 0 has no null: there an empty list means all topics.
    let wanted = request
        .topics
        .filter(|topics| caller.version > 0 || !topics.is_empty());
    let topics = match wanted {
        None => service
            .topics
            .all()
            .iter()
            .map(|topic| describe(topic))
            .collect(),
        Some(wanted) => {
            let may_create = service.config.auto_create_topics && request.allow_auto_topic_creation;
            let names = wanted.iter().filter_map(|topic| topic.name.as_ref());
            names
                .map(|name| find_or_create(service, name, may_create))
                .collect()
        }
    };
    let broker = MetadataResponseBroker::default()
        .with_node_id(NODE)
        .with_host(text(service.host.as_str()))
        .with_port(i32::from(service.port));
    MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_cluster_id(Some(text(cluster_id(service))))
        .with_controller_id(NODE)
        .with_topics(topics)
}

fn cluster_id(service: &Service) -> String {
    service.journal.read(|metadata| metadata.cluster_id.clone())
}

fn find_or_create(service: &Service, name: &TopicName, may_create: bool) -> MetadataResponseTopic {
    let failed = |error: ResponseError| {
        MetadataResponseTopic::default()
            .with_name(Some(name.clone()))
            .with_error_code(error.code())
    };
    if let Some(topic) = service.topics.get(name) {
        return describe(&topic);
    }
    if !may_create {
        return failed(ResponseError::UnknownTopicOrPartition);
    }
    match service.topics.create(
        name,
        service.config.default_partitions,
        1,
        BTreeMap::new(),
        false,
    ) {
        Ok(topic) => describe(&topic),
        // Another client was faster.
        Err(TopicError::Exists(_)) => failed(ResponseError::LeaderNotAvailable),
        Err(error) => failed(error.response()),
    }
}

fn describe(topic: &Topic) -> MetadataResponseTopic {
    let partitions = (0..topic.partition_count()).map(|index| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(NODE)
            .with_leader_epoch(0)
            .with_replica_nodes(vec![NODE])
            .with_isr_nodes(vec![NODE])
    });
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(text(topic.name.as_str()))))
        .with_partitions(partitions.collect())
}

pub fn describe_cluster(
    service: &Arc<Service>,
    _caller: &Caller,
    _request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    let broker = DescribeClusterBroker::default()
        .with_broker_id(NODE)
        .with_host(text(service.host.as_str()))
        .with_port(i32::from(service.port));
    DescribeClusterResponse::default()
        .with_cluster_id(text(cluster_id(service)))
        .with_controller_id(NODE)
        .with_brokers(vec![broker])
}

pub fn find_coordinator(
    service: &Arc<Service>,
    caller: &Caller,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let host = || text(service.host.as_str());
    let port = i32::from(service.port);
    if caller.version < 4 {
        return FindCoordinatorResponse::default()
            .with_node_id(NODE)
            .with_host(host())
            .with_port(port);
    }
    let coordinators = request.coordinator_keys.into_iter().map(|key| {
        Coordinator::default()
            .with_key(key)
            .with_node_id(NODE)
            .with_host(host())
            .with_port(port)
    });
    FindCoordinatorResponse::default().with_coordinators(coordinators.collect())
}
