//! What the vectorizer and its consumer did.

use millrace_telemetry::prometheus_client::collector::Collector;
use millrace_telemetry::prometheus_client::encoding::DescriptorEncoder;
use millrace_telemetry::prometheus_client::registry::Registry;
use tokio::sync::watch;

use super::{counter, family, gauge};
use crate::stack::rollouts::Told;

/// Reads their own counters whenever somebody asks for metrics: those of the vectorizer that tells
/// outcomes, which after a rollout is another one.
struct PipelineCollector(watch::Receiver<Option<Told>>);

/// Registers the metrics of a pipeline.
pub fn register(registry: &mut Registry, told: watch::Receiver<Option<Told>>) {
    registry.register_collector(Box::new(PipelineCollector(told)));
}

impl std::fmt::Debug for PipelineCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PipelineCollector").finish_non_exhaustive()
    }
}

impl Collector for PipelineCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let told = self.0.borrow().clone();
        let Some(Told {
            vectorizer,
            consumer,
        }) = told
        else {
            return Ok(());
        };
        let stats = vectorizer.stats();
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
        let consumer = consumer.metrics();
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
