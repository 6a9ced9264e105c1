//! Which offsets a replay means, before anything is read.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::clock::now_ms;
use crate::{Admin, AdminError};

/// Where a replay begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplayStart {
    /// With what the topic still has.
    #[default]
    Oldest,
    /// At this offset of each partition.
    Offset(i64),
    /// With the first record of this time or later, ms since 1970.
    Time(i64),
}

/// Which records are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Only these partitions; all where there are none.
    pub partitions: BTreeSet<i32>,
    /// Where to begin.
    pub from: ReplayStart,
    /// The offset before which each partition ends; else its present end.
    pub to_offset: Option<i64>,
}

/// Offsets of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The first.
    pub start: i64,
    /// The one to go on from.
    pub next: i64,
    /// The one behind the last.
    pub end: i64,
}

impl Span {
    /// Offsets between begin and end.
    #[must_use]
    pub fn total(&self) -> u64 {
        u64::try_from(self.end - self.start).unwrap_or(0)
    }

    /// Offsets that were not come to yet.
    #[must_use]
    pub fn left(&self) -> u64 {
        u64::try_from(self.end - self.next).unwrap_or(0)
    }
}

/// The offsets that are meant, as the topic was when it was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// By partition.
    pub spans: BTreeMap<i32, Span>,
    /// Wanted offsets that the topic no longer has, by partition; none where there are none.
    pub gone: BTreeMap<i32, u64>,
}

