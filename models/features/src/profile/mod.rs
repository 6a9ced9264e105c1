//! What is known of a user, from feedback alone.
//!
//! A profile is a function of its feedback *in order*: applied one by one or in batches, written and
//! read in between or not, it ends with the same bits. All sums decay with event time; one factor
//! holds for all of a profile, so that reading at a moment needs no walk.
//!
//! | what | decays by half in | kept |
//! |---|---|---|
//! | long-term vector, residual vector, items, affinities, numbers of trials | 30 days | 500 items, 400 values a field |
//! | session vector | 30 minutes; missing after 2 hours without interest | |
//! | recent items with their vectors | never | 50 |
//! | items seen | never | 2,000 |
//! | counts by kind of behavior | never | all |
//!
//! *Interest* weighs behavior by kind ([`interest`]). A *residual* is what was not expected: an
//! exposure adds -CTR(item), a click +1, so that items which everybody clicks say little of a user,
//! and passing over them says something. The rate is the feedback's, from just before its event:
//! exposure and click add up without being paired.

mod affinities;
mod evidence;
mod format;
mod items;
mod recent;
mod seen;
mod sums;

use std::collections::BTreeMap;

use millrace_schemas::{BehaviorKind, Feedback, ItemCounters};
use serde::{Deserialize, Serialize};

use crate::field::Field;
use crate::item::Item;
use crate::vector::{VectorSum, unit};

use affinities::Affinities;
pub use affinities::Affinity;
pub use evidence::interest;
use evidence::{Addition, Trials, decay};
pub use format::ProfileFormatError;
use items::Items;
use recent::Recent;
pub use recent::RecentItem;
use seen::Seen;
pub use seen::SeenItem;

const MINUTE_MS: f64 = 60_000.0;
/// After how long all but the session weighs half.
pub const LONG_TERM_HALF_LIFE_MS: f64 = 30.0 * 24.0 * 60.0 * MINUTE_MS;
/// After how long an item weighs half in the session.
pub const SESSION_HALF_LIFE_MS: f64 = 30.0 * MINUTE_MS;
/// A session is over after so long without interest.
pub const SESSION_GAP_MS: i64 = 2 * 60 * 60_000;
/// Items of interest that are kept with their vectors.
pub const RECENT_ITEMS: usize = 50;

/// What is kept of a user. Half-lives are constants: a model is trained on what they make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileSettings {
    /// Fields whose values have affinities; what a profile has of others goes.
    pub fields: Vec<Field>,
    /// Items kept with weights, to rebuild vectors from. Default: 500.
    pub items: usize,
    /// Most values kept of each field; the lightest eighth goes at once. Default: 400.
    pub values: usize,
    /// Most items known to be seen; the oldest eighth goes at once. Default: 2,000.
    pub seen: usize,
}

impl Default for ProfileSettings {
    fn default() -> Self {
        Self {
            fields: vec![Field::Categories, Field::Tags, Field::KeyPhrases],
            items: 500,
            values: 400,
            seen: 2_000,
        }
    }
}

/// A user, as their behavior shows them. See the module's table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    user_id: String,
    /// Of the vectors; others are never added to them.
    model_version: String,
    /// The latest event, ms since 1970: what decays is as of then. `None` before the first.
    updated_at_ms: Option<i64>,
    /// The latest event of interest.
    interested_at_ms: Option<i64>,
    counts: BTreeMap<BehaviorKind, u64>,
    /// Sum of the sizes of interest.
    interest: f64,
    trials: Trials,
    long_term: VectorSum,
    session: VectorSum,
    residual: VectorSum,
    affinities: BTreeMap<Field, Affinities>,
    items: Items,
    recent: Recent,
    seen: Seen,
    position: Option<FeedbackPosition>,
    rebuilt: bool,
}

/// Where in `feedback` a profile stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedbackPosition {
    /// The partition.
    pub partition: i32,
    /// The offset after the last record that was applied.
    pub offset: i64,
}

impl Profile {
    /// A user of whom nothing is known.
    #[must_use]
    pub fn new(user_id: &str, model_version: &str) -> Self {
        Self {
            user_id: user_id.to_owned(),
            model_version: model_version.to_owned(),
            updated_at_ms: None,
            interested_at_ms: None,
            counts: BTreeMap::new(),
            interest: 0.0,
            trials: Trials::default(),
            long_term: VectorSum::default(),
            session: VectorSum::default(),
            residual: VectorSum::default(),
            affinities: BTreeMap::new(),
            items: Items::default(),
            recent: Recent::default(),
            seen: Seen::default(),
            position: None,
            rebuilt: false,
        }
    }

