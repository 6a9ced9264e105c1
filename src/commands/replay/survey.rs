//! What records there are: how many, how large, of when, under which keys.

use std::collections::{BTreeMap, HashMap};

use millrace_kafka::Record;
use serde::Serialize;

use crate::histogram::readable_bucket_ms;

/// Moments that are told apart at first, ms.
const FINEST_MS: i64 = 60_000;
/// More moments than these are counted in longer ones: clocks may be wrong by centuries.
const MAX_MOMENTS: usize = 50_000;
/// Keys that are told apart; the others are counted together.
const MAX_KEYS: usize = 100_000;
/// Keys that are told.
const TOP_KEYS: usize = 10;

/// Counts records.
#[derive(Debug)]
pub struct Survey {
    /// By partition.
    pub partitions: BTreeMap<i32, Counted>,
    /// Records without a time.
    pub undated: u64,
    moments: BTreeMap<i64, u64>,
    moment_ms: i64,
    keys: Option<Keys>,
}

/// How many, and how large.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// Records.
    pub records: u64,
    /// Bytes of their keys, values and headers.
    pub bytes: u64,
}

/// Records of a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bucket {
    /// Its begin, ms since 1970.
    pub from_ms: i64,
    /// Records.
    pub records: u64,
}

/// Records whose keys begin alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Prefix {
    /// How they begin: of URIs the folder, of others the whole key.
    pub prefix: String,
    /// Records.
    pub records: u64,
}

#[derive(Debug, Default)]
struct Keys {
    counts: HashMap<String, u64>,
    others: u64,
}

impl Survey {
    /// Of nothing yet. Keys cost time and memory, and are counted where they are looked at.
    pub fn new(with_keys: bool) -> Self {
        Self {
            partitions: BTreeMap::new(),
            undated: 0,
            moments: BTreeMap::new(),
            moment_ms: FINEST_MS,
            keys: with_keys.then(Keys::default),
        }
    }

    /// Counts a record.
    pub fn count(&mut self, record: &Record) {
        let counted = self.partitions.entry(record.partition).or_default();
        counted.records += 1;
        counted.bytes += record.size_bytes() as u64;
        match record.timestamp_ms {
            Some(at_ms) => self.count_moment(at_ms),
            None => self.undated += 1,
        }
        if let Some(keys) = &mut self.keys {
            keys.count(record);
        }
    }

    fn count_moment(&mut self, at_ms: i64) {
        let moment = at_ms.div_euclid(self.moment_ms);
        *self.moments.entry(moment).or_default() += 1;
        while self.moments.len() > MAX_MOMENTS {
            self.moment_ms *= 60;
            for (moment, records) in std::mem::take(&mut self.moments) {
                *self.moments.entry(moment.div_euclid(60)).or_default() += records;
            }
        }
    }

    /// All of them.
    pub fn total(&self) -> Counted {
        let add = |sum: Counted, it: &Counted| Counted {
            records: sum.records + it.records,
            bytes: sum.bytes + it.bytes,
        };
        self.partitions.values().fold(Counted::default(), add)
    }

    /// How many records are from before this time, to about a minute.
    pub fn before(&self, time_ms: i64) -> u64 {
        let moments = self.moments.range(..time_ms.div_euclid(self.moment_ms));
        moments.map(|(_, records)| records).sum()
    }

    /// The length of a bucket in ms, and all from the first to the last that has records.
    pub fn times(&self) -> (i64, Vec<Bucket>) {
        let begin = |moment: &i64| moment.saturating_mul(self.moment_ms);
        let (Some(first), Some(last)) = (
            self.moments.keys().next().map(begin),
            self.moments.keys().next_back().map(begin),
        ) else {
            return (FINEST_MS, Vec::new());
        };
        let bucket_ms = readable_bucket_ms(first, last).max(self.moment_ms);
        let mut counts: BTreeMap<i64, u64> = BTreeMap::new();
        for (moment, records) in &self.moments {
            let bucket = begin(moment).div_euclid(bucket_ms);
            *counts.entry(bucket).or_default() += records;
        }
        let bucket = |place: i64| Bucket {
            from_ms: place.saturating_mul(bucket_ms),
            records: counts.get(&place).copied().unwrap_or(0),
        };
        let places = first.div_euclid(bucket_ms)..=last.div_euclid(bucket_ms);
        (bucket_ms, places.map(bucket).collect())
    }

