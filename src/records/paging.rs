//! Records of a topic page by page, newest first: each page says where the one before and the one after it
//! begin, by the offset of every partition.
//!
//! A page is read in windows of offsets and merged by time. What a filter leaves out is read all the same,
//! so a page also ends when it has read enough; the next one goes on there.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use millrace_kafka::{KafkaConfig, ReaderError, Record, TopicReader};

/// Records of a page at most.
pub const PAGE: usize = 50;
/// Records that are read for a page at most.
const MAX_READ: usize = 20_000;
/// Longest time that is read for a page.
const MAX_TIME: Duration = Duration::from_secs(2);
/// Offsets of a partition in one window at most.
const MAX_WINDOW: i64 = 2_000;
/// Bytes of records that are kept for a page: values of megabytes must not fill the memory.
const MAX_BYTES: usize = 64 << 20;

/// An offset of each partition: what is below it is on one side, the rest on the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor(pub BTreeMap<i32, i64>);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (partition, offset)) in self.0.iter().enumerate() {
            let comma = if place > 0 { "," } else { "" };
            write!(f, "{comma}{partition}:{offset}")?;
        }
        Ok(())
    }
}

impl FromStr for Cursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected offsets by partition, such as 0:17,1:20";
        let pair = |pair: &str| {
            let (partition, offset) = pair.split_once(':')?;
            Some((partition.parse().ok()?, offset.parse().ok()?))
        };
        let pairs = text.split(',').map(|it| pair(it).ok_or(EXPECTED));
        Ok(Self(pairs.collect::<Result<_, _>>()?))
    }
}

/// Which page is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// What is below this, the newest of it.
    Older(Cursor),
    /// What is at this and above, the oldest of it.
    Newer(Cursor),
}

/// A page of records.
#[derive(Debug)]
pub struct RecordPage {
    /// The newest first.
    pub records: Vec<Record>,
    /// Where older ones begin, where there may be any.
    pub older: Option<Cursor>,
    /// Where newer ones begin, where there may be any.
    pub newer: Option<Cursor>,
    /// Records that were read and left out.
    pub left_out: usize,
    /// It ended because enough was read, not because enough was found.
    pub cut_short: bool,
}

/// Reads a page of the partitions that `ends` has, each with its first and its next offset.
///
/// # Errors
/// The brokers refused the read.
pub async fn read(
    kafka: &KafkaConfig,
    topic: &str,
    ends: &BTreeMap<i32, (i64, i64)>,
    turn: &Turn,
    is_meant: impl Fn(&Record) -> bool,
) -> Result<RecordPage, ReaderError> {
    let (is_older, cursor) = match turn {
        Turn::Older(cursor) => (true, cursor),
        Turn::Newer(cursor) => (false, cursor),
    };
    let began = Instant::now();
    // Where the page begins, and how far it has come, which moves away from there.
    let first: BTreeMap<i32, i64> = ends
        .iter()
        .map(|(partition, (start, end))| {
            let given = cursor.0.get(partition).copied();
            let given = given.unwrap_or(if is_older { *end } else { *start });
            (*partition, given.clamp(*start, *end))
        })
        .collect();
    let mut reached = first.clone();
    let share = (PAGE / ends.len().max(1) + 1) as i64;
    let mut window = share;
    let mut page = Vec::new();
    let (mut read, mut left_out) = (0, 0);
    let mut bytes = 0;
    let mut cut_short = false;
    while page.len() < PAGE {
        let ranges = windows(ends, &reached, window, is_older);
        if ranges.is_empty() {
            break;
        }
        if read >= MAX_READ || began.elapsed() >= MAX_TIME || bytes >= MAX_BYTES {
            cut_short = true;
            break;
        }
        let mut found: BTreeMap<i32, Vec<Record>> = BTreeMap::new();
        let mut reader = TopicReader::open_ranges(kafka, topic, &ranges)?;
        let (mut held, mut passed) = (0, 0);
        while held < MAX_BYTES
            && let Some(record) = reader.next().await
        {
            let record = record?;
            read += 1;
            if is_meant(&record) {
                held += record.size_bytes();
                found.entry(record.partition).or_default().push(record);
            } else {
                passed += 1;
            }
        }
        if held >= MAX_BYTES && window > 1 {
            // A stretch that a filter keeps after one that it did not: less of it at a time.
            window = (window / 8).max(1);
            continue;
        }
        left_out += passed;
        let room = PAGE - page.len();
        let taken = merge(found, room, is_older);
        for (partition, range) in ranges {
            let edge = if is_older { range.0 } else { range.1 };
            // Of a partition with more than fits, the page ends at the last record that it has.
            let edge = taken.ends.get(&partition).copied().unwrap_or(edge);
            reached.insert(partition, edge);
        }
        window = match taken.records.is_empty() {
            true => (window * 4).min(MAX_WINDOW),
            false => share,
        };
        bytes += taken.records.iter().map(Record::size_bytes).sum::<usize>();
        page.extend(taken.records);
    }
    if !is_older {
        page.reverse();
    }
    let (low, high) = if is_older {
        (reached, first)
    } else {
        (first, reached)
    };
    let is_any = |it: &BTreeMap<i32, i64>, at: fn(&(i64, i64)) -> i64| {
        it.iter()
            .any(|(partition, offset)| ends.get(partition).is_some_and(|ends| at(ends) != *offset))
    };
    Ok(RecordPage {
        records: page,
        older: is_any(&low, |ends| ends.0).then_some(Cursor(low)),
        newer: is_any(&high, |ends| ends.1).then_some(Cursor(high)),
        left_out,
        cut_short,
    })
}