    /// Takes an event in. Every origin is to be applied once, in the order of its partition.
    ///
    /// A vector of another model than the profile's is not added to its vectors; all else of the
    /// event counts, and [`Profile::rebuilt`] has its item. While a profile has no vector yet, it
    /// takes the model of the first.
    pub fn apply(&mut self, feedback: &Feedback, settings: &ProfileSettings) {
        let event = &feedback.event;
        let none = ItemCounters::default();
        let item = Item::of_feedback(feedback, &none);
        let addition = Addition::of(event.kind, feedback.expected_ctr);

        let count = self.counts.entry(event.kind).or_default();
        *count = count.saturating_add(1);
        let acted = event.kind != BehaviorKind::Expose;
        self.seen
            .add(&event.item_id, acted, event.event_time_ms, settings.seen);

        let weight = self.advance(event.event_time_ms);
        let session_weight = self.advance_session(event.event_time_ms, addition.interest);
        let addition = addition.scaled(weight);
        self.interest += addition.interest.abs();
        self.trials.add(addition);
        self.affinities
            .retain(|field, _| settings.fields.contains(field));
        for field in &settings.fields {
            let mut values = Vec::new();
            field.values(&item, |value| values.push(value));
            if !values.is_empty() {
                let affinities = self.affinities.entry(field.clone()).or_default();
                affinities.add(&values, addition, settings.values);
            }
        }
        self.items.add(&event.item_id, addition, settings.items);

        let unit = if item.vector.is_empty() {
            None
        } else {
            unit(item.vector)
        };
        let unit = unit.filter(|unit| self.takes(item.model_version, unit.len()));
        if let Some(unit) = &unit {
            self.long_term.add(addition.interest, unit);
            self.residual.add(addition.residual, unit);
            self.session
                .add(session_weight * interest(event.kind), unit);
        }
        if interest(event.kind) > 0.0 {
            self.recent.add(event, unit.as_deref());
        }
    }

    /// Lets everything decay up to the time; returns what an event of that time weighs.
    fn advance(&mut self, time_ms: i64) -> f64 {
        let Some(at_ms) = self.updated_at_ms else {
            self.updated_at_ms = Some(time_ms);
            return 1.0;
        };
        if time_ms > at_ms {
            let factor = decay(at_ms, time_ms, LONG_TERM_HALF_LIFE_MS);
            self.interest *= factor;
            self.trials.scale(factor);
            self.long_term.scale(factor);
            self.residual.scale(factor);
            self.items.scale(factor);
            for affinities in self.affinities.values_mut() {
                affinities.scale(factor);
            }
            self.updated_at_ms = Some(time_ms);
        }
        decay(time_ms, at_ms, LONG_TERM_HALF_LIFE_MS)
    }

    fn advance_session(&mut self, time_ms: i64, interest: f64) -> f64 {
        if interest == 0.0 {
            return 0.0;
        }
        let Some(at_ms) = self.interested_at_ms else {
            self.interested_at_ms = Some(time_ms);
            return 1.0;
        };
        if time_ms > at_ms {
            self.session
                .scale(decay(at_ms, time_ms, SESSION_HALF_LIFE_MS));
            self.interested_at_ms = Some(time_ms);
        }
        decay(time_ms, at_ms, SESSION_HALF_LIFE_MS)
    }

    /// Whether a vector is of this profile's space.
    fn takes(&mut self, model_version: &str, dimension: usize) -> bool {
        match self.dimension() {
            Some(known) => known == dimension && self.model_version == model_version,
            None => {
                model_version.clone_into(&mut self.model_version);
                true
            }
        }
    }

    fn dimension(&self) -> Option<usize> {
        let sums = [&self.long_term, &self.residual, &self.session];
        let dimension = sums.into_iter().find_map(VectorSum::dimension);
        dimension.or_else(|| self.recent.dimension())
    }

    /// The same user in the space of another model: vectors are summed anew from the items that are
    /// kept with weights, as the new model sees them; all else stays. Items that `vectors` does not
    /// know add nothing.
    #[must_use]
    pub fn rebuilt(&self, model_version: &str, vectors: impl Fn(&str) -> Option<Vec<f32>>) -> Self {
        let vectors = |item_id: &str| vectors(item_id).and_then(|vector| unit(&vector));
        let mut rebuilt = Self {
            model_version: model_version.to_owned(),
            long_term: VectorSum::default(),
            session: VectorSum::default(),
            residual: VectorSum::default(),
            rebuilt: true,
            ..self.clone()
        };
        for item in self.items.iter() {
            if let Some(unit) = vectors(&item.item_id) {
                rebuilt.long_term.add(f64::from(item.weight), &unit);
                rebuilt.residual.add(f64::from(item.residual), &unit);
            }
        }
        let dimension = rebuilt.long_term.dimension();
        rebuilt.recent.replace_vectors(|item_id| {
            vectors(item_id).filter(|unit| dimension.is_none_or(|known| known == unit.len()))
        });
        if let Some(at_ms) = self.interested_at_ms {
            for item in rebuilt.recent.iter() {
                if let Some(vector) = item.vector().and_then(|vector| unit(&vector)) {
                    let weight = decay(item.time_ms, at_ms, SESSION_HALF_LIFE_MS);
                    rebuilt.session.add(weight * interest(item.kind), &vector);
                }
            }
        }
        rebuilt
    }

