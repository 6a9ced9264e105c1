//! How far consumer groups are behind, under the names of
//! [klag-exporter](https://docs.rs/crate/klag-exporter) and kafka-lag-exporter, so that their dashboards
//! and alerts work.

use std::collections::BTreeMap;
use std::fmt;
use std::time::UNIX_EPOCH;

use millrace_kafka::{LagStatus, PartitionLag};
use millrace_telemetry::prometheus_client::collector::Collector;
use millrace_telemetry::prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, EncodeMetric,
};
use millrace_telemetry::prometheus_client::metrics::gauge::ConstGauge;
use millrace_telemetry::prometheus_client::registry::Registry;

use crate::stack::lagging::{LastLook, Seen};

/// Tells what the last look has seen: a scrape asks no broker.
#[derive(Clone)]
struct LagCollector(LastLook);

/// Registers the metrics of consumer groups.
pub fn register(registry: &mut Registry, last: &LastLook) {
    registry.register_collector(Box::new(LagCollector(last.clone())));
}

impl fmt::Debug for LagCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LagCollector").finish_non_exhaustive()
    }
}

impl Collector for LagCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let seen = self.0.get();
        // After a look that failed nothing is told rather than what was: an old OK would hide the trouble.
        let fresh = seen.as_ref().filter(|seen| seen.succeeded);
        of_partitions(&mut encoder, fresh)?;
        of_groups(&mut encoder, fresh)?;
        of_exporter(&mut encoder, seen.as_ref())
    }
}

fn of_partitions(encoder: &mut DescriptorEncoder<'_>, seen: Option<&Seen>) -> fmt::Result {
    let lags = || seen.iter().flat_map(|seen| &seen.lags.partitions);
    series(
        encoder,
        "kafka_consumergroup_group_offset",
        "The offset that a group resumes from.",
        lags().map(|lag| (labels(lag), lag.current)),
    )?;
    series(
        encoder,
        "kafka_consumergroup_group_lag",
        "Records of a partition that a group has not read.",
        lags().map(|lag| (labels(lag), lag.lag)),
    )?;
    series(
        encoder,
        "kafka_consumergroup_group_lag_seconds",
        "The age of the next record that a group has not read.",
        lags().filter_map(|lag| Some((labels(lag), lag.lag_seconds?))),
    )?;
    let assessed = seen.into_iter().flat_map(|seen| {
        let assessments = seen.assessments.iter();
        seen.lags.partitions.iter().zip(assessments)
    });
    series(
        encoder,
        "millrace_consumer_group_status",
        "What a lag means: 0 OK, 1 WARN, 2 REWIND, 3 STALL, 4 STOP.",
        assessed.map(|(lag, assessment)| (labels(lag), code(assessment.status))),
    )?;
    let ends: BTreeMap<_, _> = lags()
        .map(|lag| ((lag.topic.as_str(), lag.partition), lag.end))
        .collect();
    series(
        encoder,
        "kafka_partition_latest_offset",
        "The offset that the next record of a partition gets.",
        ends.into_iter().map(|((topic, partition), end)| {
            let labels = [
                ("topic", topic.to_owned()),
                ("partition", partition.to_string()),
            ];
            (labels, end)
        }),
    )
}

fn of_groups(encoder: &mut DescriptorEncoder<'_>, seen: Option<&Seen>) -> fmt::Result {
    let mut groups: BTreeMap<&str, (i64, i64, f64)> = BTreeMap::new();
    let mut topics: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    for lag in seen.iter().flat_map(|seen| &seen.lags.partitions) {
        let (max, sum, seconds) = groups.entry(&lag.group).or_default();
        *max = lag.lag.max(*max);
        *sum += lag.lag;
        *seconds = lag.lag_seconds.unwrap_or(0.0).max(*seconds);
        *topics.entry((&lag.group, &lag.topic)).or_default() += lag.lag;
    }
    let group = |name: &str| [("group", name.to_owned())];
    series(
        encoder,
        "kafka_consumergroup_group_max_lag",
        "The greatest lag of a group's partitions.",
        groups.iter().map(|(name, (max, _, _))| (group(name), *max)),
    )?;
    series(
        encoder,
        "kafka_consumergroup_group_max_lag_seconds",
        "The age of the oldest record that a group has not read.",
        groups
            .iter()
            .map(|(name, (_, _, seconds))| (group(name), *seconds)),
    )?;
    series(
        encoder,
        "kafka_consumergroup_group_sum_lag",
        "Records that a group has not read.",
        groups.iter().map(|(name, (_, sum, _))| (group(name), *sum)),
    )?;
    series(
        encoder,
        "kafka_consumergroup_group_topic_sum_lag",
        "Records of a topic that a group has not read.",
        topics.into_iter().map(|((group, topic), sum)| {
            (
                [("group", group.to_owned()), ("topic", topic.to_owned())],
                sum,
            )
        }),
    )?;
    let described = seen.iter().flat_map(|seen| &seen.lags.groups);
    series(
        encoder,
        "kafka_consumergroup_group_state",
        "1 for the state that a group is in.",
        described.map(|known| {
            let labels = [
                ("group", known.name.clone()),
                ("state", known.state.clone()),
            ];
            (labels, 1_i64)
        }),
    )
}

fn of_exporter(encoder: &mut DescriptorEncoder<'_>, seen: Option<&Seen>) -> fmt::Result {
    single(
        encoder,
        "kafka_lag_exporter_up",
        "1 where the last look at the groups succeeded.",
        i64::from(seen.is_some_and(|seen| seen.succeeded)),
    )?;
    single(
        encoder,
        "kafka_lag_exporter_scrape_duration_seconds",
        "How long the last look took. A scrape tells what it saw and asks nobody.",
        seen.map_or(0.0, |seen| seen.took.as_secs_f64()),
    )?;
    let at = seen.and_then(|seen| seen.at.duration_since(UNIX_EPOCH).ok());
    single(
        encoder,
        "kafka_lag_exporter_last_update_timestamp_seconds",
        "When the last look that succeeded ended, since 1970; 0 before it.",
        at.map_or(0.0, |at| at.as_secs_f64()),
    )
}

fn single<V: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: V,
) -> fmt::Result {
    let gauge = ConstGauge::new(value);
    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
}

fn labels(lag: &PartitionLag) -> [(&'static str, String); 6] {
    let of = |part: fn(&millrace_kafka::LagMember) -> &String| {
        lag.member.as_ref().map(part).cloned().unwrap_or_default()
    };
    [
        ("group", lag.group.clone()),
        ("topic", lag.topic.clone()),
        ("partition", lag.partition.to_string()),
        ("member_host", of(|member| &member.host)),
        ("consumer_id", of(|member| &member.id)),
        ("client_id", of(|member| &member.client_id)),
    ]
}

fn code(status: LagStatus) -> i64 {
    match status {
        LagStatus::Ok => 0,
        LagStatus::Warn => 1,
        LagStatus::Rewind => 2,
        LagStatus::Stall => 3,
        LagStatus::Stop => 4,
    }
}

fn series<V: EncodeGaugeValue, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl Iterator<Item = ([(&'static str, String); N], V)>,
) -> fmt::Result {
    let kind = ConstGauge::new(0_i64).metric_type();
    let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, value) in values {
        ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}
