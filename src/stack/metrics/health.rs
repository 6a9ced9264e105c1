//! Which parts of the process can do their work, as `/readyz` tells it.

use millrace_telemetry::Health;
use millrace_telemetry::prometheus_client::collector::Collector;
use millrace_telemetry::prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use millrace_telemetry::prometheus_client::metrics::gauge::ConstGauge;
use millrace_telemetry::prometheus_client::registry::Registry;

/// Registers the readiness of each part.
pub fn register(registry: &mut Registry, health: &Health) {
    registry.register_collector(Box::new(HealthCollector(health.clone())));
}

#[derive(Debug)]
struct HealthCollector(Health);

impl Collector for HealthCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let zero = ConstGauge::new(0_u64);
        let mut ready = encoder.encode_descriptor(
            "millrace_part_ready",
            "Whether a part can do its work.",
            None,
            zero.metric_type(),
        )?;
        for (part, is_ready) in self.0.parts() {
            let labels = [("part", part)];
            ConstGauge::new(u64::from(is_ready)).encode(ready.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
