//! Logs, traces, metrics and the health endpoints.
