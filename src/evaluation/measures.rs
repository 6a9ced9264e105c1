//! Ranking measures as `trec_eval` defines them (<https://github.com/usnistgov/trec_eval>):
//! linear gain, logarithmic discount, ties broken by document id, and a judged
//! query that the run lacks counts 0.

use std::collections::BTreeMap;

use super::judgements::Judgements;
use super::run::Run;

/// Means over all judged queries, each in 0..=1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measures {
    /// Number of judged queries.
    pub queries: usize,
    /// Normalised discounted cumulative gain of the first ten.
    pub ndcg_at_10: f64,
    /// Share of the relevant documents among the first hundred.
    pub recall_at_100: f64,
    /// Reciprocal rank of the first relevant document among the first ten.
    pub mrr_at_10: f64,
}

/// Measures a run against judgements.
pub fn measure(run: &Run, judgements: &Judgements) -> Measures {
    let mut sum = Measures::default();
    for (query, relevance) in judgements {
        let ranked: Vec<u32> = run
            .ranked(query)
            .iter()
            .map(|(doc, _)| relevance.get(doc.as_str()).copied().unwrap_or(0))
            .collect();
        sum.ndcg_at_10 += ndcg(&ranked, relevance, 10);
        sum.recall_at_100 += recall(&ranked, relevance, 100);
        sum.mrr_at_10 += reciprocal_rank(&ranked, 10);
    }
    let queries = judgements.len();
    let mean = |sum: f64| {
        if queries == 0 {
            0.0
        } else {
            sum / queries as f64
        }
    };
    Measures {
        queries,
        ndcg_at_10: mean(sum.ndcg_at_10),
        recall_at_100: mean(sum.recall_at_100),
        mrr_at_10: mean(sum.mrr_at_10),
    }
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
        let measures = measure(&run, &judged);
        assert_eq!(measures.queries, 2);
        assert!((measures.ndcg_at_10 - 0.5).abs() < 1e-12);
        assert!((measures.recall_at_100 - 0.5).abs() < 1e-12);
        assert!((measures.mrr_at_10 - 0.5).abs() < 1e-12);
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
        assert!((measure(&run, &judged).ndcg_at_10 - expected).abs() < 1e-12);
        assert!((measure(&run, &judged).mrr_at_10 - 0.5).abs() < 1e-12);
    }

    #[test]
    fn ties_go_to_the_greater_document_id() {
        let judged = judgements("q 0 a 1\n");
        let mut run = Run::default();
        run.insert("q", vec![("a".into(), 1.0), ("b".into(), 1.0)]);
        assert!((measure(&run, &judged).mrr_at_10 - 0.5).abs() < 1e-12);
    }
}
