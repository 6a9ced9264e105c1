//! DescribeConfigs, AlterConfigs, IncrementalAlterConfigs.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse as IncrementalResponse;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::topics::{outcome, overrides};
use super::{Caller, text};
use crate::config::FlushPolicy;
use crate::service::{BROKER_ID, Service};
use crate::topic_config::{ConfigError, Kind, SETTINGS, find};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const SOURCE_TOPIC: i8 = 1;
const SOURCE_STATIC: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;

pub fn describe_configs(
    service: &Arc<Service>,
    _caller: &Caller,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let results = request.resources.into_iter().map(|resource| {
        let answer = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        let described = match resource.resource_type {
            TOPIC => topic_configs(service, &resource.resource_name),
            BROKER => broker_configs(service, &resource.resource_name),
            _ => Err(ResponseError::InvalidRequest),
        };
        match described {
            Ok(configs) => answer.with_configs(only_wanted(configs, &resource)),
            Err(error) => answer
                .with_error_code(error.code())
                .with_error_message(Some(text(error.to_string()))),
        }
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

fn only_wanted(
    configs: Vec<DescribeConfigsResourceResult>,
    resource: &DescribeConfigsResource,
) -> Vec<DescribeConfigsResourceResult> {
    let Some(keys) = &resource.configuration_keys else {
        return configs;
    };
    configs
        .into_iter()
        .filter(|config| keys.contains(&config.name))
        .collect()
}

fn topic_configs(
    service: &Service,
    name: &str,
) -> Result<Vec<DescribeConfigsResourceResult>, ResponseError> {
    let topic = service
        .topics
        .get(name)
        .ok_or(ResponseError::UnknownTopicOrPartition)?;
    let config = topic.config();
    let describe = |setting: &'static crate::topic_config::Setting| {
        let is_set = config.overrides.contains_key(setting.name);
        DescribeConfigsResourceResult::default()
            .with_name(text(setting.name))
            .with_value(Some(text(
                config.value(setting, service.config.message_max_bytes),
            )))
            .with_config_source(if is_set { SOURCE_TOPIC } else { SOURCE_DEFAULT })
            .with_config_type(type_number(setting.kind))
    };
    Ok(SETTINGS.iter().map(describe).collect())
}

fn broker_configs(
    service: &Service,
    id: &str,
) -> Result<Vec<DescribeConfigsResourceResult>, ResponseError> {
    if id != BROKER_ID.to_string() {
        return Err(ResponseError::InvalidRequest);
    }
    let config = &service.config;
    let flush_ms = match config.flush {
        FlushPolicy::Every(interval) => interval.as_millis().to_string(),
        FlushPolicy::Never | FlushPolicy::EachWrite => i64::MAX.to_string(),
    };
    let flush_messages = if config.flush == FlushPolicy::EachWrite {
        1
    } else {
        i64::MAX
    };
    let settings = [
        (
            "auto.create.topics.enable",
            config.auto_create_topics.to_string(),
            Kind::Boolean,
        ),
        (
            "log.flush.interval.messages",
            flush_messages.to_string(),
            Kind::Long,
        ),
        ("log.flush.interval.ms", flush_ms, Kind::Long),
        (
            "max.connections",
            config.max_connections.to_string(),
            Kind::Int,
        ),
        (
            "message.max.bytes",
            config.message_max_bytes.to_string(),
            Kind::Int,
        ),
        (
            "num.partitions",
            config.default_partitions.to_string(),
            Kind::Int,
        ),
        (
            "offsets.retention.minutes",
            (config.offsets_retention.as_secs() / 60).to_string(),
            Kind::Int,
        ),
        (
            "socket.request.max.bytes",
            config.request_max_bytes.to_string(),
            Kind::Int,
        ),
    ];
    let describe = |(name, value, kind): (&'static str, String, Kind)| {
        DescribeConfigsResourceResult::default()
            .with_name(text(name))
            .with_value(Some(text(value)))
            .with_read_only(true)
            .with_config_source(SOURCE_STATIC)
            .with_config_type(type_number(kind))
    };
    Ok(settings.into_iter().map(describe).collect())
}

fn type_number(kind: Kind) -> i8 {
    match kind {
        Kind::Boolean => 1,
        Kind::Text => 2,
        Kind::Int => 3,
        Kind::Long => 5,
        Kind::Double => 6,
        Kind::List => 7,
    }
}

/// Broker settings come from where the broker is started.
fn not_a_topic() -> (i16, Option<StrBytes>) {
    (
        ResponseError::InvalidRequest.code(),
        Some(text("only topics have settings that can be altered")),
    )
}

pub fn alter_configs(
    service: &Arc<Service>,
    _caller: &Caller,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
    let responses = request.resources.into_iter().map(|resource| {
        let settings = resource.configs.iter();
        let replacement = overrides(settings.map(|setting| (&setting.name, &setting.value)));
        let (error_code, error_message) = if resource.resource_type == TOPIC {
            outcome(&service.topics.reconfigure(
                &resource.resource_name,
                request.validate_only,
                |overrides| {
                    *overrides = replacement;
                    Ok(())
                },
            ))
        } else {
            not_a_topic()
        };
        AlterConfigsResourceResponse::default()
            .with_error_code(error_code)
            .with_error_message(error_message)
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name)
    });
    AlterConfigsResponse::default().with_responses(responses.collect())
}

pub fn incremental_alter_configs(
    service: &Arc<Service>,
    _caller: &Caller,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let responses = request.resources.into_iter().map(|resource| {
        let (error_code, error_message) = if resource.resource_type == TOPIC {
            outcome(&service.topics.reconfigure(
                &resource.resource_name,
                request.validate_only,
                |overrides| {
                    resource
                        .configs
                        .iter()
                        .try_for_each(|change| apply(overrides, change))
                },
            ))
        } else {
            not_a_topic()
        };
        IncrementalResponse::default()
            .with_error_code(error_code)
            .with_error_message(error_message)
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name)
    });
    IncrementalAlterConfigsResponse::default().with_responses(responses.collect())
}

/// Operations: 0 set, 1 delete, 2 append to a list, 3 take from a list.
fn apply(
    overrides: &mut BTreeMap<String, String>,
    change: &AlterableConfig,
) -> Result<(), ConfigError> {
    let name = change.name.to_string();
    let value = change
        .value
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    let setting = find(&name).ok_or_else(|| ConfigError::Unknown(name.clone()))?;
    let refuse = |why| ConfigError::Value {
        name: name.clone(),
        value: value.clone(),
        why,
    };
    let current = || {
        let list = overrides.get(&name).map_or(setting.default, String::as_str);
        list.split(',').map(str::to_owned).collect::<Vec<_>>()
    };
    let list = match change.config_operation {
        0 => value,
        1 => {
            overrides.remove(&name);
            return Ok(());
        }
        2 | 3 if setting.kind != Kind::List => return Err(refuse("not a list")),
        2 => {
            let mut list = current();
            let added = value
                .split(',')
                .filter(|item| !list.contains(&(*item).to_owned()));
            let added: Vec<String> = added.map(str::to_owned).collect();
            list.extend(added);
            list.join(",")
        }
        3 => {
            let mut list = current();
            list.retain(|item| !value.split(',').any(|gone| gone == item));
            list.join(",")
        }
        _ => return Err(refuse("unknown operation")),
    };
    overrides.insert(name, list);
    Ok(())
}
