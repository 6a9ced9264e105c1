//! The features where none are declared, and what ranks by them before a model is trained.

use millrace_schemas::BehaviorKind::{Click, Expose};

use crate::declaration::{
    Combine, FeatureDeclaration, FeatureKind, ProfileVector, ScoreOf, SeenOf, Transform,
};
use crate::field::Field;
use crate::rates::HalfLife;

/// Weights of the default features for [`WeightedDefault`], the ranker before there is one: what
/// all click, what this user clicked, and what recall thought, in this order of trust.
///
/// [`WeightedDefault`]: https://docs.rs/millrace-ranker
pub const DEFAULT_WEIGHTS: &[(&str, f64)] = &[
    ("ctr_24h", 3.0),
    ("coec", 1.0),
    ("cosine_long_term", 2.0),
    ("cosine_session", 2.0),
    ("max_cosine_5", 1.0),
    ("category_residual", 1.0),
    ("tag_residual", 1.0),
    ("hybrid_score", 1.0),
    ("popularity", 1.0),
    ("age_hours", -0.5),
];

/// The default features; `docs/features.md` describes each. Those of metadata are what films are told
/// with, as in the sample that comes with Millrace; where an item has none, they are missing.
pub(crate) fn declarations() -> Vec<FeatureDeclaration> {
    let score = |of| FeatureKind::Score { of };
    let cosine = |with| FeatureKind::Cosine { with };
    let count = |event, half_life| FeatureKind::Count { event, half_life };
    let ctr = |half_life| FeatureKind::Ctr { half_life };
    let affinity = |field, combine| FeatureKind::Affinity { field, combine };
    let residual = |field, combine| FeatureKind::ResidualAffinity { field, combine };
    let metadata = |key: &str| Field::Metadata(key.to_owned());
    let number = |key, transform| FeatureKind::Number {
        field: metadata(key),
        transform,
    };
    let author = || metadata("author");
    [
        ("text_score", score(ScoreOf::Text)),
        ("vector_score", score(ScoreOf::Vector)),
        ("hybrid_score", score(ScoreOf::Hybrid)),
        ("rank_score", score(ScoreOf::Rank)),
        ("cosine_long_term", cosine(ProfileVector::LongTerm)),
        ("cosine_session", cosine(ProfileVector::Session)),
        ("cosine_residual", cosine(ProfileVector::Residual)),
        ("residual_vector", FeatureKind::ResidualVector),
        ("max_cosine_5", FeatureKind::MaxCosine { last: 5 }),
        ("impressions_1h", count(Expose, HalfLife::Hour)),
        ("impressions_24h", count(Expose, HalfLife::Day)),
        ("impressions_7d", count(Expose, HalfLife::Week)),
        ("clicks_1h", count(Click, HalfLife::Hour)),
        ("clicks_24h", count(Click, HalfLife::Day)),
        ("clicks_7d", count(Click, HalfLife::Week)),
        ("ctr_1h", ctr(HalfLife::Hour)),
        ("ctr_24h", ctr(HalfLife::Day)),
        ("ctr_7d", ctr(HalfLife::Week)),
        ("coec", FeatureKind::Coec),
        ("click_velocity", FeatureKind::Velocity { event: Click }),
        (
            "category_affinity",
            affinity(Field::Categories, Combine::Mean),
        ),
        ("tag_affinity", affinity(Field::Tags, Combine::Sum)),
        (
            "key_phrase_affinity",
            affinity(Field::KeyPhrases, Combine::Sum),
        ),
        ("author_affinity", affinity(author(), Combine::Sum)),
        (
            "language_affinity",
            affinity(Field::Language, Combine::Mean),
        ),
        (
            "category_residual",
            residual(Field::Categories, Combine::Mean),
        ),
        ("tag_residual", residual(Field::Tags, Combine::Sum)),
        (
            "key_phrase_residual",
            residual(Field::KeyPhrases, Combine::Sum),
        ),
        ("author_residual", residual(author(), Combine::Sum)),
        (
            "actor_residual",
            residual(metadata("actors"), Combine::Mean),
        ),
        (
            "director_residual",
            residual(metadata("director"), Combine::Mean),
        ),
        ("age_hours", FeatureKind::Age),
        ("popularity", number("popularity", Transform::Log1p)),
        ("votes", number("vote_cnt", Transform::Log1p)),
        ("vote_average", number("vote_avg", Transform::Identity)),
        ("runtime", number("runtime", Transform::Identity)),
        ("budget", number("budget", Transform::Log1p)),
        ("user_clicks", FeatureKind::UserCount { event: Click }),
        ("user_ctr", FeatureKind::UserCtr),
        ("times_shown", FeatureKind::Seen { of: SeenOf::Shown }),
    ]
    .map(|(name, kind)| FeatureDeclaration::new(name, kind))
    .into()
}
