//! The answer's words, and its impression.

use std::time::Instant;

use millrace_schemas::{Impression, ImpressionItem, ProfileRead, ReadUpTo, TraceParent};

use super::plan::Plan;
use crate::answer::{
    Answer, AnswerItem, Bucket, Explanation, FailedSource, Fallback, FeatureValue, Source,
};
use crate::rank::Placed;
use crate::recommender::Core;

/// All that an answer is made of.
pub(super) struct Answered {
    pub request_id: String,
    pub user_id: String,
    pub plan: Plan,
    pub placed: Vec<Placed>,
    /// Candidates of the caller's that are not known; they stand last.
    pub unknown: Vec<String>,
    pub fallback: Option<Fallback>,
    pub failed_sources: Vec<FailedSource>,
    pub read_up_to: Vec<ReadUpTo>,
    pub profile: Option<ProfileRead>,
    pub explain: bool,
    /// Whether it is told to nobody but the caller.
    pub preview: bool,
    /// The time that features were computed for.
    pub served_at_ms: i64,
}

impl Core {
    /// Says it, and tells of it.
    pub(super) fn answer(
        &self,
        answered: Answered,
        traceparent: Option<TraceParent>,
        started: Instant,
    ) -> Answer {
        let index_version = self.index_version();
        if !answered.preview {
            self.impressions
                .tell(self.impression(&answered, &index_version), traceparent);
        }
        let plan = &answered.plan;
        let trace_info = |position: u32| {
            let bucket = plan.bucket.as_ref().map_or("", |bucket| &bucket.bucket);
            format!(
                "{}/{}/{bucket}/{position}",
                plan.scene_name, plan.pipeline_name
            )
        };
        let known = (1..).zip(&answered.placed).map(|(position, placed)| {
            let signal = &placed.scored.candidate.item.signal;
            AnswerItem {
                item_id: signal.item_id.clone(),
                uri: signal.uri.clone(),
                title: signal.title.clone(),
                position,
                score: Some(placed.scored.score),
                sources: sources(placed),
                known: true,
                exploration: placed.explored,
                propensity: placed.propensity,
                trace_info: trace_info(position),
                explanation: answered.explain.then(|| self.explain(placed)),
            }
        });
        let mut items: Vec<AnswerItem> = known.collect();
        for item_id in &answered.unknown {
            // Counted in 32 bits: requests are limited to thousands.
            let position = items.len() as u32 + 1;
            items.push(AnswerItem {
                item_id: item_id.clone(),
                uri: String::new(),
                title: None,
                position,
                score: None,
                sources: vec![Source::Candidates],
                known: false,
                exploration: false,
                propensity: 1.0,
                trace_info: trace_info(position),
                explanation: None,
            });
        }
        Answer {
            items,
            request_id: answered.request_id,
            user_id: answered.user_id,
            fallback: answered.fallback,
            failed_sources: answered.failed_sources,
            ranker_version: answered.plan.ranker.version(),
            scene: answered.plan.scene_name,
            pipeline: answered.plan.pipeline_name,
            bucket: answered.plan.bucket,
            feature_version: self.features.version().to_owned(),
            embedding_version: self.embedding_version.clone(),
            index_version,
            hybrid: answered.plan.weights,
            took_ms: started.elapsed().as_secs_f64() * 1e3,
        }
    }

    fn explain(&self, placed: &Placed) -> Explanation {
        let scored = &placed.scored;
        let values = self.features.names().zip(&scored.features);
        Explanation {
            sources: scored.candidate.sources.clone(),
            features: values
                .map(|(name, value)| FeatureValue {
                    name: name.to_owned(),
                    value: (!value.is_nan()).then_some(*value),
                })
                .collect(),
            ranker_score: Some(scored.score),
            ranker_position: Some(scored.ranker_position),
            signal_traceparent: scored
                .candidate
                .item
                .traceparent
                .as_deref()
                .map(str::to_owned),
        }
    }

    /// Items that are not known have no features to learn from; they are left out.
    fn impression(&self, answered: &Answered, index_version: &str) -> Impression {
        let plan = &answered.plan;
        let bucket = |bucket: &Bucket| format!("{}/{}", bucket.experiment, bucket.bucket);
        let items = (1..).zip(&answered.placed).map(|(position, placed)| {
            let scored = &placed.scored;
            ImpressionItem {
                item_id: scored.candidate.item.signal.item_id.clone(),
                position,
                score: scored.score as f32,
                features: scored.features.clone(),
                propensity: placed.propensity,
                explored: placed.explored,
                sources: sources(placed)
                    .into_iter()
                    .map(|source| source.as_str().to_owned())
                    .collect(),
            }
        });
        Impression {
            request_id: answered.request_id.clone(),
            user_id: answered.user_id.clone(),
            scene: plan.scene_name.clone(),
            pipeline: plan.pipeline_name.clone(),
            bucket: plan.bucket.as_ref().map(bucket),
            served_at_ms: answered.served_at_ms,
            items: items.collect(),
            feature_version: self.features.version().to_owned(),
            ranker_version: plan.ranker.version(),
            embedding_version: self.embedding_version.clone(),
            index_version: index_version.to_owned(),
            bm25_weight: f64::from(plan.weights.bm25_weight),
            vector_weight: f64::from(plan.weights.vector_weight),
            weight_probability: plan.weights.probability,
            fallback: answered
                .fallback
                .as_ref()
                .map(|fallback| fallback.reason.as_str().to_owned()),
            read_up_to: answered.read_up_to.clone(),
            profile: answered.profile,
        }
    }
}

fn sources(placed: &Placed) -> Vec<Source> {
    let found = placed.scored.candidate.sources.iter();
    found.map(|found| found.source).collect()
}
