//! What the parts count, as Prometheus metrics, one file a part. The names are in `docs/metrics.md`.

pub mod canary;
pub mod collector;
pub mod health;
pub mod joiner;
pub mod labeler;
pub mod lag;
pub mod notices;
pub mod pipeline;
pub mod profiles;
pub mod recommender;
pub mod reconciler;
pub mod rollouts;

use millrace_kafka::ConsumerHandle;
use millrace_telemetry::prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use millrace_telemetry::prometheus_client::metrics::counter::ConstCounter;
use millrace_telemetry::prometheus_client::metrics::gauge::ConstGauge;

fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> std::fmt::Result {
    let counter = ConstCounter::new(value);
    counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: i64,
) -> std::fmt::Result {
    let gauge = ConstGauge::new(value);
    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
}

fn family<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &'static str,
    values: impl Iterator<Item = (&'a str, u64)>,
) -> std::fmt::Result {
    let zero = ConstCounter::new(0u64);
    let mut metric = encoder.encode_descriptor(name, help, None, zero.metric_type())?;
    for (value, count) in values {
        let labels = [(label, value)];
        ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

/// Records that the consumer's partitions hold and it has not read yet.
fn records_behind(consumer: &ConsumerHandle) -> i64 {
    let partitions = consumer.metrics().partitions;
    partitions
        .iter()
        .filter_map(|partition| partition.lag)
        .sum()
}

/// How far the clock is ahead of the slowest of these watermarks; 0 where there is none yet.
fn watermark_lag_seconds(watermarks_ms: impl Iterator<Item = Option<i64>>, now_ms: i64) -> i64 {
    let slowest = watermarks_ms.flatten().min();
    slowest.map_or(0, |watermark_ms| {
        now_ms.saturating_sub(watermark_ms) / 1_000
    })
}
