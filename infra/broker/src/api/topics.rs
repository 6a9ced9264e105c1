//! CreateTopics, DeleteTopics, CreatePartitions.

use std::collections::BTreeMap;
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

/// Code and text of what became of a topic.
pub fn outcome<T>(done: &Result<T, TopicError>) -> (i16, Option<StrBytes>) {
    let Err(error) = done else {
        return (0, None);
    };
    let cause = error
        .source()
        .map(|cause| format!(": {cause}"))
        .unwrap_or_default();
    (
        error.response().code(),
        Some(text(format!("{error}{cause}"))),
    )
}

/// The settings that a request gives a value; the others keep their defaults.
pub fn overrides<'a>(
    settings: impl Iterator<Item = (&'a StrBytes, &'a Option<StrBytes>)>,
) -> BTreeMap<String, String> {
    settings
        .filter_map(|(name, value)| Some((name.to_string(), value.as_ref()?.to_string())))
        .collect()
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
    let settings = topic.configs.iter();
    let overrides = overrides(settings.map(|setting| (&setting.name, &setting.value)));
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
    let created =
        service
            .topics
            .create(&topic.name, partitions, replicas, overrides, validate_only);
    let (error_code, error_message) = outcome(&created);
    match created {
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
        Err(_) => answer
            .with_error_code(error_code)
            .with_error_message(error_message)
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
        let (error_code, error_message) = outcome(&service.topics.delete(&name));
        DeletableTopicResult::default()
            .with_name(Some(name))
            .with_error_code(error_code)
            .with_error_message(error_message)
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
        let (error_code, error_message) = outcome(&grown);
        CreatePartitionsTopicResult::default()
            .with_name(topic.name)
            .with_error_code(error_code)
            .with_error_message(error_message)
    });
    CreatePartitionsResponse::default().with_results(results.collect())
}
