//! How much better one ranking is than another on the same queries, and how sure that is.

use std::fmt;

use millrace_ranker::evaluation::{Bootstrap, BootstrapError, Interval};
use serde::Serialize;

use super::measures::{PerQuery, QueryMeasures};

/// Differences below this are rounding: the queries are tied.
const TIE: f64 = 1e-9;

/// What queries are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// [`QueryMeasures::ndcg_at_10`].
    Ndcg,
    /// [`QueryMeasures::recall_at_100`].
    Recall,
    /// [`QueryMeasures::mrr_at_10`].
    ReciprocalRank,
}

impl Measure {
    /// The measure of a query.
    pub fn of(self, measures: &QueryMeasures) -> f64 {
        match self {
            Self::Ndcg => measures.ndcg_at_10,
            Self::Recall => measures.recall_at_100,
            Self::ReciprocalRank => measures.mrr_at_10,
        }
    }
}

/// Means over queries are resampled by query: 95 % intervals of 10,000 samples, the same each time.
pub fn mean(per_query: &PerQuery, measure: Measure) -> Result<Interval, BootstrapError> {
    let values = per_query
        .iter()
        .map(|(query, measures)| (query.as_str(), measure.of(measures)));
    Bootstrap::default().mean_by_user(values)
}

/// A mean difference with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The mean difference.
    pub diff: f64,
    /// Lower and upper bound.
    pub ci95: [f64; 2],
    /// Queries or users that were resampled for it.
    #[serde(skip)]
    pub units: usize,
}

/// Below so many queries or users an interval by resampling is too narrow to be believed: of three that
/// agree by chance it lies above 0.
pub const MIN_UNITS: usize = 20;

impl From<Interval> for Difference {
    fn from(interval: Interval) -> Self {
        Self {
            diff: interval.mean,
            ci95: [interval.low, interval.high],
            units: interval.users,
        }
    }
}

impl Difference {
    /// Whether it is a gain for sure: the interval lies above 0, and is of enough queries or users.
    pub fn is_gain(&self) -> bool {
        self.units >= MIN_UNITS && self.ci95[0] > 0.0
    }

    /// Whether it is a loss for sure: the interval lies below 0, and is of enough queries or users.
    pub fn is_loss(&self) -> bool {
        self.units >= MIN_UNITS && self.ci95[1] < 0.0
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [low, high] = self.ci95;
        write!(f, "{:+.4} [{low:+.4}, {high:+.4}]", self.diff)
    }
}

/// B less A by one measure: whoever is hard to find for is so for both, so each query is its own pair.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Mean of A.
    pub a: f64,
    /// Mean of B.
    pub b: f64,
    /// B less A.
    #[serde(flatten)]
    pub difference: Difference,
    /// Queries on which B is better.
    pub wins: usize,
    /// Queries on which A is.
    pub losses: usize,
    /// Queries on which they are equal.
    pub ties: usize,
}

/// A query on which B differs from A.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Movement {
    /// Its id.
    pub query: String,
    /// The measure of A.
    pub a: f64,
    /// The measure of B.
    pub b: f64,
    /// B less A.
    pub diff: f64,
}

/// What each query has in both; queries that only one has are passed over.
fn pairs<'a>(
    a: &'a PerQuery,
    b: &'a PerQuery,
    measure: Measure,
) -> impl Iterator<Item = (&'a str, f64, f64)> {
    a.iter().filter_map(move |(query, of_a)| {
        let of_b = b.get(query)?;
        Some((query.as_str(), measure.of(of_a), measure.of(of_b)))
    })
}

/// Compares on the queries that both have.
///
/// # Errors
/// There are none.
pub fn compare(a: &PerQuery, b: &PerQuery, measure: Measure) -> Result<Comparison, BootstrapError> {
    let paired: Vec<(&str, f64, f64)> = pairs(a, b, measure).collect();
    let differences = paired.iter().map(|(query, a, b)| (*query, b - a));
    let difference = Bootstrap::default().mean_by_user(differences)?;
    let count = paired.len() as f64;
    let among = |is: fn(f64) -> bool| paired.iter().filter(|(_, a, b)| is(b - a)).count();
    Ok(Comparison {
        a: paired.iter().map(|(_, a, _)| a).sum::<f64>() / count,
        b: paired.iter().map(|(_, _, b)| b).sum::<f64>() / count,
        difference: difference.into(),
        wins: among(|diff| diff > TIE),
        losses: among(|diff| diff < -TIE),
        ties: among(|diff| diff.abs() <= TIE),
    })
}

/// The queries that moved most, at most `count`.
pub fn movements(a: &PerQuery, b: &PerQuery, measure: Measure, count: usize) -> Vec<Movement> {
    let mut moved: Vec<Movement> = pairs(a, b, measure)
        .map(|(query, a, b)| Movement {
            query: query.to_owned(),
            a,
            b,
            diff: b - a,
        })
        .filter(|moved| moved.diff.abs() > TIE)
        .collect();
    moved.sort_by(|a, b| b.diff.abs().total_cmp(&a.diff.abs()));
    moved.truncate(count);
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = f64>) -> PerQuery {
        let measures = |ndcg_at_10| QueryMeasures {
            ndcg_at_10,
            ..QueryMeasures::default()
        };
        let values = values.into_iter().enumerate();
        values
            .map(|(n, value)| (format!("q{n:03}"), measures(value)))
            .collect()
    }

    #[test]
    fn queries_are_paired_so_that_a_small_steady_gain_is_seen() {
        let a = of((0..100).map(|n| f64::from(n) / 110.0));
        let b = of((0..100).map(|n| f64::from(n) / 110.0 + 0.01));
        let compared = compare(&a, &b, Measure::Ndcg).unwrap();
        assert!(
            (compared.difference.diff - 0.01).abs() < 1e-9,
            "{compared:?}"
        );
        assert!(compared.difference.is_gain() && compared.wins == 100);
        // The means alone could not say it: each is uncertain by five times as much.
        let mean = mean(&a, Measure::Ndcg).unwrap();
        assert!(mean.high - mean.low > 0.05, "{mean:?}");
        let back = compare(&b, &a, Measure::Ndcg).unwrap();
        assert!(back.difference.is_loss() && back.losses == 100);
    }

    #[test]
    fn wins_losses_ties_and_the_largest_movements_are_told() {
        let a = of([0.5, 0.5, 0.5, 0.5]);
        let b = of([0.5, 0.75, 0.0, 0.4]);
        let compared = compare(&a, &b, Measure::Ndcg).unwrap();
        assert_eq!((compared.wins, compared.losses, compared.ties), (1, 2, 1));
        assert!(!compared.difference.is_gain() && !compared.difference.is_loss());
        let moved = movements(&a, &b, Measure::Ndcg, 2);
        let moved: Vec<(&str, f64)> = moved
            .iter()
            .map(|it| (it.query.as_str(), it.diff))
            .collect();
        assert_eq!(moved, [("q002", -0.5), ("q001", 0.25)]);
        assert!(compare(&a, &PerQuery::new(), Measure::Ndcg).is_err());
        let none = compare(&a, &a, Measure::Ndcg).unwrap();
        assert_eq!((none.ties, none.difference.ci95), (4, [0.0, 0.0]));
    }
}
