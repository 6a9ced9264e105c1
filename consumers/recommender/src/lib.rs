//! Personalised answers: which items a user should see now.
//!
//! Promises:
//! - A valid request has an answer. What it could not be made of (an unknown user, a feature store or
//!   an index that is away, items still being read) is stated in it, as [`Fallback`].
//! - What is drawn by chance depends on the request's id alone, and its probability is logged.
//! - A model serves only the features that it was trained on; a deploy is checked and warmed up before
//!   it switches, survives a restart and can be rolled back.
//!
//! Left to others: HTTP and its dialects, profiles, the features' formulas (`millrace-features`), the
//! rankers themselves (`millrace-ranker`), training.

mod admission;
pub mod answer;
mod catalog;
mod chance;
pub mod config;
mod deployments;
pub mod http;
mod impressions;
mod last_sweep;
mod merge;
mod profiles;
mod rank;
mod recall;
mod recommender;
mod request;
#[cfg(test)]
mod samples;
mod serving;
mod stats;

pub use answer::{Answer, AnswerItem, Explanation, Fallback, FallbackReason, Source};
pub use catalog::{CatalogStats, context};
pub use config::{
    ConfigChange, HybridRanking, InstanceConfig, InvalidConfig, QueryKind, RecommenderConfig,
};
pub use deployments::{
    DeployError, DeploymentStatus, MODEL_EXTENSION, SetConfigError, WEIGHTED, saved_config,
};
pub use impressions::ImpressionStats;
pub use last_sweep::{LastSweep, SweptWeight};
pub use profiles::{BoxError, Profiles};
pub use recommender::{Recommender, RecommenderDeps, StartError};
pub use request::{ItemRef, MAX_ID_BYTES, RecommendRequest, RequestError, RerankRequest};
pub use stats::RecommenderStats;
