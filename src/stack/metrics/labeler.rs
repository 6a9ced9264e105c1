//! What became of answers and of the clicks on them.

use std::sync::Arc;

use millrace_labeler::LabelerHandle;
use millrace_telemetry::prometheus_client::collector::Collector;
use millrace_telemetry::prometheus_client::encoding::DescriptorEncoder;
use millrace_telemetry::prometheus_client::registry::Registry;

use super::{counter, family, gauge, records_behind, watermark_lag_seconds};

/// Reads the labeler's own counters whenever somebody asks for metrics.
struct LabelerCollector(Arc<LabelerHandle>);

/// Registers the metrics of the labeler.
pub fn register(registry: &mut Registry, labeler: &Arc<LabelerHandle>) {
    registry.register_collector(Box::new(LabelerCollector(Arc::clone(labeler))));
}

impl std::fmt::Debug for LabelerCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LabelerCollector").finish_non_exhaustive()
    }
}

impl Collector for LabelerCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let stats = self.0.stats();
        let records = [("first", stats.examples), ("correction", stats.corrections)];
        family(
            &mut encoder,
            "millrace_training_records",
            "Records of answers with their clicks.",
            "kind",
            records.into_iter(),
        )?;
        let clicks = [
            ("counted", stats.clicks.counted),
            ("duplicate", stats.clicks.duplicates),
            ("outside", stats.clicks.outside),
            ("not_shown", stats.clicks.not_shown),
            ("waiting", stats.clicks.waiting),
            ("unanswered", stats.clicks.unanswered),
        ];
        family(
            &mut encoder,
            "millrace_training_clicks",
            "Clicks that name an answer, by what became of them.",
            "outcome",
            clicks.into_iter(),
        )?;
        for (name, help, value) in [
            (
                "millrace_labeler_repeated_answers",
                "Answers whose request id had one before, left out.",
                stats.repeated_answers,
            ),
            (
                "millrace_labeler_dead_lettered",
                "Answers and clicks in a dead-letter topic.",
                stats.dead_lettered,
            ),
            (
                "millrace_labeler_refused_writes",
                "Writes that the state refused.",
                stats.refused_writes,
            ),
        ] {
            counter(&mut encoder, name, help, value)?;
        }
        let watermarks = stats.partitions.values();
        let watermarks = watermarks.map(|partition| partition.watermark_ms);
        for (name, help, value) in [
            (
                "millrace_labeler_watermark_lag_seconds",
                "How far the clock is ahead of the slowest partition's watermark.",
                watermark_lag_seconds(watermarks, jiff::Timestamp::now().as_millisecond()),
            ),
            (
                "millrace_labeler_lag_records",
                "Records of clicks by request not read yet, all partitions.",
                records_behind(&self.0.consumer()),
            ),
        ] {
            gauge(&mut encoder, name, help, value)?;
        }
        Ok(())
    }
}
