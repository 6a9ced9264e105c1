//! What may be changed while it runs, and the rules it must keep.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use millrace_index::{DEFAULT_BM25_WEIGHT, DEFAULT_VECTOR_WEIGHT};

use super::query_kind::QueryKind;
use crate::last_sweep::LastSweep;

/// Beyond this weight of BM25 a change is answered with a warning.
const HIGH_BM25_WEIGHT: f64 = 0.5;
/// How far the weights' sum may be from 1.
const SUM_TOLERANCE: f64 = 1e-6;

/// What may be changed while it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InstanceConfig {
    /// Whether candidates are found by the nearness of their vectors to the user's. Default: true.
    pub semantic_recall: bool,
    /// Weights of text and vectors in hybrid recall.
    pub hybrid_ranking: HybridRanking,
    /// Weights of BM25 in searches by what the query looks like; that of the vectors is the rest to 1. Other
    /// queries have those of `hybrid_ranking`. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub bm25_weight_by_query: BTreeMap<QueryKind, f64>,
}

/// Weights of text and vectors in hybrid recall; they sum to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "an object with `bm25_weight` and `vector_weight`"
)]
pub struct HybridRanking {
    /// Of BM25. Default: 0.3.
    pub bm25_weight: f64,
    /// Of the vectors. Default: 0.7.
    pub vector_weight: f64,
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigChange {
    /// The configuration in force.
    pub config: InstanceConfig,
    /// What is allowed and probably not wanted.
    pub warnings: Vec<String>,
}

/// Values that cannot be taken.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InvalidInstanceConfig {
    /// A weight is negative, above 1 or no number.
    #[error("hybrid_ranking.{weight} is {found}; weights lie in 0 to 1 and sum to 1")]
    Weight {
        /// Which one.
        weight: &'static str,
        /// Its value.
        found: f64,
    },
    /// The weight of a kind of query is negative, above 1 or no number.
    #[error("bm25_weight_by_query has {found} for queries of {kind}; weights lie in 0 to 1")]
    WeightByQuery {
        /// Which queries'.
        kind: QueryKind,
        /// Its value.
        found: f64,
    },
    /// The weights do not sum to 1.
    #[error(
        "hybrid_ranking has bm25_weight {bm25_weight} and vector_weight {vector_weight}, which sum to \
         {}; they must sum to 1", ((.bm25_weight + .vector_weight) * 1e9).round() / 1e9
    )]
    Sum {
        /// Of BM25.
        bm25_weight: f64,
        /// Of the vectors.
        vector_weight: f64,
    },
}

impl Default for InstanceConfig {
    fn default() -> Self {
        Self {
            semantic_recall: true,
            hybrid_ranking: HybridRanking::default(),
            bm25_weight_by_query: BTreeMap::new(),
        }
    }
}

impl Default for HybridRanking {
    fn default() -> Self {
        // By way of decimals: widened, 0.3 would be 0.30000001.
        let decimal = |weight: f32| (f64::from(weight) * 1e6).round() / 1e6;
        Self {
            bm25_weight: decimal(DEFAULT_BM25_WEIGHT),
            vector_weight: decimal(DEFAULT_VECTOR_WEIGHT),
        }
    }
}

impl InstanceConfig {
    /// Checks the weights.
    ///
    /// # Errors
    /// [`InvalidInstanceConfig`], with the values.
    pub fn validate(&self) -> Result<(), InvalidInstanceConfig> {
        let HybridRanking {
            bm25_weight,
            vector_weight,
        } = self.hybrid_ranking;
        for (weight, found) in [
            ("bm25_weight", bm25_weight),
            ("vector_weight", vector_weight),
        ] {
            if !(0.0..=1.0).contains(&found) {
                return Err(InvalidInstanceConfig::Weight { weight, found });
            }
        }
        if (bm25_weight + vector_weight - 1.0).abs() > SUM_TOLERANCE {
            return Err(InvalidInstanceConfig::Sum {
                bm25_weight,
                vector_weight,
            });
        }
        for (&kind, &found) in &self.bm25_weight_by_query {
            if !(0.0..=1.0).contains(&found) {
                return Err(InvalidInstanceConfig::WeightByQuery { kind, found });
            }
        }
        Ok(())
    }

