//! Whether the new model's cosines order what users were shown as well as the old one's did.
//!
//! For answers that were clicked: each item is scored by its cosine with what the user has liked, in the
//! space of either model, and the order is judged by the clicks. What the answer itself has shown is
//! left out of the liking, or a click would tell of itself. Features of other kinds do not change with
//! the model.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use millrace_kafka::{HttpSchemaRegistry, KafkaConfig};
use millrace_profiles::{ItemVectors, ProfileReader};
use millrace_ranker::evaluation::ndcg;
use millrace_trainer::Span;
use millrace_trainer::clicked::{self, ClickedAnswer};

/// How far back answers are taken.
const SPAN: Duration = Duration::from_hours(30 * 24);
/// Most answers, the last ones.
const MAX_ANSWERS: usize = 2_000;
/// Places that count.
const CUTOFF: usize = 10;

/// nDCG@10 of answers that were clicked, ordered by cosines.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rankings {
    /// User, and what the order has by the old and by the new model.
    pub answers: Vec<(String, f64, f64)>,
    /// Answers that were clicked and could not be ordered: nothing else is known of what their user
    /// likes, or items have no vectors in both spaces.
    pub left_out: u64,
}

/// What users like, and what models make of it.
pub struct Liking {
    pub kafka: KafkaConfig,
    pub profiles: ProfileReader,
    pub vectors: Arc<dyn ItemVectors>,
}

impl Liking {
    /// Orders the last answers that were clicked by the cosines of both models.
    ///
    /// # Errors
    /// The topic, the profiles or the vectors can't be read.
    pub async fn rankings(&self, old: &str, new: &str) -> anyhow::Result<Rankings> {
        let registry = HttpSchemaRegistry::from_config(&self.kafka)?;
        let registry = registry.as_ref().map(|registry| registry as _);
        let to_ms = jiff::Timestamp::now().as_millisecond();
        let span_ms = i64::try_from(SPAN.as_millis()).unwrap_or(i64::MAX);
        let span = Span {
            from_ms: to_ms.saturating_sub(span_ms),
            to_ms,
        };
        let answers = clicked::read(&self.kafka, registry, span).await?;
        let last = answers.len().saturating_sub(MAX_ANSWERS);
        let mut rankings = Rankings::default();
        for answer in &answers[last..] {
            match self.ordered(answer, old, new).await? {
                Some((old, new)) => rankings.answers.push((answer.user_id.clone(), old, new)),
                None => rankings.left_out += 1,
            }
        }
        Ok(rankings)
    }

    /// nDCG@10 by the old and by the new model.
    async fn ordered(
        &self,
        answer: &ClickedAnswer,
        old: &str,
        new: &str,
    ) -> anyhow::Result<Option<(f64, f64)>> {
        let Some(profile) = self.profiles.get(&answer.user_id).await? else {
            return Ok(None);
        };
        let is_shown = |id: &str| answer.items.iter().any(|item| item.item_id == id);
        let liked: BTreeMap<String, f64> = profile
            .heaviest()
            .into_iter()
            .filter(|(id, weight)| *weight > 0.0 && !is_shown(id))
            .map(|(id, weight)| (id.to_owned(), weight))
            .collect();
        let shown = answer.items.iter().map(|item| item.item_id.clone());
        let ids: Vec<String> = shown.chain(liked.keys().cloned()).collect();
        let old = self.vectors.vectors(old, &ids).await?;
        let new = self.vectors.vectors(new, &ids).await?;
        Ok(compared(answer, &liked, &old, &new))
    }
}

type Vectors = HashMap<String, Vec<f32>>;

/// nDCG@10 in both spaces; of items that have a vector in both alone.
fn compared(
    answer: &ClickedAnswer,
    liked: &BTreeMap<String, f64>,
    old: &Vectors,
    new: &Vectors,
) -> Option<(f64, f64)> {
    let in_both = |id: &String| old.contains_key(id) && new.contains_key(id);
    let items: Vec<_> = answer
        .items
        .iter()
        .filter(|item| in_both(&item.item_id))
        .collect();
    let grades: Vec<u8> = items.iter().map(|item| u8::from(item.clicked)).collect();
    if !(grades.contains(&0) && grades.contains(&1)) {
        return None;
    }
    let in_space = |vectors: &Vectors| {
        let mut liking: Vec<f64> = Vec::new();
        for (id, weight) in liked.iter().filter(|(id, _)| in_both(id)) {
            let vector = vectors.get(id)?;
            liking.resize(vector.len(), 0.0);
            for (sum, component) in liking.iter_mut().zip(vector) {
                *sum += weight * f64::from(*component);
            }
        }
        if liking.is_empty() {
            return None;
        }
        // The length of the liking is the same for all items, and theirs is 1.
        let score = |vector: &Vec<f32>| {
            let products = liking.iter().zip(vector);
            products.map(|(a, b)| a * f64::from(*b)).sum::<f64>()
        };
        let scores = items
            .iter()
            .map(|item| vectors.get(&item.item_id).map(score));
        ndcg(&scores.collect::<Option<Vec<f64>>>()?, &grades, CUTOFF)
    };
    Some((in_space(old)?, in_space(new)?))
}

#[cfg(test)]
mod tests {
    use millrace_trainer::clicked::ShownItem;

    use super::*;

    fn answer(items: &[(&str, bool)]) -> ClickedAnswer {
        ClickedAnswer {
            user_id: "ada".to_owned(),
            served_at_ms: 0,
            items: items
                .iter()
                .map(|(id, clicked)| ShownItem {
                    item_id: (*id).to_owned(),
                    clicked: *clicked,
                })
                .collect(),
        }
    }

    fn space(vectors: &[(&str, [f32; 2])]) -> Vectors {
        let entry = |(id, vector): &(&str, [f32; 2])| ((*id).to_owned(), vector.to_vec());
        vectors.iter().map(entry).collect()
    }

    #[test]
    fn the_model_that_puts_what_is_clicked_beside_what_is_liked_orders_better() {
        let answer = answer(&[("near", true), ("far", false)]);
        let liked = BTreeMap::from([("liked".to_owned(), 2.0)]);
        let good = space(&[
            ("liked", [1.0, 0.0]),
            ("near", [1.0, 0.0]),
            ("far", [0.0, 1.0]),
        ]);
        let bad = space(&[
            ("liked", [1.0, 0.0]),
            ("near", [0.0, 1.0]),
            ("far", [1.0, 0.0]),
        ]);
        let (old, new) = compared(&answer, &liked, &good, &bad).unwrap();
        assert!((old - 1.0).abs() < 1e-9 && new < 0.7, "{old} {new}");
    }

    #[test]
    fn what_can_not_be_ordered_in_both_spaces_is_left_out() {
        let both = answer(&[("near", true), ("far", false)]);
        let liked = BTreeMap::from([("liked".to_owned(), 1.0)]);
        let whole = space(&[
            ("liked", [1.0, 0.0]),
            ("near", [1.0, 0.0]),
            ("far", [0.0, 1.0]),
        ]);
        for missing in ["liked", "near", "far"] {
            let mut part = whole.clone();
            part.remove(missing);
            assert_eq!(compared(&both, &liked, &whole, &part), None, "{missing}");
        }
        assert_eq!(compared(&both, &BTreeMap::new(), &whole, &whole), None);
    }
}