/// The next offsets to read of each partition that has any left.
fn windows(
    ends: &BTreeMap<i32, (i64, i64)>,
    reached: &BTreeMap<i32, i64>,
    window: i64,
    is_older: bool,
) -> BTreeMap<i32, (i64, i64)> {
    let of = |(partition, (start, end)): (&i32, &(i64, i64))| {
        let at = *reached.get(partition)?;
        let range = if is_older {
            ((at - window).max(*start), at)
        } else {
            (at, (at + window).min(*end))
        };
        (range.0 < range.1).then_some((*partition, range))
    };
    ends.iter().filter_map(of).collect()
}

struct Taken {
    /// In the order of the turn.
    records: Vec<Record>,
    /// Of partitions of which not all were taken: where they are gone on with.
    ends: BTreeMap<i32, i64>,
}

/// At most `room` records by time, each partition's in the order of its offsets.
fn merge(found: BTreeMap<i32, Vec<Record>>, room: usize, is_older: bool) -> Taken {
    // The next one of each partition is its last.
    let mut left: Vec<Vec<Record>> = found.into_values().collect();
    for records in &mut left {
        records.sort_by_key(|record| record.offset);
        if !is_older {
            records.reverse();
        }
    }
    let mut records = Vec::new();
    let mut taken: BTreeMap<i32, i64> = BTreeMap::new();
    while records.len() < room {
        let time =
            |records: &Vec<Record>| records.last().and_then(|it| it.timestamp_ms).unwrap_or(0);
        let waiting = left.iter_mut().filter(|records| !records.is_empty());
        let next = if is_older {
            waiting.max_by_key(|records| time(records))
        } else {
            waiting.min_by_key(|records| time(records))
        };
        let Some(record) = next.and_then(Vec::pop) else {
            break;
        };
        let behind = if is_older {
            record.offset
        } else {
            record.offset + 1
        };
        taken.insert(record.partition, behind);
        records.push(record);
    }
    let ends = left.iter().filter_map(|records| {
        let next = records.last()?;
        let untouched = if is_older {
            next.offset + 1
        } else {
            next.offset
        };
        let end = taken.get(&next.partition).copied().unwrap_or(untouched);
        Some((next.partition, end))
    });
    Taken {
        ends: ends.collect(),
        records,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(partition: i32, offset: i64, time_ms: i64) -> Record {
        Record {
            topic: "t".to_owned(),
            partition,
            offset,
            timestamp_ms: Some(time_ms),
            key: None,
            value: None,
            headers: Vec::new(),
        }
    }

    fn found() -> BTreeMap<i32, Vec<Record>> {
        let mut found = BTreeMap::new();
        found.insert(0, vec![record(0, 5, 10), record(0, 6, 40)]);
        found.insert(1, vec![record(1, 1, 20), record(1, 2, 30)]);
        found
    }

    fn places(taken: &Taken) -> Vec<(i32, i64)> {
        let places = taken.records.iter();
        places
            .map(|record| (record.partition, record.offset))
            .collect()
    }

    #[test]
    fn records_are_merged_by_time_and_what_is_left_comes_next() {
        let all = merge(found(), 9, true);
        assert_eq!(places(&all), [(0, 6), (1, 2), (1, 1), (0, 5)]);
        assert!(all.ends.is_empty());
        let some = merge(found(), 2, true);
        assert_eq!(places(&some), [(0, 6), (1, 2)]);
        assert_eq!(some.ends, BTreeMap::from([(0, 6), (1, 2)]));
        let forward = merge(found(), 1, false);
        assert_eq!(places(&forward), [(0, 5)]);
        assert_eq!(forward.ends, BTreeMap::from([(0, 6), (1, 1)]));
    }

    #[test]
    fn windows_stay_between_the_ends() {
        let ends = BTreeMap::from([(0, (10, 30)), (1, (0, 5))]);
        let reached = BTreeMap::from([(0, 12), (1, 0)]);
        assert_eq!(
            windows(&ends, &reached, 9, true),
            BTreeMap::from([(0, (10, 12))])
        );
        assert_eq!(
            windows(&ends, &reached, 9, false),
            BTreeMap::from([(0, (12, 21)), (1, (0, 5))])
        );
    }

    #[test]
    fn a_cursor_is_read_as_it_is_written() {
        let cursor = Cursor(BTreeMap::from([(0, 17), (12, 3)]));
        assert_eq!(cursor.to_string(), "0:17,12:3");
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for wrong in ["", "0", "0:", "a:1", "0:1,", "0:99999999999999999999"] {
            assert!(wrong.parse::<Cursor>().is_err(), "{wrong:?}");
        }
    }
}
