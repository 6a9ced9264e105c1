//! What a comparison found, in numbers and examples.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::class::{Class, Difference};

/// What a comparison found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// What was compared.
    pub uri: String,
    /// Documents that the store has: objects, and lines of corpora.
    pub objects: u64,
    /// Documents that the index holds.
    pub documents: u64,
    /// Removed documents that the index still remembers.
    pub tombstones: u64,
    /// Signals read.
    pub signals: u64,
    /// Differences by class; every class is named.
    pub counts: BTreeMap<&'static str, u64>,
    /// All differences.
    pub differences: u64,
    /// Documents with a notice of their present state on its way.
    pub on_their_way: u64,
    /// Documents of which this very version is a dead letter: no difference that a repair mends.
    pub dead_lettered: u64,
    /// Documents that changed while they were compared: left for the next time.
    pub changed_meanwhile: u64,
    /// Names that can't be documents, and lines of corpora that are none.
    pub left_out: u64,
    /// Documents of which the store does not say whether they are there.
    pub unverified: u64,
    /// Why absences could not be judged: no orphan was looked for.
    pub incomplete: Option<String>,
    /// The first URIs of each class.
    pub examples: BTreeMap<&'static str, Vec<String>>,
    /// How long it took.
    pub seconds: f64,
}

impl Report {
    pub(crate) fn new(uri: String) -> Self {
        Self {
            uri,
            counts: Class::ALL.map(|class| (class.as_str(), 0)).into(),
            ..Self::default()
        }
    }

    pub(crate) fn add(&mut self, difference: &Difference, examples: usize) {
        self.differences += 1;
        *self.counts.entry(difference.class.as_str()).or_default() += 1;
        let shown = self.examples.entry(difference.class.as_str()).or_default();
        if shown.len() < examples {
            shown.push(difference.uri.clone());
        }
    }

    /// How many differences are of this class.
    #[must_use]
    pub fn count(&self, class: Class) -> u64 {
        self.counts.get(class.as_str()).copied().unwrap_or(0)
    }

    /// Whether everything could be compared and nothing differs.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.differences == 0 && self.incomplete.is_none() && self.unverified == 0
    }
}
