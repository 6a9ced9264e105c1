//! How good orders are on rankings that were clicked: nDCG@10, intervals, and differences.

use millrace_ranker::evaluation::{Bootstrap, BootstrapError, Interval, ndcg};
use serde::Serialize;

use crate::baselines::RandomOrder;
use crate::ranking::{Ranking, first_of_users};
use crate::replay::BaselineScores;

/// Places that count.
const CUTOFF: usize = 10;

/// A mean over rankings and its 95 % interval by resampling users.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Mean {
    /// The mean.
    pub ndcg_at_10: f64,
    /// Lower and upper bound.
    pub ci95: [f64; 2],
    /// Rankings with a click.
    pub rankings: usize,
    /// Their users.
    pub users: usize,
}

/// By how much one order is better than another on the same rankings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The mean of the differences of nDCG@10.
    pub diff: f64,
    /// Lower and upper bound.
    pub ci95: [f64; 2],
}

/// Rankings that can be judged, and nDCG@10 of any order of them.
#[derive(Debug)]
pub struct Judged<'a> {
    /// With their places among all rankings.
    rankings: Vec<(usize, &'a Ranking)>,
    first_of_user: Vec<bool>,
    skipped: usize,
    bootstrap: Bootstrap,
}

/// nDCG@10 of each judged ranking by one order.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured(Vec<f64>);

impl<'a> Judged<'a> {
    /// The rankings from `from` on. Those before it are history: they tell whose ranking is the
    /// first of its user.
    #[must_use]
    pub fn new(rankings: &'a [Ranking], from: usize) -> Self {
        let first = first_of_users(rankings);
        let judged = rankings.iter().enumerate().skip(from);
        let (clicked, others): (Vec<_>, Vec<_>) =
            judged.partition(|(_, ranking)| ranking.has_click());
        Self {
            first_of_user: clicked.iter().map(|(index, _)| first[*index]).collect(),
            rankings: clicked,
            skipped: others.len(),
            bootstrap: Bootstrap::default(),
        }
    }

    /// Rankings with a click.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rankings.len()
    }

    /// Whether nothing can be judged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rankings.is_empty()
    }

    /// Rankings without a click, which no order can be told from another by.
    #[must_use]
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// Measures an order: `scores` of a ranking and its place among all, one an item.
    pub fn measure(&self, mut scores: impl FnMut(usize, &Ranking) -> Vec<f64>) -> Measured {
        let measured = self.rankings.iter().map(|(index, ranking)| {
            // A ranking with a click has something relevant.
            ndcg(&scores(*index, ranking), &ranking.grades(), CUTOFF).unwrap_or(0.0)
        });
        Measured(measured.collect())
    }

    /// The mean of all.
    ///
    /// # Errors
    /// There are no rankings.
    pub fn mean(&self, measured: &Measured) -> Result<Mean, BootstrapError> {
        let users = self.users().zip(measured.0.iter().copied());
        let Interval {
            mean,
            low,
            high,
            users,
        } = self.bootstrap.mean_by_user(users)?;
        Ok(Mean {
            ndcg_at_10: mean,
            ci95: [low, high],
            rankings: self.rankings.len(),
            users,
        })
    }

    /// The users' first rankings, before which nothing was known of them.
    #[must_use]
    pub fn cold(&self) -> Self {
        self.only(true)
    }

    /// All but the users' first rankings.
    #[must_use]
    pub fn warm(&self) -> Self {
        self.only(false)
    }

    fn only(&self, first: bool) -> Self {
        let rankings = self.rankings.iter().zip(&self.first_of_user);
        let rankings: Vec<_> = rankings
            .filter(|(_, is_first)| **is_first == first)
            .map(|(ranking, _)| *ranking)
            .collect();
        Self {
            first_of_user: vec![first; rankings.len()],
            rankings,
            skipped: 0,
            bootstrap: self.bootstrap,
        }
    }

    /// By how much `measured` is better than `other`: a paired comparison, user by user.
    ///
    /// # Errors
    /// There are no rankings.
    pub fn difference(
        &self,
        measured: &Measured,
        other: &Measured,
    ) -> Result<Difference, BootstrapError> {
        let differences = measured.0.iter().zip(&other.0).map(|(a, b)| a - b);
        let users = self
            .rankings
            .iter()
            .map(|(_, ranking)| ranking.user_id.as_str());
        let interval = self.bootstrap.mean_by_user(users.zip(differences))?;
        Ok(Difference {
            diff: interval.mean,
            ci95: [interval.low, interval.high],
        })
    }

    fn users(&self) -> impl Iterator<Item = &str> {
        self.rankings
            .iter()
            .map(|(_, ranking)| ranking.user_id.as_str())
    }
}

/// A ranker on the rankings that judge it, beside what it must beat.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Rankings with a click.
    pub rankings: usize,
    /// Rankings without one.
    pub skipped: usize,
    /// Mean of the rankings.
    pub ndcg_at_10: f64,
    /// Its interval.
    pub ci95: [f64; 2],
    /// The ranker less the order by the items' click-through rates, where these were followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vs_item_ctr: Option<Difference>,
    /// The ranker less the order in which the items were shown.
    pub vs_as_shown: Difference,
    /// On each user's first ranking; none where there is no such ranking.
    pub cold: Option<Part>,
    /// On all others.
    pub warm: Option<Part>,
    /// nDCG@10 of orders without a ranker.
    pub baselines: Baselines,
}

