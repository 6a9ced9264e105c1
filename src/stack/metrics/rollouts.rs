//! Which index generation serves, and how far a rollout is. How far its vectorizer is behind is in the
//! metrics of consumer groups.

use millrace_schemas::{GateVerdict, Rollout, RolloutPhase};
use millrace_telemetry::prometheus_client::collector::Collector;
use millrace_telemetry::prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use millrace_telemetry::prometheus_client::metrics::gauge::ConstGauge;
use millrace_telemetry::prometheus_client::registry::Registry;
use tokio::sync::watch;

use super::gauge;
use crate::stack::rollouts::Rollouts;

/// Registers the metrics of rollouts.
pub fn register(registry: &mut Registry, rollouts: &Rollouts) {
    registry.register_collector(Box::new(RolloutsCollector {
        serving: rollouts.serving(),
        record: rollouts.record(),
    }));
}

#[derive(Debug)]
struct RolloutsCollector {
    serving: watch::Receiver<u32>,
    record: watch::Receiver<Option<Rollout>>,
}

impl Collector for RolloutsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        gauge(
            &mut encoder,
            "millrace_index_generation",
            "Number of the index generation that serves.",
            i64::from(*self.serving.borrow()),
        )?;
        let record = self.record.borrow();
        let rollout = record.as_ref();
        let phase = rollout.map(|rollout| rollout.phase);
        let zero = ConstGauge::new(0_i64);
        let mut phases = encoder.encode_descriptor(
            "millrace_rollout_phase",
            "1 for the phase of the last rollout, 0 for all others.",
            None,
            zero.metric_type(),
        )?;
        // Each has a line, so that a phase that is over goes to 0.
        for named in RolloutPhase::ALL {
            let labels = [("phase", named.as_str())];
            let is_reached = i64::from(phase == Some(named));
            ConstGauge::new(is_reached).encode(phases.encode_family(&labels)?)?;
        }
        let since_ms = rollout.and_then(|rollout| rollout.phases.get(rollout.phase.as_str()));
        gauge(
            &mut encoder,
            "millrace_rollout_phase_since_timestamp_seconds",
            "When the last rollout got to its phase.",
            since_ms.copied().unwrap_or(0) / 1_000,
        )?;
        let mut gates = encoder.encode_descriptor(
            "millrace_rollout_gate_passed",
            "Gates as the last switch measured them: 1 passed, 0 did not; without those not measured.",
            None,
            zero.metric_type(),
        )?;
        for gate in rollout.into_iter().flat_map(|it| &it.gates) {
            let passed = match gate.verdict {
                GateVerdict::Passed => 1_i64,
                GateVerdict::Failed => 0,
                GateVerdict::NotMeasured | GateVerdict::Unknown => continue,
            };
            let labels = [("gate", gate.gate.as_str())];
            ConstGauge::new(passed).encode(gates.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
