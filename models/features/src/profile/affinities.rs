//! What a user makes of the values of one field.

use serde::{Deserialize, Serialize};

use super::{Addition, add, scale};

/// Below, a value is forgotten.
const FORGOTTEN: f32 = 1e-4;

/// A value of a field, as a user took it: sums over the items that have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Affinity {
    /// Interest shown, a click being 1.
    pub interest: f32,
    /// Clicks less the clicks expected of exposures.
    pub residual: f32,
    /// Exposures with an expected rate.
    pub shown: f32,
    /// Clicks with one.
    pub clicked: f32,
}

impl Affinity {
    /// What residuals are over. Clicks without an exposure (an upstream system that does not tell
    /// of all) stand for one each.
    #[must_use]
    pub fn trials(&self) -> f32 {
        self.shown.max(self.clicked)
    }

    pub(crate) fn scaled(mut self, factor: f64) -> Self {
        self.scale(factor);
        self
    }

    fn scale(&mut self, factor: f64) {
        scale(&mut self.interest, factor);
        scale(&mut self.residual, factor);
        scale(&mut self.shown, factor);
        scale(&mut self.clicked, factor);
    }

    /// How much would be lost with it.
    fn size(&self) -> f32 {
        self.interest.abs() + self.trials()
    }
}

/// Sorted by value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Affinities(Vec<(String, Affinity)>);

impl Affinities {
    pub(super) fn add(&mut self, values: &[&str], addition: Addition, most: usize) {
        for value in values {
            let at = match self.position(value) {
                Ok(at) => at,
                Err(at) => {
                    self.0
                        .insert(at, ((*value).to_owned(), Affinity::default()));
                    at
                }
            };
            let affinity = &mut self.0[at].1;
            add(&mut affinity.interest, addition.interest);
            add(&mut affinity.residual, addition.residual);
            add(&mut affinity.shown, addition.expected_shown);
            add(&mut affinity.clicked, addition.expected_clicked);
        }
        while self.0.len() > most {
            let sizes = self
                .0
                .iter()
                .enumerate()
                .map(|(at, (_, affinity))| (affinity.size(), at));
            let Some((_, at)) = sizes.min_by(|a, b| a.0.total_cmp(&b.0)) else {
                return;
            };
            self.0.remove(at);
        }
    }

    pub(super) fn scale(&mut self, factor: f64) {
        self.0.retain_mut(|(_, affinity)| {
            affinity.scale(factor);
            affinity.size() >= FORGOTTEN
        });
    }

    fn position(&self, value: &str) -> Result<usize, usize> {
        self.0
            .binary_search_by(|(known, _)| known.as_str().cmp(value))
    }

    pub(crate) fn get(&self, value: &str) -> Option<Affinity> {
        let at = self.position(value).ok()?;
        Some(self.0[at].1)
    }

    /// Values with interest in them.
    pub(super) fn interests(&self) -> impl Iterator<Item = (&str, f32)> {
        let interests = self
            .0
            .iter()
            .map(|(value, affinity)| (value.as_str(), affinity.interest));
        interests.filter(|(_, interest)| *interest > 0.0)
    }
}