    /// Who.
    #[must_use]
    pub fn user_id(&self) -> &str {
        &self.user_id
    }

    /// The encoder of the vectors.
    #[must_use]
    pub fn model_version(&self) -> &str {
        &self.model_version
    }

    /// The latest event, ms since 1970.
    #[must_use]
    pub fn updated_at_ms(&self) -> Option<i64> {
        self.updated_at_ms
    }

    /// Where in `feedback` the profile stands, as whoever applied it has said.
    #[must_use]
    pub fn position(&self) -> Option<FeedbackPosition> {
        self.position
    }

    /// Says where the record stands that was applied last. Kept with the profile, so that whoever
    /// reads it knows exactly which records it is made of; nothing is computed from it.
    pub fn stand_at(&mut self, position: FeedbackPosition) {
        self.position = Some(position);
    }

    /// Whether vectors were made anew for another encoder, by [`Profile::rebuilt`]: then they are not
    /// those of the feedback alone.
    #[must_use]
    pub fn is_rebuilt(&self) -> bool {
        self.rebuilt
    }

    /// Events that were applied.
    #[must_use]
    pub fn events(&self) -> u64 {
        let counts = self.counts.values();
        counts.fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The vector of what the user is interested in, `[dimension]`, length 1.
    #[must_use]
    pub fn long_term(&self) -> Option<&[f32]> {
        self.long_term.direction()
    }

    /// The same of their session; `None` once it is over at `now_ms`.
    #[must_use]
    pub fn session(&self, now_ms: i64) -> Option<&[f32]> {
        let at_ms = self.interested_at_ms?;
        let over = now_ms.saturating_sub(at_ms) > SESSION_GAP_MS;
        if over { None } else { self.session.direction() }
    }

    /// The vector of what the user clicked more often than expected, `[dimension]`, length 1.
    #[must_use]
    pub fn residual(&self) -> Option<&[f32]> {
        self.residual.direction()
    }

    /// Items of interest, the latest first.
    pub fn recent(&self) -> impl DoubleEndedIterator<Item = &RecentItem> + ExactSizeIterator {
        self.recent.iter().rev()
    }

    /// Items with their weights of interest, the heaviest first.
    #[must_use]
    pub fn heaviest(&self) -> Vec<(&str, f64)> {
        self.items.heaviest()
    }

    /// What is known of a value at a time; `None` where the user met it never, or long ago.
    #[must_use]
    pub fn affinity(&self, field: &Field, value: &str, now_ms: i64) -> Option<Affinity> {
        let affinity = self.affinities.get(field)?.get(value)?;
        Some(affinity.scaled(self.decay_at(now_ms)))
    }

    /// Values of categories, tags and key phrases by the interest shown in them, the greatest first.
    #[must_use]
    pub fn interest_terms(&self, count: usize) -> Vec<&str> {
        let words = [Field::Categories, Field::Tags, Field::KeyPhrases];
        let tables = words.iter().filter_map(|field| self.affinities.get(field));
        let mut terms: Vec<(&str, f32)> = tables.flat_map(Affinities::interests).collect();
        terms.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        let mut found: Vec<&str> = Vec::new();
        for (term, _) in terms {
            if found.len() == count {
                break;
            }
            if !found.contains(&term) {
                found.push(term);
            }
        }
        found
    }

    /// Whether the item was shown to the user or acted on, as far as that is kept.
    #[must_use]
    pub fn has_seen(&self, item_id: &str) -> bool {
        self.seen.get(item_id).is_some()
    }

    /// How often it was; `None` where it never was, as far as that is kept.
    #[must_use]
    pub fn seen(&self, item_id: &str) -> Option<SeenItem> {
        self.seen.get(item_id)
    }

    /// How often the user did this, ever.
    #[must_use]
    pub fn count(&self, kind: BehaviorKind) -> u64 {
        self.counts.get(&kind).copied().unwrap_or_default()
    }

    /// What all long-term sums have lost until a time.
    pub(crate) fn decay_at(&self, now_ms: i64) -> f64 {
        self.updated_at_ms
            .map_or(1.0, |at_ms| decay(at_ms, now_ms, LONG_TERM_HALF_LIFE_MS))
    }

    pub(crate) fn affinities(&self, field: &Field) -> Option<&Affinities> {
        self.affinities.get(field)
    }

    /// Size of all interest, as of the latest event.
    pub(crate) fn interest(&self) -> f64 {
        self.interest
    }

    /// Exposures and clicks, as of the latest event.
    pub(crate) fn trials(&self) -> (f64, f64) {
        (self.trials.shown, self.trials.clicked)
    }

    /// Trials that residuals are over, as of the latest event.
    pub(crate) fn expected_trials(&self) -> f64 {
        self.trials.expected_shown.max(self.trials.expected_clicked)
    }

    /// The residual vector's length, as of the latest event.
    pub(crate) fn residual_length(&self) -> f64 {
        self.residual.length()
    }
}
