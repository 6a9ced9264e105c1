//! The one function that computes features: served, logged, replayed and trained from are its rows.

use millrace_schemas::{BehaviorKind, Bucket};

use crate::context::{Context, Scores};
use crate::counters::DAYS;
use crate::declaration::{
    Combine, FeatureDeclaration, FeatureKind, ProfileVector, Scope, ScoreOf, SeenOf, Transform,
};
use crate::field::{Field, MAX_VALUES, split};
use crate::item::Item;
use crate::profile::Profile;
use crate::rates::{HalfLife, Shown, coec, decayed, velocity};
use crate::set::FeatureSet;
use crate::vector::dot;

/// Clicks that an affinity's share is shrunk by.
pub const AFFINITY_PRIOR: f64 = 1.0;
/// Trials that a value's residual is shrunk by.
pub const RESIDUAL_PRIOR: f64 = 3.0;
/// Trials that the residual vector is shrunk by.
pub const RESIDUAL_VECTOR_PRIOR: f64 = 10.0;

/// Appends the item's row: a value for each feature of the set, in its order; NaN where there is
/// none, and never an infinity. The same arguments give the same bits; whatever is in them, it ends.
pub fn compute(
    set: &FeatureSet,
    profile: &Profile,
    item: &Item<'_>,
    scores: &Scores,
    context: &Context,
    row: &mut Vec<f32>,
) {
    let mut candidate = Candidate {
        profile,
        item,
        context,
        shown: [None; 3],
        residual: None,
        liking: [None; SHARED_FIELDS],
    };
    row.reserve(set.len());
    for (declared, field_number) in set.columns() {
        let value = match declared.kind {
            // As it came, without a round over wider numbers.
            FeatureKind::Score { of } => score(scores, of).filter(|score| score.is_finite()),
            _ => candidate.value(declared, field_number).and_then(finite),
        };
        row.push(value.unwrap_or(f32::NAN));
    }
}

fn score(scores: &Scores, of: ScoreOf) -> Option<f32> {
    match of {
        ScoreOf::Text => scores.text,
        ScoreOf::Vector => scores.vector,
        ScoreOf::Hybrid => scores.hybrid,
        ScoreOf::Rank => scores.rank,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "clamped to what an f32 can hold"
)]
fn finite(value: f64) -> Option<f32> {
    let most = f64::from(f32::MAX);
    value.is_finite().then(|| value.clamp(-most, most) as f32)
}

/// A candidate, and what several of its features share.
struct Candidate<'a> {
    profile: &'a Profile,
    item: &'a Item<'a>,
    context: &'a Context,
    /// Decayed counts by half-life, with the time that they are for.
    shown: [Option<(i64, Shown)>; 3],
    /// The item's vector times the residual direction; inner `None` where either is missing.
    residual: Option<Option<f64>>,
    /// What the user makes of the item's values, by the field's number, with the time that it is for.
    liking: [Option<(i64, Liking)>; SHARED_FIELDS],
}

/// Longer texts are no numbers that anybody wrote.
const MAX_NUMBER_BYTES: usize = 64;

/// Fields of a set whose values are looked up once a candidate; those of further ones are looked up
/// for every feature.
const SHARED_FIELDS: usize = 16;

/// What a user makes of the values that an item has in one field, summed.
#[derive(Clone, Copy, Debug, Default)]
struct Liking {
    values: f64,
    interest: f64,
    /// Each over its trials.
    residuals: f64,
}

