//! What a user makes of the values of one field.

use std::cmp::Ordering;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::evidence::Addition;
use super::sums::{add, kept, scale};

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

/// Values by a hash of theirs, so that a lookup compares numbers that lie side by side, and one
/// text: rows of a thousand candidates look up some ten thousand values.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Affinities {
    /// Sorted.
    keys: Vec<u64>,
    /// In the order of the keys, and of the texts where keys are equal.
    values: Vec<(String, Affinity)>,
}

impl Affinities {
    pub(super) fn add(&mut self, values: &[&str], addition: Addition, most: usize) {
        for value in values {
            let at = match self.position(value) {
                Ok(at) => at,
                Err(at) => {
                    self.keys.insert(at, key(value));
                    let none = ((*value).to_owned(), Affinity::default());
                    self.values.insert(at, none);
                    at
                }
            };
            let affinity = &mut self.values[at].1;
            add(&mut affinity.interest, addition.interest);
            add(&mut affinity.residual, addition.residual);
            add(&mut affinity.shown, addition.expected_shown);
            add(&mut affinity.clicked, addition.expected_clicked);
        }
        if self.values.len() > most {
            let sizes = self.values.iter().map(|(_, affinity)| affinity.size());
            let mut keep = kept(sizes, most, f32::total_cmp).into_iter();
            self.retain(|_| keep.next() == Some(true));
        }
    }

    pub(super) fn scale(&mut self, factor: f64) {
        self.retain(|affinity| {
            affinity.scale(factor);
            affinity.size() >= FORGOTTEN
        });
    }

    fn retain(&mut self, mut keep: impl FnMut(&mut Affinity) -> bool) {
        let kept: Vec<bool> = self
            .values
            .iter_mut()
            .map(|(_, affinity)| keep(affinity))
            .collect();
        if kept.iter().all(|kept| *kept) {
            return;
        }
        let (mut keys, mut values) = (kept.iter(), kept.iter());
        self.keys.retain(|_| keys.next() == Some(&true));
        self.values.retain(|_| values.next() == Some(&true));
    }

    fn position(&self, value: &str) -> Result<usize, usize> {
        let key = key(value);
        let mut at = self.keys.partition_point(|known| *known < key);
        while self.keys.get(at) == Some(&key) {
            match self.values[at].0.as_str().cmp(value) {
                Ordering::Less => at += 1,
                Ordering::Equal => return Ok(at),
                Ordering::Greater => break,
            }
        }
        Err(at)
    }

    pub(crate) fn get(&self, value: &str) -> Option<Affinity> {
        let at = self.position(value).ok()?;
        Some(self.values[at].1)
    }

    /// Values with interest in them.
    pub(super) fn interests(&self) -> impl Iterator<Item = (&str, f32)> {
        let values = self.values.iter();
        let interests = values.map(|(value, affinity)| (value.as_str(), affinity.interest));
        interests.filter(|(_, interest)| *interest > 0.0)
    }
}

impl Serialize for Affinities {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.values.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Affinities {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut values = Vec::<(String, Affinity)>::deserialize(deserializer)?;
        values.sort_by(|(a, _), (b, _)| key(a).cmp(&key(b)).then_with(|| a.cmp(b)));
        Ok(Self {
            keys: values.iter().map(|(value, _)| key(value)).collect(),
            values,
        })
    }
}

/// A hash that is the same everywhere. Whoever makes values meet in it makes a lookup of theirs
/// compare texts, of which a profile keeps some hundred.
fn key(value: &str) -> u64 {
    let (words, rest) = value.as_bytes().as_chunks::<8>();
    let last = rest
        .iter()
        .fold(0, |word, byte| word << 8 | u64::from(*byte));
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    words
        .chain([last, value.len() as u64])
        .fold(0, |hash, word| {
            (hash ^ word)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(29)
        })
}
