//! Records of a topic page by page, newest first: each page says where the one before and the one after it
//! begin, by the offset of every partition.
//!
//! A page is read in windows of offsets and merged by time (`merge`). What a filter leaves out is read all
//! the same, so a page also ends when it has read enough; the next one goes on there.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use millrace_kafka::{KafkaConfig, ReaderError, Record, TopicReader};

use super::merge::Merge;

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
    let first: BTreeMap<i32, i64> = ends
        .iter()
        .map(|(partition, (start, end))| {
            let given = cursor.0.get(partition).copied();
            let given = given.unwrap_or(if is_older { *end } else { *start });
            (*partition, given.clamp(*start, *end))
        })
        .collect();
    let mut merge = Merge::new(ends, &first, is_older);
    let share = (PAGE / ends.len().max(1) + 1) as i64;
    let mut window = share;
    let mut page = Vec::new();
    let (mut read, mut left_out) = (0, 0);
    let mut cut_short = false;
    loop {
        merge.take(PAGE, &mut page);
        let ranges = merge.wanted(window);
        if page.len() >= PAGE || ranges.is_empty() {
            break;
        }
        let bytes = merge.bytes() + page.iter().map(Record::size_bytes).sum::<usize>();
        if read >= MAX_READ || began.elapsed() >= MAX_TIME || bytes >= MAX_BYTES {
            cut_short = true;
            merge.take_unordered(PAGE, &mut page);
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
        window = match found.is_empty() {
            true => (window * 4).min(MAX_WINDOW),
            false => share,
        };
        merge.put(&ranges, found);
    }
    let reached = merge.reached();
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

#[cfg(test)]
mod tests {
    use super::*;

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
