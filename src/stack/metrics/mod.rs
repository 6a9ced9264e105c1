//! What the parts count, as Prometheus metrics. The names are in `docs/metrics.md`.

use std::sync::Arc;

use millrace_kafka::ConsumerHandle;
use millrace_producers::behavior::collector::Collector as BehaviorEndpoint;
use millrace_producers::http::NoticeCounts;
use millrace_reconciler::schedule::SharedStats;
use millrace_telemetry::prometheus_client::collector::Collector;
use millrace_telemetry::prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use millrace_telemetry::prometheus_client::metrics::counter::ConstCounter;
use millrace_telemetry::prometheus_client::metrics::gauge::ConstGauge;
use millrace_telemetry::prometheus_client::registry::Registry;
use millrace_vectorizer::VectorizerHandle;

use super::pipeline::Pipeline;
use super::uploads::Uploads;

/// Reads the parts' own counters whenever somebody asks for metrics.
struct PipelineCollector {
    vectorizer: Arc<VectorizerHandle>,
    consumer: ConsumerHandle,
}

/// Registers the metrics of a pipeline.
pub fn register(registry: &mut Registry, pipeline: &Pipeline) {
    registry.register_collector(Box::new(PipelineCollector {
        vectorizer: Arc::clone(&pipeline.vectorizer),
        consumer: pipeline.consumer.clone(),
    }));
}

/// Registers the metrics of the notices endpoint.
pub fn register_notices(registry: &mut Registry, uploads: &Uploads) {
    registry.register_collector(Box::new(NoticesCollector(Arc::clone(&uploads.notices))));
}

/// Reads the counts of the notices endpoint.
#[derive(Debug)]
struct NoticesCollector(Arc<NoticeCounts>);

impl Collector for NoticesCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        family(
            &mut encoder,
            "millrace_notice_entries",
            "Entries posted to /v1/notices by what became of them.",
            "result",
            self.0.snapshot().into_iter(),
        )
    }
}

/// Registers the metrics of the reconciler.
pub fn register_reconciler(registry: &mut Registry, stats: SharedStats) {
    registry.register_collector(Box::new(ReconcilerCollector(stats)));
}

#[derive(Debug)]
struct ReconcilerCollector(SharedStats);

impl Collector for ReconcilerCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let stats = self.0.snapshot();
        family(
            &mut encoder,
            "millrace_reconciler_runs",
            "Comparisons by how they ended.",
            "result",
            [("done", stats.runs), ("failed", stats.failed_runs)].into_iter(),
        )?;
        let zero = ConstGauge::new(0_u64);
        let mut differences = encoder.encode_descriptor(
            "millrace_reconciler_differences",
            "Differences that the last comparison found.",
            None,
            zero.metric_type(),
        )?;
        for (class, count) in stats.differences {
            let labels = [("class", class)];
            ConstGauge::new(count).encode(differences.encode_family(&labels)?)?;
        }
        counter(
            &mut encoder,
            "millrace_reconciler_repairs",
            "Notices published to repair.",
            stats.repairs,
        )?;
        gauge(
            &mut encoder,
            "millrace_reconciler_last_run_timestamp_seconds",
            "When the last comparison ended.",
            stats.last_run_ms / 1000,
        )?;
        let took = ConstGauge::new(stats.last_run_seconds);
        took.encode(encoder.encode_descriptor(
            "millrace_reconciler_last_run_duration_seconds",
            "How long the last comparison took.",
            None,
            took.metric_type(),
        )?)?;
        counter(
            &mut encoder,
            "millrace_tombstones_swept",
            "Tombstones removed from the index.",
            stats.swept,
        )
    }
}

/// The same of the behavior endpoint.
struct BehaviorCollector(BehaviorEndpoint);

/// Registers the metrics of the behavior endpoint.
pub fn register_collector(registry: &mut Registry, endpoint: BehaviorEndpoint) {
    registry.register_collector(Box::new(BehaviorCollector(endpoint)));
}

impl std::fmt::Debug for BehaviorCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BehaviorCollector").finish_non_exhaustive()
    }
}

