//! What a process tells about itself: logs, traces, metrics and health.
//!
//! Logs go to standard error, so that standard output stays one JSON object
//! for a command's `--json`. Traces cross processes as W3C `traceparent`
//! headers and are exported over OTLP only where an endpoint is configured.
//! Metrics are Prometheus text, health is `/healthz` (the process answers)
//! and `/readyz` (each part of it can do its work, or says why it can't).
//!
//! Left to others: what is measured. Each crate counts its own events in plain
//! structs; the binary registers them here.

mod health;
mod http;
mod logs;
mod traces;

pub use health::{Health, HealthReport, Part};
pub use http::router;
pub use logs::{LogFormat, TelemetryConfig, TelemetryError, TelemetryGuard, init};
pub use prometheus_client;
pub use traces::continue_trace;
