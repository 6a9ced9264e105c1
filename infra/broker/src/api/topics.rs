//! CreateTopics, DeleteTopics, CreatePartitions.

use std::error::Error as _;
use std::sync::Arc;

use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{Caller, text};
use crate::service::Service;
use crate::topic_config::SETTINGS;
use crate::topics::TopicError;

/// What stands beside the code.
pub fn message(error: &TopicError) -> Option<StrBytes> {
    let cause = error
        .source()
        .map(|cause| format!(": {cause}"))
        .unwrap_or_default();
    Some(text(format!("{error}{cause}")))
}

pub fn create_topics(
    service: &Arc<Service>,
    _caller: &Caller,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let validate_only = request.validate_only;
    let topics = request
        .topics
        .into_iter()
        .map(|topic| create(service, topic, validate_only));
    CreateTopicsResponse::default().with_topics(topics.collect())
}

fn create(service: &Service, topic: CreatableTopic, validate_only: bool) -> CreatableTopicResult {
    let overrides = topic
        .configs
        .iter()
        .filter_map(|config| {
            config
                .value
                .as_ref()
                .map(|value| (config.name.to_string(), value.to_string()))
        })
        .collect();
    let partitions = match (topic.assignments.len(), topic.num_partitions) {
        (0, -1) => service.config.default_partitions,
        (0, said) => said,
        (assigned, _) => i32::try_from(assigned).unwrap_or(i32::MAX),
    };
    let replicas = if topic.assignments.is_empty() {
        topic.replication_factor
    } else {
        1
    };
    let answer = CreatableTopicResult::default().with_name(topic.name.clone());
    match service
        .topics
        .create(&topic.name, partitions, replicas, overrides, validate_only)
    {
        Ok(made) => {
            let config = made.config();
            let configs = SETTINGS.iter().map(|setting| {
                CreatableTopicConfigs::default()
                    .with_name(text(setting.name))
                    .with_value(Some(text(
                        config.value(setting, service.config.message_max_bytes),
                    )))
                    .with_config_source(if config.overrides.contains_key(setting.name) {
                        1
                    } else {
                        5
                    })
            });
            answer
                .with_num_partitions(partitions)
                .with_replication_factor(1)
                .with_configs(Some(configs.collect()))
        }
        Err(error) => answer
            .with_error_code(error.response().code())
            .with_error_message(message(&error))
            .with_num_partitions(-1)
            .with_replication_factor(-1),
    }
}

pub fn delete_topics(
    service: &Arc<Service>,
    _caller: &Caller,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let topics = request.topic_names.into_iter().map(|name| {
        let deleted = service.topics.delete(&name);
        let error_code = deleted
            .as_ref()
            .err()
            .map_or(0, |error| error.response().code());
        DeletableTopicResult::default()
            .with_name(Some(name))
            .with_error_code(error_code)
            .with_error_message(deleted.as_ref().err().and_then(message))
    });
    let topics = topics.collect();
    // Readers that wait in a deleted topic should learn of it now.
    service.appended.notify_waiters();
    DeleteTopicsResponse::default().with_responses(topics)
}

pub fn create_partitions(
    service: &Arc<Service>,
    _caller: &Caller,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let results = request.topics.into_iter().map(|topic| {
        let grown = service
            .topics
            .grow(&topic.name, topic.count, request.validate_only);
        CreatePartitionsTopicResult::default()
            .with_name(topic.name)
            .with_error_code(
                grown
                    .as_ref()
                    .err()
                    .map_or(0, |error| error.response().code()),
            )
            .with_error_message(grown.as_ref().err().and_then(message))
    });
    CreatePartitionsResponse::default().with_results(results.collect())
}
