//! What is known of users and items, as numbers that a ranker reads.
//!
//! ```text
//! behavior ─► counters (integers in buckets of event time) ─► rates (decayed, smoothed, corrected) ─┐
//! feedback ─► Profile::apply (vectors, affinities, items, what was seen) ───────────────────────────┤
//! signals ──► Item ─────────────────────────────────────────────────────────────────────────────────┤
//! recall ───► Scores ───────────────────────────────────────────────────────────────────────────────┤
//! configuration ─► FeatureDeclaration ─► FeatureSet ─► compute ◄────────────────────────────────────┘
//!                                           └► FeatureSpec     └► rows
//! ```
//!
//! Promises:
//! - The same events leave the same [`counters`], in whatever order and batches they come; the same
//!   counters give the same [`rates`] at the same moment, bit for bit.
//! - The same feedback in the same order leaves the same [`Profile`], however it is batched and
//!   stored in between.
//! - [`compute`] is the one function of features, for serving, replaying and training; what is
//!   missing is NaN, never 0, and nothing is infinite.
//! - The version of a [`FeatureSet`] changes with its declarations, the embedding version and the
//!   way of computing, and with nothing else.
//! - Vectors of two models never meet in a sum or a cosine.
//! - *The same bits* holds on one platform: powers and logarithms are those of its C library.
//! - Nothing here reads a clock, a file or the network: the moment is an argument.
//!
//! Left to others: which events count and how often (the joiner), where counters and profiles are
//! kept, what recall scores, ranking.

mod compute;
mod context;
pub mod counters;
mod declaration;
mod defaults;
mod field;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod item;
mod profile;
pub mod rates;
mod set;
mod spec;
mod vector;

pub use compute::{AFFINITY_PRIOR, RESIDUAL_PRIOR, RESIDUAL_VECTOR_PRIOR, compute};
pub use context::{Context, PRIOR_IMPRESSIONS, Priors, Scores};
pub use declaration::{
    Combine, DeclarationError, FeatureDeclaration, FeatureKind, ProfileVector, Scope, ScoreOf,
    SeenOf, Transform,
};
pub use defaults::DEFAULT_WEIGHTS;
pub use field::{Field, MAX_VALUE_BYTES, MAX_VALUES, UnknownField};
pub use item::Item;
pub use profile::{
    Affinity, FeedbackPosition, LONG_TERM_HALF_LIFE_MS, Profile, ProfileFormatError,
    ProfileSettings, RECENT_ITEMS, RecentItem, SESSION_GAP_MS, SESSION_HALF_LIFE_MS, SeenItem,
    interest,
};
pub use set::{FeatureSet, MAX_FEATURES};
pub use spec::FeatureSpec;