/// A ranker on some of the rankings.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    /// The ranker.
    #[serde(flatten)]
    pub ranker: Mean,
    /// nDCG@10 by the items' click-through rates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item_ctr: Option<f64>,
    /// The ranker less that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vs_item_ctr: Option<Difference>,
}

/// nDCG@10 of simple orders, on the same rankings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Baselines {
    /// An order drawn by chance.
    pub random: f64,
    /// The order in which the items were shown.
    pub as_shown: f64,
    /// [`BaselineScores::popularity`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub popularity: Option<f64>,
    /// [`BaselineScores::item_ctr`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item_ctr: Option<f64>,
}

impl Evaluation {
    /// Judges `scores` (of a ranking and its place among all) on the rankings from `from` on, beside
    /// `baselines` of all rankings.
    ///
    /// # Errors
    /// None of them was clicked.
    pub fn of(
        rankings: &[Ranking],
        baselines: Option<&[BaselineScores]>,
        from: usize,
        seed: u64,
        scores: &mut dyn FnMut(usize, &Ranking) -> Vec<f64>,
    ) -> Result<Self, BootstrapError> {
        let judged = Judged::new(rankings, from);
        let whole = Part::of(&judged, baselines, scores)?;
        let mut part = |judged: &Judged<'_>| {
            let any = !judged.is_empty();
            any.then(|| Part::of(judged, baselines, scores)).transpose()
        };
        let (cold, warm) = (part(&judged.cold())?, part(&judged.warm())?);
        let mut random = RandomOrder::new(seed);
        let random = judged.measure(|_, ranking| random.scores(ranking.items.len()));
        let as_shown = judged.measure(|_, ranking| {
            let places = 0..ranking.items.len();
            places.map(|place| -(place as f64)).collect()
        });
        let popularity = baselines
            .map(|all| judged.mean(&judged.measure(|index, _| all[index].popularity.clone())))
            .transpose()?;
        Ok(Self {
            rankings: judged.len(),
            skipped: judged.skipped(),
            ndcg_at_10: whole.ranker.ndcg_at_10,
            ci95: whole.ranker.ci95,
            vs_item_ctr: whole.vs_item_ctr,
            vs_as_shown: judged.difference(&judged.measure(scores), &as_shown)?,
            cold,
            warm,
            baselines: Baselines {
                random: judged.mean(&random)?.ndcg_at_10,
                as_shown: judged.mean(&as_shown)?.ndcg_at_10,
                popularity: popularity.map(|mean| mean.ndcg_at_10),
                item_ctr: whole.item_ctr,
            },
        })
    }
}

impl Part {
    fn of(
        judged: &Judged<'_>,
        baselines: Option<&[BaselineScores]>,
        scores: &mut dyn FnMut(usize, &Ranking) -> Vec<f64>,
    ) -> Result<Self, BootstrapError> {
        let ranker = judged.measure(scores);
        let ctr = baselines.map(|all| judged.measure(|index, _| all[index].item_ctr.clone()));
        let mean = |measured: &Measured| judged.mean(measured).map(|mean| mean.ndcg_at_10);
        Ok(Self {
            ranker: judged.mean(&ranker)?,
            item_ctr: ctr.as_ref().map(mean).transpose()?,
            vs_item_ctr: ctr
                .as_ref()
                .map(|ctr| judged.difference(&ranker, ctr))
                .transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranking(user: &str, clicked: [bool; 2]) -> Ranking {
        Ranking {
            user_id: user.to_owned(),
            items: vec!["a".to_owned(), "b".to_owned()],
            clicked: clicked.to_vec(),
            ..Ranking::default()
        }
    }

    #[test]
    fn what_was_not_clicked_is_skipped_and_a_first_ranking_may_lie_in_the_history() {
        let rankings = [
            ranking("u", [true, false]),
            ranking("u", [true, false]),
            ranking("v", [false, false]),
            ranking("v", [false, true]),
            ranking("w", [true, true]),
        ];
        let judged = Judged::new(&rankings, 1);
        assert_eq!((judged.len(), judged.skipped()), (3, 1));
        // Second and first: a relevant item in the second place is worth 1 / log2(3).
        let second = 1.0 / 3f64.log2();
        let shown = judged.measure(|_, _| vec![1.0, 0.0]);
        let mean = judged.mean(&shown).unwrap();
        assert!((mean.ndcg_at_10 - (1.0 + second + 1.0) / 3.0).abs() < 1e-12);
        // `v` has seen a ranking without clicking; only `w` is new.
        let (cold, warm) = (judged.cold(), judged.warm());
        assert_eq!((cold.len(), warm.len()), (1, 2));
        let shown_first = warm.measure(|_, _| vec![1.0, 0.0]);
        let mean = warm.mean(&shown_first).unwrap();
        assert!((mean.ndcg_at_10 - f64::midpoint(1.0, second)).abs() < 1e-12);
        let reversed = judged.measure(|_, _| vec![0.0, 1.0]);
        let difference = judged.difference(&reversed, &shown).unwrap();
        assert!(difference.diff.abs() < 1e-12, "{difference:?}");
        assert!(difference.ci95[0] < 0.0 && difference.ci95[1] > 0.0);
    }

    #[test]
    fn nothing_to_judge_has_no_mean() {
        let rankings = [ranking("u", [false, false])];
        let judged = Judged::new(&rankings, 0);
        assert!(judged.is_empty());
        let none = judged.measure(|_, _| vec![]);
        assert_eq!(judged.mean(&none), Err(BootstrapError::Empty));
        assert!(judged.cold().is_empty());
    }
}
