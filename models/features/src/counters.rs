//! Counting behavior in buckets of event time.
//!
//! Counts are integers and land in the bucket of their event's time, however late they come. What a
//! counter holds is therefore a function of the *set* of events counted: no order of arrival, no
//! batch boundary, no replay changes a bit of it (property tests below). Rates and decay are
//! computed on reading, in [`crate::rates`].
//!
//! | buckets | kept | for |
//! |---|---|---|
//! | minute | 6 hours | half-life of 1 hour: 1.6 % of its weight is cut off |
//! | hour | 7 days | half-life of 24 hours: 0.8 % |
//! | day | 56 days | half-life of 7 days: 0.4 %; counts by position |
//!
//! Kept means: not older than this, seen from the newest bucket of the same item. A bucket's age is
//! so taken from the events themselves, and the same events leave the same buckets.

use millrace_schemas::{BehaviorEvent, BehaviorKind, Bucket, ItemCounters, PositionCounts};

/// Positions beyond are counted with this one.
pub const MAX_POSITION: i32 = 100;

/// How long a bucket is, and how many are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// Length of a bucket.
    pub bucket_ms: i64,
    /// Buckets kept, the newest included.
    pub kept: i64,
}

/// One bucket a minute, for 6 hours.
pub const MINUTES: Resolution = Resolution {
    bucket_ms: 60_000,
    kept: 6 * 60,
};
/// One bucket an hour, for 7 days.
pub const HOURS: Resolution = Resolution {
    bucket_ms: 60 * 60_000,
    kept: 7 * 24,
};
/// One bucket a day (UTC), for 56 days.
pub const DAYS: Resolution = Resolution {
    bucket_ms: 24 * 60 * 60_000,
    kept: 56,
};

impl Resolution {
    /// The bucket of a time in ms since 1970.
    #[must_use]
    pub fn bucket(self, time_ms: i64) -> i64 {
        time_ms.div_euclid(self.bucket_ms)
    }
}

/// Counts an event.
pub fn count(counters: &mut ItemCounters, event: &BehaviorEvent) {
    for (buckets, resolution) in [
        (&mut counters.minutes, MINUTES),
        (&mut counters.hours, HOURS),
        (&mut counters.days, DAYS),
    ] {
        let number = resolution.bucket(event.event_time_ms);
        if let Some(bucket) = bucket(buckets, resolution, number) {
            add(bucket, event);
            if resolution == DAYS {
                add_position(bucket, event);
            }
        }
    }
}

/// The bucket with this number, made where it is missing; `None` where it is too old to be kept.
fn bucket(buckets: &mut Vec<Bucket>, resolution: Resolution, number: i64) -> Option<&mut Bucket> {
    let newest = buckets
        .last()
        .map_or(number, |last| last.number.max(number));
    let oldest_kept = newest - resolution.kept + 1;
    let expired = buckets.partition_point(|bucket| bucket.number < oldest_kept);
    buckets.drain(..expired);
    if number < oldest_kept {
        return None;
    }
    let at = match buckets.binary_search_by_key(&number, |bucket| bucket.number) {
        Ok(at) => at,
        Err(at) => {
            let empty = Bucket {
                number,
                ..Bucket::default()
            };
            buckets.insert(at, empty);
            at
        }
    };
    buckets.get_mut(at)
}

fn add(bucket: &mut Bucket, event: &BehaviorEvent) {
    match event.kind {
        BehaviorKind::Expose => bucket.impressions += 1,
        BehaviorKind::Click => bucket.clicks += 1,
        other => match bucket.others.get_mut(other.as_str()) {
            Some(count) => *count += 1,
            None => {
                bucket.others.insert(other.as_str().to_owned(), 1);
            }
        },
    }
}

