//! What became of feedback.

use std::sync::Arc;

use millrace_profiles::ProfilesHandle;
use millrace_telemetry::prometheus_client::collector::Collector;
use millrace_telemetry::prometheus_client::encoding::DescriptorEncoder;
use millrace_telemetry::prometheus_client::registry::Registry;

use super::{counter, family, gauge, records_behind};

/// Reads the consumer's own counters whenever somebody asks for metrics.
struct ProfilesCollector(Arc<ProfilesHandle>);

/// Registers the metrics of the consumer that keeps profiles.
pub fn register(registry: &mut Registry, profiles: &Arc<ProfilesHandle>) {
    registry.register_collector(Box::new(ProfilesCollector(Arc::clone(profiles))));
}

impl std::fmt::Debug for ProfilesCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProfilesCollector").finish_non_exhaustive()
    }
}

impl Collector for ProfilesCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let stats = self.0.stats();
        let outcomes = [
            ("applied", stats.applied),
            ("duplicate", stats.duplicates),
            ("dead_lettered", stats.dead_lettered),
        ];
        family(
            &mut encoder,
            "millrace_feedback",
            "Feedback by what became of it.",
            "outcome",
            outcomes.into_iter(),
        )?;
        counter(
            &mut encoder,
            "millrace_profiles_refused_writes",
            "Writes of profiles that the state refused.",
            stats.refused_writes,
        )?;
        gauge(
            &mut encoder,
            "millrace_profiles_lag_records",
            "Records of feedback not applied yet, all partitions.",
            records_behind(&self.0.consumer()),
        )
    }
}
