//! What the joiner did.

use std::sync::Arc;

use millrace_joiner::JoinerHandle;
use millrace_telemetry::prometheus_client::collector::Collector;
use millrace_telemetry::prometheus_client::encoding::DescriptorEncoder;
use millrace_telemetry::prometheus_client::registry::Registry;

use super::{counter, family, gauge, records_behind, watermark_lag_seconds};

/// Reads the joiner's own counters whenever somebody asks for metrics.
struct JoinerCollector(Arc<JoinerHandle>);

/// Registers the metrics of a joiner.
pub fn register(registry: &mut Registry, joiner: &Arc<JoinerHandle>) {
    registry.register_collector(Box::new(JoinerCollector(Arc::clone(joiner))));
}

impl std::fmt::Debug for JoinerCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinerCollector").finish_non_exhaustive()
    }
}

impl Collector for JoinerCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let stats = self.0.stats();
        let outcomes = [
            ("joined", stats.joined),
            ("unmatched", stats.unmatched),
            ("duplicate", stats.duplicates),
            ("dead_lettered", stats.dead_lettered),
        ];
        family(
            &mut encoder,
            "millrace_behavior",
            "Behavior events by how they ended.",
            "outcome",
            outcomes.into_iter(),
        )?;
        for (name, help, value) in [
            (
                "millrace_behavior_rekeyed",
                "Behavior events written by item.",
                stats.rekeyed,
            ),
            (
                "millrace_joiner_signals",
                "Signals read by the joiner.",
                stats.signals,
            ),
            (
                "millrace_joiner_unreadable_signals",
                "Signals that could not be read, left out.",
                stats.unreadable_signals,
            ),
            (
                "millrace_joiner_refused_writes",
                "Writes that the state refused.",
                stats.refused_writes,
            ),
        ] {
            counter(&mut encoder, name, help, value)?;
        }
        let partitions = stats.partitions.values();
        let waiting: u64 = partitions.clone().map(|partition| partition.waiting).sum();
        for (name, help, value) in [
            (
                "millrace_behavior_waiting",
                "Behavior events that wait for their signal.",
                i64::try_from(waiting).unwrap_or(i64::MAX),
            ),
            (
                "millrace_joiner_watermark_lag_seconds",
                "How far the clock is ahead of the slowest partition's watermark.",
                watermark_lag_seconds(
                    partitions.map(|partition| partition.watermark_ms),
                    jiff::Timestamp::now().as_millisecond(),
                ),
            ),
            (
                "millrace_rekey_lag_records",
                "Records of behavior not read yet, all partitions.",
                records_behind(self.0.rekey_consumer()),
            ),
            (
                "millrace_joiner_lag_records",
                "Records of behavior by item not joined yet, all partitions.",
                records_behind(&self.0.join_consumer()),
            ),
        ] {
            gauge(&mut encoder, name, help, value)?;
        }
        Ok(())
    }
}
