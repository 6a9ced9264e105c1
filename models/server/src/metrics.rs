//! What is counted. The names are in `docs/metrics.md`.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use millrace_telemetry::prometheus_client::collector::Collector;
use millrace_telemetry::prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use millrace_telemetry::prometheus_client::metrics::counter::Counter;
use millrace_telemetry::prometheus_client::metrics::family::Family;
use millrace_telemetry::prometheus_client::metrics::gauge::ConstGauge;
use millrace_telemetry::prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use millrace_telemetry::prometheus_client::registry::Registry as MetricsRegistry;

use crate::admission::Admission;
use crate::dialects;
use crate::model::Model;
use crate::queue::Dropped;
use crate::rate::Rate;
use crate::registry::Registry;
use crate::reranker::Reranker;

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// Counters of one server; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    requests: Family<Labels<2>, Counter>,
    seconds: Histogram,
    inputs: Counter,
    tokens: Counter,
    batches: Counter,
    dropped: Family<Labels<1>, Counter>,
}

impl Metrics {
    pub fn new() -> Self {
        let metrics = Self {
            requests: Family::default(),
            // 1 ms to 16 s.
            seconds: Histogram::new(exponential_buckets(0.001, 2.0, 15)),
            inputs: Counter::default(),
            tokens: Counter::default(),
            batches: Counter::default(),
            dropped: Family::default(),
        };
        // A rate over a counter that is not there yet is no rate: these begin with 0.
        for dialect in dialects::NAMES {
            let labels = [("dialect", dialect), ("result", "answered")];
            drop(metrics.requests.get_or_create(&labels));
        }
        for reason in ["late", "abandoned"] {
            drop(metrics.dropped.get_or_create(&[("reason", reason)]));
        }
        metrics
    }

    /// A request of a dialect has its answer; `result` is `answered` or an error's name.
    pub fn request(&self, dialect: &'static str, result: &'static str) {
        let labels = [("dialect", dialect), ("result", result)];
        self.requests.get_or_create(&labels).inc();
    }

    /// A request has its vectors or scores.
    pub fn computed(&self, inputs: usize, time: Duration) {
        self.inputs.inc_by(inputs as u64);
        self.seconds.observe(time.as_secs_f64());
    }

    /// A batch goes to a model.
    pub fn batch(&self, tokens: usize) {
        self.batches.inc();
        self.tokens.inc_by(tokens as u64);
    }

    /// Rows that were not computed.
    pub fn dropped(&self, dropped: Dropped) {
        for (reason, count) in [("late", dropped.late), ("abandoned", dropped.abandoned)] {
            if count > 0 {
                let labels = [("reason", reason)];
                self.dropped.get_or_create(&labels).inc_by(count);
            }
        }
    }

    pub fn register(
        &self,
        metrics: &mut MetricsRegistry,
        admission: Arc<Admission>,
        registry: Arc<Registry>,
        reranker: Arc<OnceLock<Arc<Reranker>>>,
    ) {
        metrics.register(
            "millrace_model_server_requests",
            "Requests for vectors, scores and tokens, by interface and result",
            self.requests.clone(),
        );
        metrics.register(
            "millrace_model_server_request_seconds",
            "From the request's head to its vectors or scores",
            self.seconds.clone(),
        );
        metrics.register(
            "millrace_model_server_inputs",
            "Inputs that have their vectors or scores",
            self.inputs.clone(),
        );
        metrics.register(
            "millrace_model_server_tokens",
            "Tokens given to models",
            self.tokens.clone(),
        );
        metrics.register(
            "millrace_model_server_batches",
            "Batches given to models",
            self.batches.clone(),
        );
        metrics.register(
            "millrace_model_server_dropped_inputs",
            "Inputs that were admitted and not computed, by reason",
            self.dropped.clone(),
        );
        metrics.register_collector(Box::new(Present {
            admission,
            registry,
            reranker,
        }));
    }
}

/// What is read whenever somebody asks.
#[derive(Debug)]
struct Present {
    admission: Arc<Admission>,
    registry: Arc<Registry>,
    reranker: Arc<OnceLock<Arc<Reranker>>>,
}

impl Collector for Present {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let queued = i64::try_from(self.admission.queued_tokens()).unwrap_or(i64::MAX);
        let queued = ConstGauge::new(queued);
        queued.encode(encoder.encode_descriptor(
            "millrace_model_server_queued_tokens",
            "Tokens that wait or are computed",
            None,
            queued.metric_type(),
        )?)?;
        let zero = ConstGauge::new(0.0);
        let mut family = encoder.encode_descriptor(
            "millrace_model_server_tokens_per_second",
            "How fast a model computes, as last measured; one line each that serves",
            None,
            zero.metric_type(),
        )?;
        let mut rate = |name: &str, version: &str, rate: &Rate| {
            let labels = [("model", name), ("version", version)];
            let rate = ConstGauge::new(rate.tokens_per_second());
            rate.encode(family.encode_family(&labels)?)
        };
        for served in self.registry.all() {
            rate(served.name(), served.version(), served.rate())?;
        }
        if let Some(reranker) = self.reranker.get() {
            rate(reranker.name(), reranker.version(), reranker.rate())?;
        }
        Ok(())
    }
}
