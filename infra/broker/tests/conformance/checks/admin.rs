//! Topics and their settings.

use std::collections::HashMap;

use anyhow::{Context, Result, anyhow, ensure};
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::{
    ApiKey, DescribeClusterRequest, DescribeClusterResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};
use kafka_protocol::protocol::StrBytes;
use rdkafka::admin::{AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::Consumer;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use crate::client::{DEADLINE, Target, admin_options, eventually, one, send, unique, wait};
use crate::raw::Raw;

fn partition_count(target: &Target, topic: &str) -> Result<usize> {
    let metadata = target
        .consumer("any", &[])?
        .fetch_metadata(Some(topic), DEADLINE)?;
    Ok(metadata
        .topics()
        .first()
        .context("no such topic")?
        .partitions()
        .len())
}

pub fn create_topics_and_refuse_a_second(target: &Target) -> Result<()> {
    let topic = target.topic("create", 3, &[])?;
    ensure!(partition_count(target, &topic)? == 3);
    let again = NewTopic::new(&topic, 3, TopicReplication::Fixed(1));
    let refused = one(wait(
        target.admin()?.create_topics([&again], &admin_options()),
    )?)?;
    ensure!(
        matches!(refused, Err((_, RDKafkaErrorCode::TopicAlreadyExists))),
        "{refused:?}"
    );
    Ok(())
}

pub fn refuse_bad_topic_names_and_settings(target: &Target) -> Result<()> {
    let name = unique("bad");
    let admin = target.admin()?;
    let create = |topic: &NewTopic<'_>| one(wait(admin.create_topics([topic], &admin_options()))?);
    let bad_name = create(&NewTopic::new("no spaces", 1, TopicReplication::Fixed(1)))?;
    ensure!(
        matches!(bad_name, Err((_, RDKafkaErrorCode::InvalidTopic))),
        "{bad_name:?}"
    );
    let topic = || NewTopic::new(&name, 1, TopicReplication::Fixed(1));
    let unknown = create(&topic().set("retention", "1"))?;
    ensure!(
        matches!(unknown, Err((_, RDKafkaErrorCode::InvalidConfig))),
        "{unknown:?}"
    );
    let bad_value = create(&topic().set("retention.ms", "soon"))?;
    ensure!(
        matches!(bad_value, Err((_, RDKafkaErrorCode::InvalidConfig))),
        "{bad_value:?}"
    );
    let no_partitions = create(&NewTopic::new(&name, 0, TopicReplication::Fixed(1)))?;
    ensure!(
        matches!(no_partitions, Err((_, RDKafkaErrorCode::InvalidPartitions))),
        "{no_partitions:?}"
    );
    let replicas = create(&NewTopic::new(&name, 1, TopicReplication::Fixed(3)))?;
    ensure!(
        matches!(
            replicas,
            Err((_, RDKafkaErrorCode::InvalidReplicationFactor))
        ),
        "{replicas:?}"
    );
    Ok(())
}

fn settings(target: &Target, topic: &str) -> Result<HashMap<String, String>> {
    let described = wait(
        target
            .admin()?
            .describe_configs([&ResourceSpecifier::Topic(topic)], &admin_options()),
    )?;
    let resource = one(described)?.map_err(|code| anyhow!("describe_configs: {code}"))?;
    Ok(resource
        .entries
        .into_iter()
        .filter_map(|entry| Some((entry.name, entry.value?)))
        .collect())
}

fn has_settings(target: &Target, topic: &str, wanted: &[(&str, &str)]) -> Result<()> {
    eventually(&format!("settings {wanted:?}"), || {
        let found = settings(target, topic)?;
        let all = wanted
            .iter()
            .all(|(name, value)| found.get(*name).is_some_and(|found| found == value));
        Ok(all.then_some(()))
    })
}

pub fn describe_and_alter_configs(target: &Target) -> Result<()> {
    let topic = target.topic(
        "configs",
        1,
        &[("cleanup.policy", "compact"), ("retention.ms", "3600000")],
    )?;
    has_settings(
        target,
        &topic,
        &[("cleanup.policy", "compact"), ("retention.ms", "3600000")],
    )?;
    let change = AlterConfig::new(ResourceSpecifier::Topic(&topic)).set("retention.ms", "12345");
    let altered = one(wait(
        target.admin()?.alter_configs([&change], &admin_options()),
    )?)?;
    altered.map_err(|(_, code)| anyhow!("alter_configs: {code}"))?;
    // This form of the request replaces everything.
    has_settings(
        target,
        &topic,
        &[("cleanup.policy", "delete"), ("retention.ms", "12345")],
    )
}

pub fn incremental_alter_configs_keep_the_rest(target: &Target) -> Result<()> {
    let topic = target.topic("increment", 1, &[("retention.ms", "3600000")])?;
    let mut raw = Raw::connect(&target.bootstrap)?;
    let mut alter = |name: &'static str, operation, value: &'static str| {
        let config = AlterableConfig::default()
            .with_name(StrBytes::from_static_str(name))
            .with_config_operation(operation)
            .with_value(Some(StrBytes::from_static_str(value)));
        let resource = AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(StrBytes::from_string(topic.clone()))
            .with_configs(vec![config]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let answer: IncrementalAlterConfigsResponse =
            raw.ask(ApiKey::IncrementalAlterConfigs, 1, &request)?;
        anyhow::Ok(answer.responses[0].error_code)
    };
    ensure!(alter("cleanup.policy", 2, "compact")? == 0);
    ensure!(alter("segment.bytes", 0, "2097152")? == 0);
    ensure!(
        alter("no.such.setting", 0, "1")? == 40,
        "an unknown setting is INVALID_CONFIG"
    );
    let wanted = [
        ("cleanup.policy", "delete,compact"),
        ("segment.bytes", "2097152"),
        ("retention.ms", "3600000"),
    ];
    has_settings(target, &topic, &wanted)?;
    ensure!(alter("cleanup.policy", 3, "delete")? == 0);
    ensure!(alter("retention.ms", 1, "")? == 0);
    has_settings(
        target,
        &topic,
        &[("cleanup.policy", "compact"), ("retention.ms", "604800000")],
    )
}

pub fn create_partitions(target: &Target) -> Result<()> {
    let topic = target.topic("grow", 1, &[])?;
    let admin = target.admin()?;
    let grown = one(wait(
        admin.create_partitions([&NewPartitions::new(&topic, 4)], &admin_options()),
    )?)?;
    grown.map_err(|(_, code)| anyhow!("create_partitions: {code}"))?;
    eventually("four partitions", || {
        Ok((partition_count(target, &topic)? == 4).then_some(()))
    })?;
    let shrunk = one(wait(
        admin.create_partitions([&NewPartitions::new(&topic, 2)], &admin_options()),
    )?)?;
    ensure!(
        matches!(shrunk, Err((_, RDKafkaErrorCode::InvalidPartitions))),
        "{shrunk:?}"
    );
    Ok(())
}

fn delete(target: &Target, topic: &str) -> Result<()> {
    let deleted = one(wait(
        target.admin()?.delete_topics(&[topic], &admin_options()),
    )?)?;
    deleted.map_err(|(_, code)| anyhow!("delete_topics: {code}"))?;
    let consumer = target.consumer("any", &[])?;
    eventually("the topic is gone", || {
        let metadata = consumer.fetch_metadata(None, DEADLINE)?;
        Ok((!metadata.topics().iter().any(|known| known.name() == topic)).then_some(()))
    })
}

pub fn delete_topics(target: &Target) -> Result<()> {
    let topic = target.topic("delete", 2, &[])?;
    send(&target.producer(&[])?, &topic, 0..10, None)?;
    delete(target, &topic)?;
    let again = one(wait(
        target.admin()?.delete_topics(&[&topic], &admin_options()),
    )?)?;
    ensure!(
        matches!(again, Err((_, RDKafkaErrorCode::UnknownTopicOrPartition))),
        "{again:?}"
    );
    Ok(())
}

pub fn recreated_topic_is_empty(target: &Target) -> Result<()> {
    let topic = target.topic("again", 1, &[])?;
    send(&target.producer(&[])?, &topic, 0..10, None)?;
    delete(target, &topic)?;
    let admin = target.admin()?;
    eventually("the name is free again", || {
        let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(1));
        Ok(one(wait(admin.create_topics([&new], &admin_options()))?)?.ok())
    })?;
    let consumer = target.consumer("any", &[])?;
    let marks = eventually("watermarks", || {
        Ok(consumer.fetch_watermarks(&topic, 0, DEADLINE).ok())
    })?;
    ensure!(marks == (0, 0), "{marks:?}");
    send(&target.producer(&[])?, &topic, 0..3, None)?;
    ensure!(consumer.fetch_watermarks(&topic, 0, DEADLINE)? == (0, 3));
    Ok(())
}

pub fn delete_records_moves_the_low_watermark(target: &Target) -> Result<()> {
    let topic = target.topic("trim", 1, &[])?;
    send(&target.producer(&[])?, &topic, 0..10, Some(0))?;
    let mut before = TopicPartitionList::new();
    before.add_partition_offset(&topic, 0, Offset::Offset(4))?;
    let deleted = wait(target.admin()?.delete_records(&before, &admin_options()))?;
    for element in deleted.elements() {
        element.error()?;
    }
    ensure!(
        target
            .consumer("any", &[])?
            .fetch_watermarks(&topic, 0, DEADLINE)?
            == (4, 10)
    );
    let seen = crate::client::read(&target.reader(&topic, 0, &[])?, 6)?;
    ensure!(seen[0].offset == 4, "{seen:?}");
    Ok(())
}

pub fn missing_topic_is_not_created(target: &Target) -> Result<()> {
    let topic = unique("missing");
    let consumer = target.consumer("any", &[("allow.auto.create.topics", "true")])?;
    let metadata = consumer.fetch_metadata(Some(&topic), DEADLINE)?;
    ensure!(metadata.topics()[0].error().is_some());
    let all = consumer.fetch_metadata(None, DEADLINE)?;
    ensure!(!all.topics().iter().any(|known| known.name() == topic));
    Ok(())
}

pub fn describe_cluster_names_the_broker(target: &Target) -> Result<()> {
    let mut raw = Raw::connect(&target.bootstrap)?;
    let answer: DescribeClusterResponse = raw.ask(
        ApiKey::DescribeCluster,
        0,
        &DescribeClusterRequest::default(),
    )?;
    ensure!(
        answer.error_code == 0 && answer.brokers.len() == 1 && !answer.cluster_id.is_empty(),
        "{answer:?}"
    );
    let broker = &answer.brokers[0];
    ensure!(broker.broker_id == answer.controller_id);
    ensure!(
        format!("{}:{}", broker.host, broker.port) == target.bootstrap,
        "{broker:?}"
    );
    Ok(())
}
