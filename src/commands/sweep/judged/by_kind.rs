//! A weight for each kind of query, learned from judged queries of that kind.

use std::collections::BTreeMap;

use millrace_ranker::evaluation::Bootstrap;
use millrace_recommender::QueryKind;
use serde::Serialize;

use super::super::weight::Weight;
use crate::evaluation::choice::{best_of, cross_fitted, cross_fitted_by};
use crate::evaluation::comparison::Difference;

/// Kinds with fewer queries take the weight that is best for all: their own would be luck.
const MIN_QUERIES: usize = 20;

/// A weight for each kind of query.
#[derive(Debug, Serialize)]
pub struct ByKind {
    kinds: Vec<KindReport>,
    /// The weights of kinds with one of their own, as an instance's configuration takes them.
    bm25_weight_by_query: BTreeMap<QueryKind, f64>,
    /// nDCG@10 on queries that did not choose, each with the weight of its kind.
    ndcg_at_10: f64,
    /// That less the weight in force.
    vs_in_force: Difference,
    /// That less one weight for all, chosen and measured in the same way.
    vs_one_weight: Difference,
}

/// A kind of query and the weight that all judged queries of it would choose.
#[derive(Debug, Serialize)]
struct KindReport {
    kind: QueryKind,
    queries: usize,
    bm25_weight: f64,
    /// It has too few queries for a weight of its own.
    as_all: bool,
}

/// The place of the weight of each kind that has enough queries among `choosing`, and of all others.
fn learn(
    values: &[Vec<f64>],
    kinds: &[QueryKind],
    choosing: &[usize],
    in_force: usize,
) -> (BTreeMap<QueryKind, usize>, usize) {
    let for_all = best_of(values, choosing, in_force);
    let mut of_kind: BTreeMap<QueryKind, Vec<usize>> = BTreeMap::new();
    for &query in choosing {
        of_kind.entry(kinds[query]).or_default().push(query);
    }
    let learned = of_kind
        .into_iter()
        .filter(|(_, queries)| queries.len() >= MIN_QUERIES)
        .map(|(kind, queries)| (kind, best_of(values, &queries, for_all)));
    (learned.collect(), for_all)
}

