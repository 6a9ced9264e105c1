//! What the reconciler found, repaired and swept.

use millrace_reconciler::schedule::SharedStats;
use millrace_telemetry::prometheus_client::collector::Collector;
use millrace_telemetry::prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use millrace_telemetry::prometheus_client::metrics::gauge::ConstGauge;
use millrace_telemetry::prometheus_client::registry::Registry;

use super::{counter, family, gauge};

/// Registers the metrics of the reconciler.
pub fn register(registry: &mut Registry, stats: SharedStats) {
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
