//! Installing the process's one `tracing` subscriber.

use std::io::{IsTerminal, Write as _};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde::{Deserialize, Serialize};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One readable line an event, coloured on a terminal unless `NO_COLOR` is set.
    #[default]
    Text,
    /// One JSON object an event.
    Json,
}

/// Logs and trace export.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// Filter in `tracing`'s directive syntax. Default: `warn,millrace=info`.
    pub log: String,
    /// `text` (default) or `json`.
    pub log_format: LogFormat,
    /// Base URL of an OTLP/HTTP collector, such as `http://127.0.0.1:4318`. Default: none, nothing is exported.
    pub otlp_endpoint: Option<String>,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            log: "warn,millrace=info".to_owned(),
            log_format: LogFormat::default(),
            otlp_endpoint: None,
        }
    }
}

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log filter does not parse.
    #[error("invalid log filter {filter:?}; expected directives such as \"info,millrace=debug\"")]
    Filter {
        /// What was given.
        filter: String,
        /// Why it does not parse.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// The OTLP exporter could not be built.
    #[error("can't export traces to {endpoint}")]
    Exporter {
        /// The configured endpoint.
        endpoint: String,
        /// The exporter's own reason.
        #[source]
        source: opentelemetry_otlp::ExporterBuildError,
    },
    /// A subscriber is installed already.
    #[error("telemetry was set up twice in one process")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
}

/// Flushes what is still to be exported when dropped.
#[derive(Debug, Default)]
pub struct TelemetryGuard {
    provider: Option<SdkTracerProvider>,
}

impl Drop for TelemetryGuard {
    fn drop(&mut self) {
        if let Some(provider) = &self.provider
            && let Err(error) = provider.shutdown()
        {
            // The subscriber is being torn down: standard error is all that is left, and where that can't be
            // written, nothing is.
            let mut stderr = std::io::stderr();
            let _ = writeln!(stderr, "the last traces were not exported: {error}");
        }
    }
}

/// The spans that are exported.
const EXPORTED: &str = "off,millrace=info";

/// Installs the process's subscriber.
///
/// # Errors
/// A filter that does not parse, an endpoint that is no URL, or a second call.
pub fn init(config: &TelemetryConfig) -> Result<TelemetryGuard, TelemetryError> {
    let filter = EnvFilter::try_new(&config.log).map_err(|source| TelemetryError::Filter {
        filter: config.log.clone(),
        source,
    })?;
    let colours = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = match config.log_format {
        LogFormat::Text => fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(colours)
            .boxed(),
        LogFormat::Json => fmt::layer().json().with_writer(std::io::stderr).boxed(),
    };
    let provider = config
        .otlp_endpoint
        .as_deref()
        .map(exporting_provider)
        .transpose()?;
    // What is exported does not depend on what is logged.
    let traces = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("millrace"))
            .with_filter(EnvFilter::new(EXPORTED))
    });
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .with(traces)
        .try_init()
        .map_err(TelemetryError::Twice)?;
    Ok(TelemetryGuard { provider })
}

fn exporting_provider(endpoint: &str) -> Result<SdkTracerProvider, TelemetryError> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
        .build()
        .map_err(|source| TelemetryError::Exporter {
            endpoint: endpoint.to_owned(),
            source,
        })?;
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(Resource::builder().with_service_name("millrace").build())
        .build())
}
