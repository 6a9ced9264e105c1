//! What is known at a point of a replay, and which line told it last.
//!
//! Everything that features read carries the number of the last line that changed it. A ranking's
//! rows are refused where one of these is not below the ranking's own number: a feature that has seen
//! its own future, by whatever mistake in the order of steps, ends the replay instead of improving
//! its result.

use std::collections::{BTreeMap, HashMap};

use millrace_features::{Context, FeatureSet, Item, Profile, ProfileSettings, Scores, compute};
use millrace_joiner::Joined;
use millrace_schemas::{ItemCounters, ItemStats, Signal};

use crate::ranking::Ranking;

/// A value, and the last line that it depends on.
#[derive(Clone, Debug)]
struct Told<T> {
    value: T,
    line: u64,
}

#[derive(Clone, Debug, Default)]
struct KnownItem {
    signal: Option<Told<Signal>>,
    counters: Option<Told<ItemCounters>>,
}

/// Items, users and counters.
#[derive(Debug)]
pub(super) struct Known {
    set: FeatureSet,
    settings: ProfileSettings,
    embedding_version: String,
    items: HashMap<String, KnownItem>,
    profiles: HashMap<String, Told<Profile>>,
    totals: Told<ItemCounters>,
}

/// The rows of a ranking, and the last line that any of them depends on; 0 for none.
#[derive(Debug, PartialEq)]
pub(super) struct Rows {
    pub rows: Vec<f32>,
    pub last_line: u64,
}

impl Known {
    pub fn new(set: FeatureSet, embedding_version: &str) -> Self {
        Self {
            settings: set.profile_settings(),
            set,
            embedding_version: embedding_version.to_owned(),
            items: HashMap::new(),
            profiles: HashMap::new(),
            totals: Told {
                value: ItemCounters::default(),
                line: 0,
            },
        }
    }

    pub fn item(&mut self, signal: Signal, line: u64) {
        let item = self.items.entry(signal.item_id.clone()).or_default();
        item.signal = Some(Told {
            value: signal,
            line,
        });
    }

    /// Takes in what the join made of a line.
    pub fn joined(&mut self, joined: Joined, line: u64) {
        for feedback in &joined.feedback {
            let user_id = &feedback.event.user_id;
            if !self.profiles.contains_key(user_id) {
                let value = Profile::new(user_id, &self.embedding_version);
                self.profiles.insert(user_id.clone(), Told { value, line });
            }
            if let Some(profile) = self.profiles.get_mut(user_id) {
                profile.value.apply(feedback, &self.settings);
                profile.line = profile.line.max(line);
            }
        }
        let totals_id = ItemStats::totals_id(0);
        for stats in joined.stats {
            let told = Told {
                value: stats.counters,
                line,
            };
            if stats.item_id == totals_id {
                self.totals = told;
            } else {
                self.items.entry(stats.item_id).or_default().counters = Some(told);
            }
        }
    }

    /// The features of a ranking's items, as they are now. What was never told of an item is missing.
    pub fn rows(&self, ranking: &Ranking) -> Rows {
        let totals = [&self.totals.value];
        let context = Context::of_totals(totals, ranking.shown_at_ms);
        let stranger = Profile::new(&ranking.user_id, &self.embedding_version);
        let profile = self.profiles.get(&ranking.user_id);
        let mut last_line = self.totals.line.max(profile.map_or(0, |told| told.line));
        let profile = profile.map_or(&stranger, |told| &told.value);
        let (no_counters, no_metadata) = (ItemCounters::default(), BTreeMap::new());
        let mut rows = Vec::with_capacity(ranking.items.len() * self.set.len());
        for item_id in &ranking.items {
            let known = self.items.get(item_id);
            let signal = known.and_then(|item| item.signal.as_ref());
            let counters = known.and_then(|item| item.counters.as_ref());
            let lines = [signal.map(|told| told.line), counters.map(|told| told.line)];
            last_line = lines.into_iter().flatten().fold(last_line, u64::max);
            let counters = counters.map_or(&no_counters, |told| &told.value);
            let item = match signal {
                Some(signal) => Item::of_signal(&signal.value, counters),
                None => Item {
                    item_id,
                    model_version: "",
                    vector: &[],
                    categories: &[],
                    tags: &[],
                    key_phrases: &[],
                    language: None,
                    metadata: &no_metadata,
                    published_at_ms: None,
                    counters,
                },
            };
            // Nothing was recalled: a recording's lists are given.
            let scores = Scores::default();
            compute(&self.set, profile, &item, &scores, &context, &mut rows);
        }
        Rows { rows, last_line }
    }

    pub fn set(&self) -> &FeatureSet {
        &self.set
    }
}