impl Candidate<'_> {
    fn value(&mut self, declared: &FeatureDeclaration, field_number: Option<usize>) -> Option<f64> {
        let now_ms = match declared.refresh_seconds {
            None => self.context.now_ms,
            Some(seconds) => {
                let step_ms = i64::try_from(seconds.saturating_mul(1_000)).unwrap_or(i64::MAX);
                let past_ms = self.context.now_ms.rem_euclid(step_ms.max(1));
                self.context.now_ms.saturating_sub(past_ms)
            }
        };
        if let Some(days) = declared.ttl_days
            && self.expired(declared.scope, now_ms, i64::from(days))
        {
            return None;
        }
        let (profile, item) = (self.profile, self.item);
        match &declared.kind {
            FeatureKind::Score { .. } => None,
            FeatureKind::Cosine { with } => {
                let cosine = match with {
                    ProfileVector::LongTerm => self.dot(profile.long_term()),
                    ProfileVector::Session => self.dot(profile.session(now_ms)),
                    ProfileVector::Residual => self.residual(),
                };
                cosine.map(|cosine| cosine.clamp(-1.0, 1.0))
            }
            FeatureKind::ResidualVector => {
                let decay = profile.decay_at(now_ms);
                let trials = decay * profile.expected_trials();
                let sum = decay * profile.residual_length() * self.residual()?;
                Some(sum / (trials + RESIDUAL_VECTOR_PRIOR))
            }
            FeatureKind::MaxCosine { last } => {
                if !self.same_space() {
                    return None;
                }
                let recent = profile.recent().take(*last);
                let cosines = recent.filter_map(|recent| recent.cosine(item.vector));
                let greatest = cosines.filter(|cosine| cosine.is_finite()).reduce(f64::max);
                greatest.map(|cosine| cosine.clamp(-1.0, 1.0))
            }
            FeatureKind::Count { event, half_life } => Some(match event {
                BehaviorKind::Expose => self.shown(*half_life, now_ms).impressions,
                BehaviorKind::Click => self.shown(*half_life, now_ms).clicks,
                event => decayed(item.counters, *half_life, now_ms, |bucket| {
                    counted(bucket, *event)
                }),
            }),
            FeatureKind::Ctr { half_life } => {
                let prior = self.context.priors.of(*half_life);
                Some(self.shown(*half_life, now_ms).smoothed_ctr(prior))
            }
            FeatureKind::Coec => coec(item.counters, &self.context.position_rates, now_ms),
            FeatureKind::Velocity { event } => {
                velocity(item.counters, now_ms, |bucket| counted(bucket, *event))
            }
            FeatureKind::Affinity { field, combine } => {
                let interest = profile.interest() * profile.decay_at(now_ms);
                let liking = self.liking(field, field_number, now_ms);
                (interest > 0.0 && liking.values > 0.0).then(|| {
                    combined(liking.interest, liking, *combine) / (interest + AFFINITY_PRIOR)
                })
            }
            FeatureKind::ResidualAffinity { field, combine } => {
                let liking = self.liking(field, field_number, now_ms);
                let known = profile.expected_trials() > 0.0 && liking.values > 0.0;
                known.then(|| combined(liking.residuals, liking, *combine))
            }
            FeatureKind::Age => {
                let published_at_ms = item.published_at_ms?;
                // What claims to come from the future is new.
                Some(to_f64(now_ms.saturating_sub(published_at_ms).max(0)) / 3_600_000.0)
            }
            FeatureKind::Number { field, transform } => match field {
                Field::Metadata(key) => number(item.metadata.get(key)?, *transform),
                _ => None,
            },
            FeatureKind::UserNumber {
                user_field,
                transform,
            } => number(self.context.user_fields.get(user_field)?, *transform),
            FeatureKind::UserMatch { user_field, field } => {
                let own = self.context.user_fields.get(user_field)?;
                matching(own, item, field)
            }
            FeatureKind::UserCount { event } => {
                Some(to_f64(profile.count(*event).try_into().unwrap_or(i64::MAX)))
            }
            FeatureKind::UserCtr => {
                let decay = profile.decay_at(now_ms);
                let (shown, clicked) = profile.trials();
                let (shown, clicked) = (decay * shown, decay * clicked);
                let prior = self.context.priors.week;
                Some((clicked + prior.clicks) / (shown.max(clicked) + prior.impressions))
            }
            FeatureKind::Seen { of } => {
                let seen = profile.seen(item.item_id);
                Some(f64::from(seen.map_or(0, |seen| match of {
                    SeenOf::Shown => seen.shown,
                    SeenOf::Acted => seen.acted,
                })))
            }
        }
    }

    /// Whether nothing was seen of what the value is about for so long.
    fn expired(&self, scope: Scope, now_ms: i64, days: i64) -> bool {
        match scope {
            Scope::Item => {
                let newest = self.item.counters.days.last();
                let now = DAYS.bucket(now_ms);
                newest.is_none_or(|newest| now.saturating_sub(newest.number) > days)
            }
            Scope::User | Scope::Pair => {
                let updated_at_ms = self.profile.updated_at_ms();
                updated_at_ms.is_none_or(|at_ms| {
                    now_ms.saturating_sub(at_ms) > days.saturating_mul(DAYS.bucket_ms)
                })
            }
            Scope::Request => false,
        }
    }

    fn shown(&mut self, half_life: HalfLife, now_ms: i64) -> Shown {
        let slot = &mut self.shown[match half_life {
            HalfLife::Hour => 0,
            HalfLife::Day => 1,
            HalfLife::Week => 2,
        }];
        match slot {
            Some((at_ms, shown)) if *at_ms == now_ms => *shown,
            slot => {
                let shown = Shown::of(self.item.counters, half_life, now_ms);
                *slot = Some((now_ms, shown));
                shown
            }
        }
    }

    fn residual(&mut self) -> Option<f64> {
        if let Some(residual) = self.residual {
            return residual;
        }
        let residual = self.dot(self.profile.residual());
        *self.residual.insert(residual)
    }

    /// The item's vector times one of the profile's, where both are of one space.
    fn dot(&self, direction: Option<&[f32]>) -> Option<f64> {
        let direction = direction?;
        let comparable = self.same_space() && direction.len() == self.item.vector.len();
        comparable.then(|| dot(self.item.vector, direction))
    }

    fn same_space(&self) -> bool {
        self.item.model_version == self.profile.model_version()
    }

    fn liking(&mut self, field: &Field, field_number: Option<usize>, now_ms: i64) -> Liking {
        let shared = field_number.filter(|number| *number < SHARED_FIELDS);
        if let Some((at_ms, liking)) = shared.and_then(|number| self.liking[number])
            && at_ms == now_ms
        {
            return liking;
        }
        let affinities = self.profile.affinities(field);
        let decay = self.profile.decay_at(now_ms);
        let mut liking = Liking::default();
        field.values(self.item, |value| {
            liking.values += 1.0;
            // Values that the user never met count 0.
            if let Some(affinity) = affinities.and_then(|affinities| affinities.get(value)) {
                liking.interest += decay * f64::from(affinity.interest);
                let trials = decay * f64::from(affinity.trials());
                let residual = decay * f64::from(affinity.residual);
                liking.residuals += residual / (trials + RESIDUAL_PRIOR);
            }
        });
        if let Some(number) = shared {
            self.liking[number] = Some((now_ms, liking));
        }
        liking
    }
}

