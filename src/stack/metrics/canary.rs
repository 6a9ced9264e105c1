//! How long a document takes until it is found.

use millrace_telemetry::prometheus_client::registry::Registry;

use crate::stack::canary::CanaryStats;

/// Registers the metrics of the canary.
pub fn register(registry: &mut Registry, stats: &CanaryStats) {
    registry.register(
        "millrace_canary_searchable_seconds",
        "Seconds from the beginning of the canary's upload until a search found it",
        stats.searchable_seconds.clone(),
    );
    registry.register(
        "millrace_canary_rounds",
        "Rounds of the canary by how they ended",
        stats.rounds.clone(),
    );
}