fn add_position(bucket: &mut Bucket, event: &BehaviorEvent) {
    let Some(position) = event.position.filter(|&position| position >= 1) else {
        return;
    };
    let (impressions, clicks) = match event.kind {
        BehaviorKind::Expose => (1, 0),
        BehaviorKind::Click => (0, 1),
        _ => return,
    };
    let position = position.min(MAX_POSITION);
    let counts = &mut bucket.positions;
    let at = match counts.binary_search_by_key(&position, |counts| counts.position) {
        Ok(at) => at,
        Err(at) => {
            let none = PositionCounts {
                position,
                ..PositionCounts::default()
            };
            counts.insert(at, none);
            at
        }
    };
    counts[at].impressions += impressions;
    counts[at].clicks += clicks;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn event(kind: BehaviorKind, event_time_ms: i64, position: Option<i32>) -> BehaviorEvent {
        BehaviorEvent {
            event_id: String::new(),
            user_id: "u".to_owned(),
            item_id: "i".to_owned(),
            item: "i".to_owned(),
            kind,
            value: None,
            event_time_ms,
            request_id: None,
            trace_info: None,
            scene_id: None,
            position,
            attributes: BTreeMap::new(),
            source: "own".to_owned(),
        }
    }

    fn counted<'a>(events: impl IntoIterator<Item = &'a BehaviorEvent>) -> ItemCounters {
        let mut counters = ItemCounters::default();
        for event in events {
            count(&mut counters, event);
        }
        counters
    }

    fn events() -> impl Strategy<Value = Vec<BehaviorEvent>> {
        // Dense within hours, and spread over more than any bucket is kept; some before 1970.
        let time = prop_oneof![0..7_200_000_i64, -90 * DAYS.bucket_ms..90 * DAYS.bucket_ms];
        let kind = prop::sample::select(BehaviorKind::ALL.to_vec());
        let position = prop::option::of(-1..150_i32);
        let event = (kind, time, position).prop_map(|(kind, time, at)| event(kind, time, at));
        prop::collection::vec(event, 0..120)
    }

    /// The slow and obvious form: all events at once, from the newest bucket back.
    fn model(events: &[BehaviorEvent], resolution: Resolution) -> BTreeMap<i64, (i64, i64, i64)> {
        let newest = events
            .iter()
            .map(|e| resolution.bucket(e.event_time_ms))
            .max();
        let mut buckets = BTreeMap::<i64, (i64, i64, i64)>::new();
        for event in events {
            let number = resolution.bucket(event.event_time_ms);
            if Some(number) > newest.map(|newest| newest - resolution.kept) {
                let counts = buckets.entry(number).or_default();
                match event.kind {
                    BehaviorKind::Expose => counts.0 += 1,
                    BehaviorKind::Click => counts.1 += 1,
                    _ => counts.2 += 1,
                }
            }
        }
        buckets
    }

    proptest! {
        #[test]
        fn no_order_changes_a_bit(events in events(), seed in any::<prop::sample::Index>(), shuffled in Just(()).prop_perturb(|(), rng| rng)) {
            let mut rng = shuffled;
            let mut other = events.clone();
            for i in (1..other.len()).rev() {
                other.swap(i, rng.random_range(0..=i));
            }
            prop_assert_eq!(counted(&events), counted(&other));
            // Nor where the state was written and read in between.
            let cut = seed.index(events.len() + 1);
            let stored = postcard::to_stdvec(&counted(&events[..cut])).unwrap();
            let mut resumed: ItemCounters = postcard::from_bytes(&stored).unwrap();
            for event in &events[cut..] {
                count(&mut resumed, event);
            }
            prop_assert_eq!(resumed, counted(&events));
        }

        #[test]
        fn buckets_hold_what_was_counted_into_them(events in events()) {
            let counters = counted(&events);
            for (buckets, resolution) in [(&counters.minutes, MINUTES), (&counters.hours, HOURS), (&counters.days, DAYS)] {
                let found: BTreeMap<i64, (i64, i64, i64)> = buckets
                    .iter()
                    .map(|b| (b.number, (b.impressions, b.clicks, b.others.values().sum())))
                    .collect();
                prop_assert_eq!(found, model(&events, resolution));
                prop_assert!(buckets.is_sorted_by(|a, b| a.number < b.number));
            }
            for day in &counters.days {
                prop_assert!(day.positions.is_sorted_by(|a, b| a.position < b.position));
                let positioned = events.iter().filter(|e| {
                    DAYS.bucket(e.event_time_ms) == day.number
                        && e.position.is_some_and(|p| p >= 1)
                        && matches!(e.kind, BehaviorKind::Expose | BehaviorKind::Click)
                });
                let sum: i64 = day.positions.iter().map(|p| p.impressions + p.clicks).sum();
                prop_assert_eq!(sum, i64::try_from(positioned.count()).unwrap());
            }
        }
    }

    #[test]
    fn a_late_event_lands_in_its_own_bucket() {
        let counters = counted(&[
            event(BehaviorKind::Click, 3 * HOURS.bucket_ms, None),
            event(BehaviorKind::Expose, 1, Some(500)),
        ]);
        let numbers: Vec<i64> = counters.minutes.iter().map(|b| b.number).collect();
        assert_eq!(numbers, [0, 180]);
        assert_eq!(counters.days.len(), 1);
        assert_eq!(counters.days[0].positions[0].position, MAX_POSITION);
    }
}
