//! What the recommender answered.

use std::sync::Arc;

use millrace_recommender::{FallbackReason, Recommender, Source};
use millrace_telemetry::prometheus_client::collector::Collector;
use millrace_telemetry::prometheus_client::encoding::DescriptorEncoder;
use millrace_telemetry::prometheus_client::registry::Registry;

use super::{counter, family, gauge};

/// Reads the recommender's own counters whenever somebody asks for metrics.
struct RecommenderCollector(Arc<Recommender>);

/// Registers the metrics of a recommender.
pub fn register(registry: &mut Registry, recommender: &Arc<Recommender>) {
    registry.register_collector(Box::new(RecommenderCollector(Arc::clone(recommender))));
}

impl std::fmt::Debug for RecommenderCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecommenderCollector")
            .finish_non_exhaustive()
    }
}

impl Collector for RecommenderCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let stats = self.0.stats();
        let answers = [
            ("recommended", stats.recommended),
            ("reranked", stats.reranked),
            ("refused", stats.refused),
        ];
        let impressions = [
            ("published", stats.impressions.published),
            ("dropped", stats.impressions.dropped),
            ("failed", stats.impressions.failed),
        ];
        let fallbacks = FallbackReason::ALL.iter().map(|reason| reason.as_str());
        let fallbacks: Vec<_> = fallbacks
            .map(|name| (name, stats.fallbacks.get(name).copied().unwrap_or(0)))
            .collect();
        let sources = Source::RECALL.iter().map(|source| source.as_str());
        let sources: Vec<_> = sources
            .map(|name| (name, stats.failed_sources.get(name).copied().unwrap_or(0)))
            .collect();
        for (name, help, label, counts) in [
            (
                "millrace_recommender_requests",
                "Requests by what became of them.",
                "result",
                &answers[..],
            ),
            (
                "millrace_recommender_fallbacks",
                "Answers that are not what the scene wants, by reason.",
                "reason",
                &fallbacks,
            ),
            (
                "millrace_recommender_failed_sources",
                "Recalls that failed or took too long, by source.",
                "source",
                &sources,
            ),
            (
                "millrace_impressions",
                "Answers on their way to the topic of impressions, by what became of them.",
                "result",
                &impressions,
            ),
        ] {
            family(&mut encoder, name, help, label, counts.iter().copied())?;
        }
        for (name, help, value) in [
            (
                "millrace_recommender_explored_items",
                "Items shown in order to learn of them.",
                stats.explored,
            ),
            (
                "millrace_recommender_evicted_items",
                "Items left out of memory for want of room.",
                stats.catalog.evicted,
            ),
            (
                "millrace_recommender_unreadable_records",
                "Signals and counters that could not be read, left out.",
                stats.catalog.unreadable,
            ),
        ] {
            counter(&mut encoder, name, help, value)?;
        }
        for (name, help, value) in [
            (
                "millrace_recommender_items",
                "Items that can be recommended.",
                stats.catalog.items,
            ),
            (
                "millrace_recommender_catalog_bytes",
                "Bytes that items and counters take, about.",
                stats.catalog.bytes,
            ),
            (
                "millrace_impressions_waiting",
                "Impressions that wait for the brokers.",
                stats.impressions.waiting,
            ),
        ] {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            gauge(&mut encoder, name, help, value)?;
        }
        Ok(())
    }
}