impl ByKind {
    /// `values` are nDCG@10, a row a weight, a column a query; `in_force` is the place of a weight. None
    /// where there are too few queries to learn from some and measure on others.
    pub fn of<'a>(
        weights: &[Weight],
        values: &[Vec<f64>],
        texts: impl Iterator<Item = &'a str>,
        in_force: usize,
    ) -> anyhow::Result<Option<Self>> {
        let kinds: Vec<QueryKind> = texts.map(QueryKind::of).collect();
        let by_kind = cross_fitted_by(values, |choosing| {
            let (learned, for_all) = learn(values, &kinds, choosing, in_force);
            let kinds = &kinds;
            move |query| learned.get(&kinds[query]).copied().unwrap_or(for_all)
        });
        let (Some(by_kind), Some(one)) = (by_kind, cross_fitted(values, in_force)) else {
            return Ok(None);
        };
        let names: Vec<String> = (0..kinds.len()).map(|query| query.to_string()).collect();
        let less = |others: &[f64]| {
            let differences = by_kind.iter().zip(others).map(|(kind, other)| kind - other);
            let named = names.iter().map(String::as_str).zip(differences);
            Bootstrap::default()
                .mean_by_user(named)
                .map(Difference::from)
        };
        let all: Vec<usize> = (0..kinds.len()).collect();
        let (learned, for_all) = learn(values, &kinds, &all, in_force);
        let mut counts: BTreeMap<QueryKind, usize> = BTreeMap::new();
        for kind in &kinds {
            *counts.entry(*kind).or_default() += 1;
        }
        let report = |(kind, queries): (QueryKind, usize)| KindReport {
            kind,
            queries,
            bm25_weight: weights[learned.get(&kind).copied().unwrap_or(for_all)].value(),
            as_all: !learned.contains_key(&kind),
        };
        Ok(Some(Self {
            ndcg_at_10: by_kind.iter().sum::<f64>() / by_kind.len() as f64,
            vs_in_force: less(&values[in_force])?,
            vs_one_weight: less(&one)?,
            kinds: counts.into_iter().map(report).collect(),
            bm25_weight_by_query: learned
                .iter()
                .map(|(kind, place)| (*kind, weights[*place].value()))
                .collect(),
        }))
    }

    /// What it is worth.
    pub fn summary(&self) -> String {
        let worth = if self.vs_one_weight.is_gain() {
            let body = serde_json::json!({ "bm25_weight_by_query": self.bm25_weight_by_query });
            format!("which is worth it: PUT …/config {body} searches so")
        } else {
            "which is no sure gain".to_owned()
        };
        format!(
            "a weight for each kind of query, chosen by half of them and measured on the other half: nDCG@10 \
             {:.4}, {} against one weight chosen in the same way, {worth}",
            self.ndcg_at_10, self.vs_one_weight
        )
    }

    /// Its table, with the header.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let header = ["KIND OF QUERY", "QUERIES", "BEST BM25"];
        let mut rows = vec![header.map(str::to_owned).to_vec()];
        rows.extend(self.kinds.iter().map(|of| {
            let as_all = if of.as_all { " (as all: too few)" } else { "" };
            vec![
                of.kind.to_string(),
                of.queries.to_string(),
                format!("{}{as_all}", of.bm25_weight),
            ]
        }));
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights() -> [Weight; 2] {
        [0.3, 0.8].map(|value| Weight::nearest(value).unwrap())
    }

    #[test]
    fn kinds_that_want_different_weights_get_them_and_the_gain_is_measured_on_others() {
        // Queries with digits are better at 0.8, the others at 0.3; a few are of a kind of their own.
        let texts: Vec<String> = (0..200)
            .map(|n| match n {
                0..4 => "one two three four five six".to_owned(),
                _ if n % 2 == 0 => format!("part {n}"),
                _ => "a bridge".to_owned(),
            })
            .collect();
        let of = |digits: f64, words: f64| -> Vec<f64> {
            let has_digits = |text: &String| text.starts_with("part");
            let value = |text| if has_digits(text) { digits } else { words };
            texts.iter().map(value).collect()
        };
        let values = [of(0.5, 0.7), of(0.6, 0.5)];
        let texts = || texts.iter().map(String::as_str);
        let by_kind = ByKind::of(&weights(), &values, texts(), 0)
            .unwrap()
            .unwrap();
        let told: Vec<(QueryKind, f64, bool)> = by_kind
            .kinds
            .iter()
            .map(|it| (it.kind, it.bm25_weight, it.as_all))
            .collect();
        assert_eq!(
            told,
            [
                (QueryKind::Short, 0.3, false),
                (QueryKind::Medium, 0.3, true),
                (QueryKind::ShortLiteral, 0.8, false)
            ]
        );
        let body = r#"{"bm25_weight_by_query":{"short":0.3,"short_literal":0.8}}"#;
        assert!(by_kind.summary().contains(body), "{}", by_kind.summary());
        assert!(by_kind.vs_one_weight.is_gain() && by_kind.vs_in_force.is_gain());
        assert!(
            (by_kind.vs_in_force.diff - 0.1 * 98.0 / 200.0).abs() < 1e-9,
            "{by_kind:?}"
        );
        // Where one weight is best for all, kinds gain nothing.
        let same = [of(0.4, 0.5), of(0.6, 0.7)];
        let by_kind = ByKind::of(&weights(), &same, texts(), 0).unwrap().unwrap();
        assert!(!by_kind.vs_one_weight.is_gain(), "{by_kind:?}");
        assert!(by_kind.summary().contains("no sure gain"));
        let one = ByKind::of(&weights(), &[vec![0.5], vec![0.6]], ["x"].into_iter(), 0).unwrap();
        assert!(one.is_none());
    }
}
