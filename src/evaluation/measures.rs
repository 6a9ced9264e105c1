//! Ranking measures as `trec_eval` defines them (<https://github.com/usnistgov/trec_eval>):
//! linear gain, logarithmic discount, ties broken by document id, and a judged
//! query that the run lacks counts 0.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::judgements::Judgements;
use super::run::Run;

/// Measures of one query, each in 0..=1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QueryMeasures {
    /// Normalised discounted cumulative gain of the first ten.
    pub ndcg_at_10: f64,
    /// Share of the relevant documents among the first hundred.
    pub recall_at_100: f64,
    /// Reciprocal rank of the first relevant document among the first ten.
    pub mrr_at_10: f64,
}

/// Measures by query.
pub type PerQuery = BTreeMap<String, QueryMeasures>;

/// Means over all judged queries, each in 0..=1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measures {
    /// Number of judged queries.
    pub queries: usize,
    /// The means.
    pub mean: QueryMeasures,
}

impl Measures {
    /// The means of these queries; 0 where there is none.
    pub fn of(per_query: &PerQuery) -> Self {
        let sum = per_query
            .values()
            .fold(QueryMeasures::default(), |sum, query| QueryMeasures {
                ndcg_at_10: sum.ndcg_at_10 + query.ndcg_at_10,
                recall_at_100: sum.recall_at_100 + query.recall_at_100,
                mrr_at_10: sum.mrr_at_10 + query.mrr_at_10,
            });
        let queries = per_query.len();
        let divisor = queries.max(1) as f64;
        Self {
            queries,
            mean: QueryMeasures {
                ndcg_at_10: sum.ndcg_at_10 / divisor,
                recall_at_100: sum.recall_at_100 / divisor,
                mrr_at_10: sum.mrr_at_10 / divisor,
            },
        }
    }
}

/// Measures each judged query of a run.
pub fn measure(run: &Run, judgements: &Judgements) -> PerQuery {
    let measures = |(query, relevance): (&String, &BTreeMap<String, u32>)| {
        let ranked: Vec<u32> = run
            .ranked(query)
            .iter()
            .map(|(doc, _)| relevance.get(doc.as_str()).copied().unwrap_or(0))
            .collect();
        let measures = QueryMeasures {
            ndcg_at_10: ndcg(&ranked, relevance, 10),
            recall_at_100: recall(&ranked, relevance, 100),
            mrr_at_10: reciprocal_rank(&ranked, 10),
        };
        (query.clone(), measures)
    };
    judgements.iter().map(measures).collect()
}

/// nDCG of one query's first ten; 0 where the run lacks it.
pub fn ndcg_at_10(run: &Run, query: &str, relevance: &BTreeMap<String, u32>) -> f64 {
    let gain = |(doc, _): &(String, f32)| relevance.get(doc.as_str()).copied().unwrap_or(0);
    let ranked: Vec<u32> = run.ranked(query).iter().map(gain).collect();
    ndcg(&ranked, relevance, 10)
}

fn dcg(gains: impl Iterator<Item = u32>) -> f64 {
    gains
        .zip(2u32..)
        .map(|(gain, rank)| f64::from(gain) / f64::from(rank).log2())
        .sum()
}

fn ndcg(ranked: &[u32], relevance: &BTreeMap<String, u32>, cutoff: usize) -> f64 {
    let mut ideal: Vec<u32> = relevance.values().copied().collect();
    ideal.sort_unstable_by(|a, b| b.cmp(a));
    let best = dcg(ideal.into_iter().take(cutoff));
    if best == 0.0 {
        0.0
    } else {
        dcg(ranked.iter().copied().take(cutoff)) / best
    }
}

fn recall(ranked: &[u32], relevance: &BTreeMap<String, u32>, cutoff: usize) -> f64 {
    let relevant = relevance.values().filter(|&&gain| gain > 0).count();
    let found = ranked.iter().take(cutoff).filter(|&&gain| gain > 0).count();
    if relevant == 0 {
        0.0
    } else {
        found as f64 / relevant as f64
    }
}

fn reciprocal_rank(ranked: &[u32], cutoff: usize) -> f64 {
    let first = ranked.iter().take(cutoff).position(|&gain| gain > 0);
    first.map_or(0.0, |position| 1.0 / (position + 1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judgements(text: &str) -> Judgements {
        super::super::judgements::parse_qrels(text).unwrap()
    }

    #[test]
    fn a_perfect_run_is_one_and_a_missing_query_is_zero() {
        let judged = judgements("q1 0 a 2\nq1 0 b 1\nq2 0 c 1\n");
        let mut run = Run::default();
        run.insert("q1", vec![("a".into(), 2.0), ("b".into(), 1.0)]);
        let Measures { queries, mean } = Measures::of(&measure(&run, &judged));
        assert_eq!(queries, 2);
        assert!((mean.ndcg_at_10 - 0.5).abs() < 1e-12);
        assert!((mean.recall_at_100 - 0.5).abs() < 1e-12);
        assert!((mean.mrr_at_10 - 0.5).abs() < 1e-12);
    }

    #[test]
    fn gain_is_linear_and_discounted_by_rank() {
        let judged = judgements("q 0 a 3\nq 0 b 1\n");
        let mut run = Run::default();
        run.insert(
            "q",
            vec![("x".into(), 9.0), ("b".into(), 8.0), ("a".into(), 7.0)],
        );
        let expected = (1.0 / 3f64.log2() + 3.0 / 2.0) / (3.0 + 1.0 / 3f64.log2());
        assert!((measure(&run, &judged)["q"].ndcg_at_10 - expected).abs() < 1e-12);
        assert!((measure(&run, &judged)["q"].mrr_at_10 - 0.5).abs() < 1e-12);
    }

    #[test]
    fn ties_go_to_the_greater_document_id() {
        let judged = judgements("q 0 a 1\n");
        let mut run = Run::default();
        run.insert("q", vec![("a".into(), 1.0), ("b".into(), 1.0)]);
        assert!((measure(&run, &judged)["q"].mrr_at_10 - 0.5).abs() < 1e-12);
    }
}