    /// How most keys begin, the most first; then how many records have none of the keys told apart.
    pub fn prefixes(&self) -> (Vec<Prefix>, u64) {
        let Some(keys) = &self.keys else {
            return (Vec::new(), 0);
        };
        let of = |(prefix, &records): (&String, &u64)| Prefix {
            prefix: prefix.clone(),
            records,
        };
        let mut prefixes: Vec<Prefix> = keys.counts.iter().map(of).collect();
        prefixes.sort_by(|a, b| b.records.cmp(&a.records).then(a.prefix.cmp(&b.prefix)));
        prefixes.truncate(TOP_KEYS);
        (prefixes, keys.others)
    }
}

impl Keys {
    fn count(&mut self, record: &Record) {
        let key = record.key_text().unwrap_or_default();
        let prefix = prefix_of(&key);
        if let Some(count) = self.counts.get_mut(prefix) {
            *count += 1;
        } else if self.counts.len() < MAX_KEYS {
            self.counts.insert(prefix.to_owned(), 1);
        } else {
            self.others += 1;
        }
    }
}

/// Of a URI its folder, or the corpus that it is a line of; else the key itself.
fn prefix_of(key: &str) -> &str {
    let Some(scheme) = key.find("://") else {
        return key;
    };
    if let Some(fragment) = key.find('#') {
        return &key[..=fragment];
    }
    match key[scheme + 3..].rfind('/') {
        Some(slash) => &key[..=scheme + 3 + slash],
        None => key,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn record(partition: i32, at_ms: Option<i64>, key: &'static str) -> Record {
        Record {
            topic: "t".to_owned(),
            partition,
            offset: 0,
            timestamp_ms: at_ms,
            key: Some(Bytes::from_static(key.as_bytes())),
            value: None,
            headers: Vec::new(),
        }
    }

    #[test]
    fn all_is_counted_once() {
        const HOUR: i64 = 3_600_000;
        let mut survey = Survey::new(true);
        for (partition, at_ms, key) in [
            (0, Some(0), "file:///a/1.txt"),
            (0, Some(HOUR), "file:///a/2.txt"),
            (1, Some(30 * HOUR), "file:///b#1"),
            (1, None, "user"),
        ] {
            survey.count(&record(partition, at_ms, key));
        }
        let bytes = 15 + 15 + 11 + 4;
        assert_eq!(survey.total(), Counted { records: 4, bytes });
        assert_eq!(survey.partitions[&1].records, 2);
        let (bucket_ms, times) = survey.times();
        assert!(times.len() <= 25, "{bucket_ms}");
        assert_eq!(times.iter().map(|it| it.records).sum::<u64>(), 3);
        assert_eq!(survey.undated, 1);
        assert_eq!((survey.before(0), survey.before(2 * HOUR)), (0, 2));
        let (prefixes, others) = survey.prefixes();
        let first = Prefix {
            prefix: "file:///a/".to_owned(),
            records: 2,
        };
        assert_eq!((&prefixes[0], prefixes.len(), others), (&first, 3, 0));
    }

    #[test]
    fn wrong_clocks_cost_no_memory() {
        let mut survey = Survey::new(false);
        for n in 0..200_000 {
            survey.count(&record(0, Some(n * FINEST_MS), ""));
        }
        survey.count(&record(0, Some(i64::MAX), ""));
        survey.count(&record(0, Some(i64::MIN), ""));
        assert!(survey.moments.len() <= MAX_MOMENTS);
        let (_, times) = survey.times();
        assert!(times.len() < 100, "{}", times.len());
        assert_eq!(times.iter().map(|it| it.records).sum::<u64>(), 200_002);
    }

    #[test]
    fn keys_are_told_by_folder() {
        for (key, prefix) in [
            ("", ""),
            ("user-1", "user-1"),
            ("file:///a/b.txt", "file:///a/"),
            ("oss://bucket/k", "oss://bucket/"),
            ("oss://bucket", "oss://bucket"),
            ("file:///c.jsonl#12/3", "file:///c.jsonl#"),
        ] {
            assert_eq!(prefix_of(key), prefix, "{key}");
        }
    }
}