/// Why nothing is meant.
#[derive(Debug, thiserror::Error)]
pub enum RangeError {
    /// The topic lacks a partition that was named.
    #[error("{topic} has no partition {partition}; it has {there}")]
    UnknownPartition {
        /// The topic's full name.
        topic: String,
        /// The partition.
        partition: i32,
        /// Those that it has.
        there: String,
    },
    /// No partition has the offset.
    #[error("{topic} ends at offset {end}: {flag} {offset} is beyond it")]
    BeyondEnd {
        /// The topic's full name.
        topic: String,
        /// The greatest end of the partitions that are meant.
        end: i64,
        /// What named it.
        flag: &'static str,
        /// The offset.
        offset: i64,
    },
    /// The brokers cannot be asked.
    #[error(transparent)]
    Admin(#[from] AdminError),
}

/// The offsets of `topic` (full name) that are wanted and there.
///
/// # Errors
/// [`RangeError`].
pub async fn capture(admin: &Admin, topic: &str, wanted: &Wanted) -> Result<Captured, RangeError> {
    let described = admin.describe(topic).await?;
    let there: Vec<i32> = described.partitions.iter().map(|it| it.partition).collect();
    if let Some(&partition) = wanted.partitions.iter().find(|it| !there.contains(it)) {
        let there: Vec<String> = there.iter().map(ToString::to_string).collect();
        return Err(RangeError::UnknownPartition {
            topic: topic.to_owned(),
            partition,
            there: there.join(", "),
        });
    }
    let is_meant =
        |number: &i32| wanted.partitions.is_empty() || wanted.partitions.contains(number);
    let mut bounds: BTreeMap<i32, (i64, i64)> = BTreeMap::new();
    let meant = described.partitions.iter();
    for it in meant.filter(|it| is_meant(&it.partition)) {
        let ends = match it.ends {
            Some(ends) => (ends.oldest, ends.next),
            // Waits for a leader: without its offsets a partition would be left out in silence.
            None => admin.watermarks(topic, it.partition).await?,
        };
        bounds.insert(it.partition, ends);
    }
    let by_time = match wanted.from {
        ReplayStart::Time(time_ms) => {
            let ends = bounds.iter().map(|(&number, &(_, end))| (number, end));
            admin.offsets_at(topic, time_ms, &ends.collect()).await?
        }
        ReplayStart::Oldest | ReplayStart::Offset(_) => BTreeMap::new(),
    };
    let retention = described.settings.get("retention.ms");
    let kept_since_ms = retention
        .and_then(|ms| ms.parse::<i64>().ok())
        .filter(|ms| *ms >= 0)
        .map(|ms| now_ms().saturating_sub(ms));
    within(topic, wanted, &bounds, &by_time, kept_since_ms)
}

/// `bounds`: oldest and next offset of each partition; `kept_since_ms`: from then on nothing goes by
/// retention.
fn within(
    topic: &str,
    wanted: &Wanted,
    bounds: &BTreeMap<i32, (i64, i64)>,
    by_time: &BTreeMap<i32, i64>,
    kept_since_ms: Option<i64>,
) -> Result<Captured, RangeError> {
    let last_end = bounds.values().map(|(_, end)| *end).max().unwrap_or(0);
    let from_offset = match wanted.from {
        ReplayStart::Offset(offset) => Some(offset),
        ReplayStart::Oldest | ReplayStart::Time(_) => None,
    };
    for (flag, offset) in [
        ("--from-offset", from_offset),
        ("--to-offset", wanted.to_offset),
    ] {
        if let Some(offset) = offset.filter(|offset| *offset > last_end) {
            return Err(RangeError::BeyondEnd {
                topic: topic.to_owned(),
                end: last_end,
                flag,
                offset,
            });
        }
    }
    let mut captured = Captured::default();
    for (&partition, &(oldest, present_end)) in bounds {
        let wanted_end = wanted.to_offset.unwrap_or(present_end);
        let (begin, gone) = match wanted.from {
            ReplayStart::Oldest => (oldest, 0),
            ReplayStart::Offset(offset) => (offset, oldest.min(wanted_end) - offset),
            ReplayStart::Time(time_ms) => {
                let begin = by_time.get(&partition).copied().unwrap_or(present_end);
                // Retention takes only what is older than it. Where the time is younger, nothing of it
                // can be gone, however little the partition has left.
                let may_lack = begin <= oldest && kept_since_ms.is_none_or(|since| time_ms < since);
                (begin, if may_lack { oldest } else { 0 })
            }
        };
        if let Some(gone) = u64::try_from(gone).ok().filter(|gone| *gone > 0) {
            captured.gone.insert(partition, gone);
        }
        let start = begin.clamp(oldest, present_end);
        let end = wanted_end.clamp(start, present_end);
        let next = start;
        captured.spans.insert(partition, Span { start, next, end });
    }
    Ok(captured)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds() -> BTreeMap<i32, (i64, i64)> {
        BTreeMap::from([(0, (10, 100)), (1, (0, 50))])
    }

    fn taken(from: ReplayStart, to_offset: Option<i64>) -> Result<Captured, RangeError> {
        let wanted = Wanted {
            from,
            to_offset,
            ..Wanted::default()
        };
        within("t", &wanted, &bounds(), &BTreeMap::new(), None)
    }

    fn spans(captured: &Captured) -> Vec<(i64, i64)> {
        let spans = captured.spans.values();
        spans.map(|span| (span.start, span.end)).collect()
    }

    #[test]
    fn all_that_is_there_is_meant_without_flags() {
        let all = taken(ReplayStart::Oldest, None).unwrap();
        assert_eq!(spans(&all), [(10, 100), (0, 50)]);
        assert!(all.gone.is_empty());
    }

    #[test]
    fn what_is_gone_is_counted() {
        let some = taken(ReplayStart::Offset(4), Some(60)).unwrap();
        assert_eq!(spans(&some), [(10, 60), (4, 50)]);
        assert_eq!(some.gone, BTreeMap::from([(0, 6)]));
        // Nothing that was wanted is left there.
        let none = taken(ReplayStart::Offset(4), Some(8)).unwrap();
        assert_eq!(spans(&none), [(10, 10), (4, 8)]);
        assert_eq!(none.gone, BTreeMap::from([(0, 4)]));
    }

    #[test]
    fn beyond_the_end_is_refused_where_no_partition_has_it() {
        assert_eq!(
            spans(&taken(ReplayStart::Offset(70), None).unwrap()),
            [(70, 100), (50, 50)]
        );
        assert!(taken(ReplayStart::Offset(100), None).is_ok());
        for refused in [
            taken(ReplayStart::Offset(101), None),
            taken(ReplayStart::Oldest, Some(101)),
            taken(ReplayStart::Oldest, Some(i64::MAX)),
        ] {
            let error = refused.unwrap_err().to_string();
            assert!(error.contains("ends at offset 100"), "{error}");
        }
    }

    #[test]
    fn a_time_is_lacking_only_where_retention_could_have_taken_it() {
        let wanted = Wanted {
            from: ReplayStart::Time(1_000),
            ..Wanted::default()
        };
        let by_time = BTreeMap::from([(0, 10), (1, 7)]);
        let gone = |kept_since_ms| {
            within("t", &wanted, &bounds(), &by_time, kept_since_ms)
                .unwrap()
                .gone
        };
        assert_eq!(gone(Some(2_000)), BTreeMap::from([(0, 10)]));
        assert_eq!(gone(None), BTreeMap::from([(0, 10)]));
        assert!(gone(Some(500)).is_empty());
    }
}