    /// The weights that a search for `query` has.
    #[must_use]
    pub fn weights_of(&self, query: &str) -> HybridRanking {
        let of_kind = self.bm25_weight_by_query.get(&QueryKind::of(query));
        of_kind.map_or(self.hybrid_ranking, |&bm25_weight| HybridRanking {
            bm25_weight,
            vector_weight: 1.0 - bm25_weight,
        })
    }

    /// What is allowed and probably not wanted, with what was measured of it where something was.
    pub(crate) fn warnings(&self, measured: Option<&LastSweep>) -> Vec<String> {
        let general = ("bm25_weight".to_owned(), self.hybrid_ranking.bm25_weight);
        let by_query = self.bm25_weight_by_query.iter();
        let by_query =
            by_query.map(|(kind, weight)| (format!("bm25_weight of queries of {kind}"), *weight));
        let high = [general].into_iter().chain(by_query);
        let high = high.filter(|(_, weight)| *weight > HIGH_BM25_WEIGHT);
        high.map(|(name, bm25_weight)| {
            let measured = measured.and_then(|sweep| sweep.told_of(bm25_weight));
            let measured = measured.unwrap_or_else(|| {
                "Measure it on judged queries of this index before keeping it (`millrace sweep`)".to_owned()
            });
            format!(
                "{name} is {bm25_weight}: above {HIGH_BM25_WEIGHT} exact words outweigh meaning, and \
                 what says the same in other words is found less. {measured}"
            )
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(bm25_weight: f64, vector_weight: f64) -> InstanceConfig {
        InstanceConfig {
            hybrid_ranking: HybridRanking {
                bm25_weight,
                vector_weight,
            },
            ..InstanceConfig::default()
        }
    }

    #[test]
    fn weights_that_do_not_sum_to_one_or_are_negative_are_refused() {
        for (bm25_weight, vector_weight) in [(0.3, 0.7), (0.0, 1.0), (1.0, 0.0), (0.3, 0.700_000_5)]
        {
            assert_eq!(weights(bm25_weight, vector_weight).validate(), Ok(()));
        }
        let complaint = |bm25_weight, vector_weight| {
            let refused = weights(bm25_weight, vector_weight).validate();
            refused.unwrap_err().to_string()
        };
        assert_eq!(
            complaint(0.3, 0.8),
            "hybrid_ranking has bm25_weight 0.3 and vector_weight 0.8, which sum to 1.1; they must sum to 1"
        );
        assert!(complaint(0.3, 0.699_99).contains("sum to 0.99999"));
        assert_eq!(
            complaint(-0.5, 1.5),
            "hybrid_ranking.bm25_weight is -0.5; weights lie in 0 to 1 and sum to 1"
        );
        assert!(complaint(f64::NAN, 1.0).contains("bm25_weight is NaN"));
    }

    #[test]
    fn a_query_has_the_weights_of_its_kind() {
        let mut config = weights(0.3, 0.7);
        let none = serde_json::to_value(&config).unwrap();
        assert!(none.get("bm25_weight_by_query").is_none(), "{none}");
        config.bm25_weight_by_query = [(QueryKind::ShortLiteral, 0.75)].into();
        let digits = config.weights_of("part 48151");
        assert_eq!((digits.bm25_weight, digits.vector_weight), (0.75, 0.25));
        assert_eq!(config.weights_of("bridges"), config.hybrid_ranking);
        let warned = config.warnings(None);
        assert!(
            warned.len() == 1 && warned[0].contains("1–3 words, digits or quotes is 0.75"),
            "{warned:?}"
        );
        let kept: InstanceConfig =
            serde_json::from_value(serde_json::to_value(&config).unwrap()).unwrap();
        assert_eq!(kept, config);
        config.bm25_weight_by_query = [(QueryKind::Long, 1.5)].into();
        let refused = config.validate().unwrap_err().to_string();
        assert!(
            refused.contains("1.5 for queries of 9 words or more"),
            "{refused}"
        );
    }

    #[test]
    fn much_text_is_warned_of_and_the_default_is_not() {
        assert_eq!(InstanceConfig::default(), weights(0.3, 0.7));
        assert!(weights(0.5, 0.5).warnings(None).is_empty());
        let warnings = weights(0.6, 0.4).warnings(None);
        assert!(
            warnings[0].starts_with("bm25_weight is 0.6") && warnings[0].contains("millrace sweep"),
            "{warnings:?}"
        );
    }
}