impl Collector for BehaviorCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let stats = self.0.stats();
        family(
            &mut encoder,
            "millrace_behavior_events",
            "Events taken over HTTP, by kind.",
            "kind",
            stats.events.into_iter(),
        )?;
        family(
            &mut encoder,
            "millrace_behavior_rejected_rows",
            "Rows dead-lettered, by reason.",
            "reason",
            stats.rejected.into_iter(),
        )?;
        counter(
            &mut encoder,
            "millrace_behavior_passed_over_rows",
            "Rows of no concern, such as metadata of items.",
            stats.passed_over,
        )?;
        let answers: Vec<(String, u64)> = stats
            .answers
            .into_iter()
            .map(|(status, count)| (status.to_string(), count))
            .collect();
        family(
            &mut encoder,
            "millrace_behavior_answers",
            "Answers of the behavior endpoint, by status.",
            "status",
            answers
                .iter()
                .map(|(status, count)| (status.as_str(), *count)),
        )?;
        gauge(
            &mut encoder,
            "millrace_behavior_in_flight_bytes",
            "Bodies of requests in hand, unpacked.",
            i64::try_from(stats.in_flight_bytes).unwrap_or(i64::MAX),
        )
    }
}

impl std::fmt::Debug for PipelineCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PipelineCollector").finish_non_exhaustive()
    }
}

impl Collector for PipelineCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let stats = self.vectorizer.stats();
        let outcomes = [
            ("indexed", stats.indexed),
            ("removed", stats.removed),
            ("stale", stats.stale),
            ("superseded", stats.superseded),
            ("dead_lettered", stats.dead_lettered),
        ];
        family(
            &mut encoder,
            "millrace_documents",
            "Notices by how they ended.",
            "outcome",
            outcomes.into_iter(),
        )?;
        family(
            &mut encoder,
            "millrace_dead_letters",
            "Dead letters by the stage that failed.",
            "stage",
            stats.dead_letters_by_stage.into_iter(),
        )?;
        counter(
            &mut encoder,
            "millrace_chunks",
            "Chunks written to the index.",
            stats.chunks,
        )?;
        counter(
            &mut encoder,
            "millrace_tokens",
            "Tokens embedded.",
            stats.tokens,
        )?;
        counter(
            &mut encoder,
            "millrace_signals",
            "Signals published.",
            stats.signals,
        )?;
        gauge(
            &mut encoder,
            "millrace_documents_in_flight",
            "Documents between receipt and acknowledgement.",
            stats.in_flight_documents,
        )?;
        let consumer = self.consumer.metrics();
        let counts = [
            (
                "millrace_consumer_records_received",
                "Records received.",
                consumer.received,
            ),
            (
                "millrace_consumer_records_finished",
                "Records finished.",
                consumer.finished,
            ),
            (
                "millrace_consumer_late_acknowledgements",
                "Acknowledgements of a dead epoch, ignored.",
                consumer.late_acknowledgements,
            ),
            (
                "millrace_consumer_pauses",
                "Partitions paused by backpressure.",
                consumer.pauses,
            ),
            (
                "millrace_consumer_rebalances",
                "Assignments and revocations.",
                consumer.rebalances,
            ),
            (
                "millrace_consumer_drain_timeouts",
                "Revocations that did not wait for all handlers.",
                consumer.drain_timeouts,
            ),
            (
                "millrace_consumer_evictions",
                "Evictions from the group.",
                consumer.evictions,
            ),
        ];
        for (name, help, value) in counts {
            counter(&mut encoder, name, help, value)?;
        }
        let lag = consumer
            .partitions
            .iter()
            .filter_map(|partition| partition.lag)
            .sum();
        gauge(
            &mut encoder,
            "millrace_consumer_lag_records",
            "Records not read yet, all partitions.",
            lag,
        )
    }
}

pub(super) fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> std::fmt::Result {
    let counter = ConstCounter::new(value);
    counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
}

pub(super) fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: i64,
) -> std::fmt::Result {
    let gauge = ConstGauge::new(value);
    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
}

pub(super) fn family<'a>(
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
