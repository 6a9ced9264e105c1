//! Which weight is best for each query, and how far one could come who knew it beforehand.

use serde::Serialize;

use super::super::weight::Weight;
use crate::evaluation::choice::best;
use crate::evaluation::measures::PerQuery;
use crate::output::{printable, table};

/// The best weight of each query.
#[derive(Debug, Serialize)]
pub struct ByQuery {
    /// nDCG@10 where each query has its best weight: more than any choice made beforehand can have.
    oracle_ndcg_at_10: f64,
    /// That less the weight in force.
    oracle_gain: f64,
    /// Queries for which no weight is better than the one in force.
    content: usize,
    /// All of them, by id.
    queries: Vec<QueryBest>,
}

/// A query and the weight that is best for it.
#[derive(Debug, Serialize)]
struct QueryBest {
    query: String,
    /// Of equal ones the one nearest to the weight in force.
    bm25_weight: f64,
    ndcg_at_10: f64,
    /// nDCG@10 of the weight in force.
    in_force: f64,
}

impl ByQuery {
    /// Of these weights, which are measured on the same queries; `in_force` is the place of one.
    pub fn of(weights: &[(Weight, PerQuery)], in_force: usize) -> Self {
        let (weight_in_force, reference) = &weights[in_force];
        let mut nearest_first: Vec<&(Weight, PerQuery)> = weights.iter().collect();
        nearest_first.sort_by_key(|(weight, _)| weight.distance(*weight_in_force));
        let queries: Vec<QueryBest> = reference
            .iter()
            .map(|(query, measures)| {
                let value = |(_, per_query): &&(Weight, PerQuery)| {
                    per_query.get(query).map_or(0.0, |of| of.ndcg_at_10)
                };
                let values: Vec<f64> = nearest_first.iter().map(value).collect();
                let best = best(&values, 0);
                QueryBest {
                    query: query.clone(),
                    bm25_weight: nearest_first[best].0.value(),
                    ndcg_at_10: values[best],
                    in_force: measures.ndcg_at_10,
                }
            })
            .collect();
        let mean = |value: fn(&QueryBest) -> f64| {
            queries.iter().map(value).sum::<f64>() / queries.len().max(1) as f64
        };
        let oracle_ndcg_at_10 = mean(|query| query.ndcg_at_10);
        let is_content =
            |query: &&QueryBest| (query.bm25_weight - weight_in_force.value()).abs() < f64::EPSILON;
        Self {
            oracle_gain: oracle_ndcg_at_10 - mean(|query| query.in_force),
            content: queries.iter().filter(is_content).count(),
            oracle_ndcg_at_10,
            queries,
        }
    }

    /// How far knowing would go.
    pub fn summary(&self) -> String {
        format!(
            "who knew the best weight of each query would have nDCG@10 {:.4}, {:+.4} against the weight in \
             force, which is as good as any for {} of {} queries",
            self.oracle_ndcg_at_10,
            self.oracle_gain,
            self.content,
            self.queries.len()
        )
    }

    /// The queries for which another weight is better, what they would gain most first.
    pub fn text(&self) -> String {
        let header = ["QUERY", "BEST BM25", "NDCG@10", "IN FORCE"];
        let mut rows = vec![header.map(str::to_owned).to_vec()];
        let gain = |query: &QueryBest| query.ndcg_at_10 - query.in_force;
        let mut better: Vec<&QueryBest> = self.queries.iter().filter(|it| gain(it) > 0.0).collect();
        better.sort_by(|a, b| gain(b).total_cmp(&gain(a)));
        rows.extend(better.into_iter().map(|query| {
            vec![
                printable(&query.query).into_owned(),
                query.bm25_weight.to_string(),
                format!("{:.4}", query.ndcg_at_10),
                format!("{:.4}", query.in_force),
            ]
        }));
        table(&rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::measures::QueryMeasures;

    #[test]
    fn each_query_has_its_best_weight_and_of_equals_the_nearest() {
        let measured = |values: [f64; 3]| -> PerQuery {
            let measures = |ndcg_at_10| QueryMeasures {
                ndcg_at_10,
                ..QueryMeasures::default()
            };
            let named = ["a", "b", "c"].into_iter().zip(values);
            named
                .map(|(query, value)| (query.to_owned(), measures(value)))
                .collect()
        };
        let weight = |value| Weight::nearest(value).unwrap();
        let weights = [
            (weight(0.0), measured([0.9, 0.5, 0.5])),
            (weight(0.3), measured([0.5, 0.5, 0.2])),
            (weight(0.5), measured([0.1, 0.5, 0.5])),
        ];
        let by_query = ByQuery::of(&weights, 1);
        let best: Vec<f64> = by_query.queries.iter().map(|it| it.bm25_weight).collect();
        assert_eq!(best, [0.0, 0.3, 0.5]);
        assert_eq!(by_query.content, 1);
        assert!((by_query.oracle_ndcg_at_10 - 1.9 / 3.0).abs() < 1e-12);
        assert!((by_query.oracle_gain - 0.7 / 3.0).abs() < 1e-12);
        let text = by_query.text();
        let queries: Vec<&str> = text.lines().skip(1).map(|line| &line[..1]).collect();
        assert_eq!(queries, ["a", "c"]);
    }
}
