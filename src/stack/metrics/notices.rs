//! What became of entries posted to `/v1/notices`.

use std::sync::Arc;

use millrace_producers::http::NoticeCounts;
use millrace_telemetry::prometheus_client::collector::Collector;
use millrace_telemetry::prometheus_client::encoding::DescriptorEncoder;
use millrace_telemetry::prometheus_client::registry::Registry;

use super::family;
use crate::stack::uploads::Uploads;

/// Registers the metrics of the notices endpoint.
pub fn register(registry: &mut Registry, uploads: &Uploads) {
    registry.register_collector(Box::new(NoticesCollector(Arc::clone(&uploads.notices))));
}

/// Reads the counts of the notices endpoint.
#[derive(Debug)]
struct NoticesCollector(Arc<NoticeCounts>);

impl Collector for NoticesCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        family(
            &mut encoder,
            "millrace_notice_entries",
            "Entries posted to /v1/notices by what became of them.",
            "result",
            self.0.snapshot().into_iter(),
        )
    }
}
