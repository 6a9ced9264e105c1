//! What the behavior endpoint and AIRec's tables took and refused.

use millrace_producers::airec::Tables;
use millrace_producers::behavior::collector::Collector as BehaviorEndpoint;
use millrace_telemetry::prometheus_client::collector::Collector;
use millrace_telemetry::prometheus_client::encoding::DescriptorEncoder;
use millrace_telemetry::prometheus_client::registry::Registry;

use super::{counter, family, gauge};

/// Reads the endpoints' own counters.
struct BehaviorCollector {
    endpoint: BehaviorEndpoint,
    tables: Tables,
}

/// Registers the metrics of the behavior endpoint and of the tables.
pub fn register(registry: &mut Registry, endpoint: BehaviorEndpoint, tables: Tables) {
    registry.register_collector(Box::new(BehaviorCollector { endpoint, tables }));
}

impl std::fmt::Debug for BehaviorCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BehaviorCollector").finish_non_exhaustive()
    }
}

impl Collector for BehaviorCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let stats = self.endpoint.stats();
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
        )?;
        let tables = self.tables.stats();
        for (name, help, counts) in [
            (
                "millrace_airec_rows",
                "Rows of AIRec's tables that are on their topics.",
                tables.accepted,
            ),
            (
                "millrace_airec_rejected_rows",
                "Rows of AIRec's tables that were dead-lettered.",
                tables.rejected,
            ),
        ] {
            family(&mut encoder, name, help, "table", counts.into_iter())?;
        }
        Ok(())
    }
}