fn combined(sum: f64, liking: Liking, combine: Combine) -> f64 {
    match combine {
        Combine::Sum => sum,
        Combine::Mean => sum / liking.values,
    }
}

/// The share of the item's values that are among the user's own; `None` where either has none.
fn matching(own: &str, item: &Item<'_>, field: &Field) -> Option<f64> {
    let own = split(own).map(str::trim).filter(|value| !value.is_empty());
    let own: Vec<&str> = own.take(MAX_VALUES).collect();
    let (mut values, mut found) = (0.0, 0.0);
    field.values(item, |value| {
        values += 1.0;
        if own.contains(&value) {
            found += 1.0;
        }
    });
    (values > 0.0 && !own.is_empty()).then(|| found / values)
}

fn number(text: &str, transform: Transform) -> Option<f64> {
    let text = text.trim();
    if text.len() > MAX_NUMBER_BYTES {
        return None;
    }
    let number: f64 = text.parse().ok()?;
    match transform {
        Transform::Identity => Some(number),
        Transform::Log1p => (number >= 0.0).then(|| number.ln_1p()),
    }
}

fn counted(bucket: &Bucket, event: BehaviorKind) -> i64 {
    match event {
        BehaviorKind::Expose => bucket.impressions,
        BehaviorKind::Click => bucket.clicks,
        other => bucket
            .others
            .get(other.as_str())
            .copied()
            .unwrap_or_default(),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "an age or a count, to 16 digits"
)]
fn to_f64(value: i64) -> f64 {
    value as f64
}
