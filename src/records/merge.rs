//! Records of several partitions by time, while each is read window by window.
//!
//! The next record of all is known only while every partition that has more shows its own next one: one that
//! ran dry is read on before anything else is taken.

use std::collections::BTreeMap;

use millrace_kafka::Record;

/// What was read of each partition and not yet taken.
pub struct Merge {
    is_older: bool,
    partitions: BTreeMap<i32, Stretch>,
}

struct Stretch {
    /// The next one last.
    waiting: Vec<Record>,
    /// How far it was read.
    read_to: i64,
    /// Its first and its next offset.
    ends: (i64, i64),
}

impl Merge {
    /// Begins at `first`, towards older or towards newer records, between the `ends`.
    pub fn new(
        ends: &BTreeMap<i32, (i64, i64)>,
        first: &BTreeMap<i32, i64>,
        is_older: bool,
    ) -> Self {
        let stretch = |(partition, ends): (&i32, &(i64, i64))| {
            let stretch = Stretch {
                waiting: Vec::new(),
                read_to: *first.get(partition)?,
                ends: *ends,
            };
            Some((*partition, stretch))
        };
        Self {
            is_older,
            partitions: ends.iter().filter_map(stretch).collect(),
        }
    }

    /// The next offsets to read, `window` of them at most, of each partition that ran dry.
    pub fn wanted(&self, window: i64) -> BTreeMap<i32, (i64, i64)> {
        let of = |(partition, stretch): (&i32, &Stretch)| {
            let (at, (start, end)) = (stretch.read_to, stretch.ends);
            let range = if self.is_older {
                ((at - window).max(start), at)
            } else {
                (at, (at + window).min(end))
            };
            (stretch.waiting.is_empty() && range.0 < range.1).then_some((*partition, range))
        };
        self.partitions.iter().filter_map(of).collect()
    }

    /// Takes in what was found of the ranges that were wanted.
    pub fn put(
        &mut self,
        ranges: &BTreeMap<i32, (i64, i64)>,
        mut found: BTreeMap<i32, Vec<Record>>,
    ) {
        for (partition, range) in ranges {
            let Some(stretch) = self.partitions.get_mut(partition) else {
                continue;
            };
            stretch.read_to = if self.is_older { range.0 } else { range.1 };
            stretch.waiting = found.remove(partition).unwrap_or_default();
            stretch.waiting.sort_by_key(|record| record.offset);
            if !self.is_older {
                stretch.waiting.reverse();
            }
        }
    }

    /// Moves records to `page` until it has `most`, as far as their order is known.
    pub fn take(&mut self, most: usize, page: &mut Vec<Record>) {
        while self.wanted(1).is_empty() && page.len() < most {
            let Some(record) = self.next() else { return };
            page.push(record);
        }
    }

    /// The same, though partitions that ran dry may have records between.
    pub fn take_unordered(&mut self, most: usize, page: &mut Vec<Record>) {
        while page.len() < most {
            let Some(record) = self.next() else { return };
            page.push(record);
        }
    }

    fn next(&mut self) -> Option<Record> {
        let time =
            |records: &Vec<Record>| records.last().and_then(|it| it.timestamp_ms).unwrap_or(0);
        let stretches = self.partitions.values_mut().map(|it| &mut it.waiting);
        let waiting = stretches.filter(|waiting| !waiting.is_empty());
        let next = if self.is_older {
            waiting.max_by_key(|waiting| time(waiting))
        } else {
            waiting.min_by_key(|waiting| time(waiting))
        };
        next.and_then(Vec::pop)
    }

    /// Where each partition is gone on with.
    pub fn reached(&self) -> BTreeMap<i32, i64> {
        let of = |(partition, stretch): (&i32, &Stretch)| {
            let at = match (stretch.waiting.last(), self.is_older) {
                (None, _) => stretch.read_to,
                (Some(next), true) => next.offset + 1,
                (Some(next), false) => next.offset,
            };
            (*partition, at)
        };
        self.partitions.iter().map(of).collect()
    }

    /// Bytes of the records that wait.
    pub fn bytes(&self) -> usize {
        let waiting = self.partitions.values().flat_map(|it| &it.waiting);
        waiting.map(Record::size_bytes).sum()
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

    /// Two partitions, records at the times `t`, read two offsets at a time until `most` are taken.
    fn paged(times: [&[i64]; 2], is_older: bool, most: usize) -> (Vec<i64>, BTreeMap<i32, i64>) {
        let ends: BTreeMap<i32, (i64, i64)> =
            (0..).zip(times.map(|it| (0, it.len() as i64))).collect();
        let end = |ends: &(i64, i64)| if is_older { ends.1 } else { ends.0 };
        let first = ends.iter().map(|(number, it)| (*number, end(it)));
        let mut merge = Merge::new(&ends, &first.collect(), is_older);
        let mut page = Vec::new();
        loop {
            merge.take(most, &mut page);
            let ranges = merge.wanted(2);
            if page.len() >= most || ranges.is_empty() {
                break;
            }
            let read = |(partition, (from, to)): (&i32, &(i64, i64))| {
                let of = |at: i64| record(*partition, at, times[*partition as usize][at as usize]);
                (*partition, (*from..*to).map(of).collect())
            };
            merge.put(&ranges, ranges.iter().map(read).collect());
        }
        let times = page.iter().filter_map(|it| it.timestamp_ms).collect();
        (times, merge.reached())
    }

    #[test]
    fn a_partition_with_more_in_a_window_than_another_is_read_on_first() {
        let times: [&[i64]; 2] = [&[1, 2, 3, 4, 5, 6, 7], &[0, 8]];
        let (page, reached) = paged(times, true, 99);
        assert_eq!(page, [8, 7, 6, 5, 4, 3, 2, 1, 0]);
        assert_eq!(reached, BTreeMap::from([(0, 0), (1, 0)]));
        let (page, reached) = paged(times, true, 4);
        assert_eq!(page, [8, 7, 6, 5]);
        assert_eq!(reached, BTreeMap::from([(0, 4), (1, 1)]));
        let (page, reached) = paged(times, false, 3);
        assert_eq!(page, [0, 1, 2]);
        assert_eq!(reached, BTreeMap::from([(0, 2), (1, 1)]));
    }

    #[test]
    fn what_waits_can_be_taken_before_the_rest_is_known() {
        let ends = BTreeMap::from([(0, (0, 9)), (1, (0, 9))]);
        let mut merge = Merge::new(&ends, &BTreeMap::from([(0, 9), (1, 9)]), true);
        let ranges = merge.wanted(4);
        assert_eq!(ranges, BTreeMap::from([(0, (5, 9)), (1, (5, 9))]));
        merge.put(&ranges, BTreeMap::from([(0, vec![record(0, 6, 1)])]));
        let mut page = Vec::new();
        merge.take(9, &mut page);
        assert!(page.is_empty(), "of the other one nothing is known");
        merge.take_unordered(9, &mut page);
        assert_eq!(page.len(), 1);
        assert_eq!(merge.reached(), BTreeMap::from([(0, 5), (1, 5)]));
    }

    #[test]
    fn windows_stay_between_the_ends() {
        let ends = BTreeMap::from([(0, (10, 30)), (1, (0, 5))]);
        let reached = BTreeMap::from([(0, 12), (1, 0)]);
        let older = Merge::new(&ends, &reached, true);
        assert_eq!(older.wanted(9), BTreeMap::from([(0, (10, 12))]));
        let newer = Merge::new(&ends, &reached, false);
        assert_eq!(
            newer.wanted(9),
            BTreeMap::from([(0, (12, 21)), (1, (0, 5))])
        );
    }
}
