//! Where in a segment an offset or a time is, to within a few kilobytes.
//!
//! Kept in memory and rebuilt when a segment is opened, since opening reads every batch anyway to
//! check its checksum.

/// One entry is made for so many bytes of log.
const INTERVAL_BYTES: u64 = 4096;

#[derive(Clone, Copy, Debug)]
struct Entry {
    base_offset: i64,
    position: u64,
    /// The latest time of all batches before this one.
    max_timestamp_before_ms: i64,
}

/// Entries in the order of the file.
#[derive(Clone, Debug, Default)]
pub struct SparseIndex {
    entries: Vec<Entry>,
}

impl SparseIndex {
    /// Notes a batch; most are skipped.
    pub fn note(&mut self, base_offset: i64, position: u64, max_timestamp_before_ms: i64) {
        let due = self
            .entries
            .last()
            .is_none_or(|last| position - last.position >= INTERVAL_BYTES);
        if due {
            self.entries.push(Entry {
                base_offset,
                position,
                max_timestamp_before_ms,
            });
        }
    }

    /// A position at or before the first batch that ends at or after `offset`.
    pub fn before_offset(&self, offset: i64) -> u64 {
        let after = self
            .entries
            .partition_point(|entry| entry.base_offset <= offset);
        self.entries[..after]
            .last()
            .map_or(0, |entry| entry.position)
    }

    /// A position at or before the first batch that has a time of `timestamp_ms` or later.
    pub fn before_time(&self, timestamp_ms: i64) -> u64 {
        let after = self
            .entries
            .partition_point(|entry| entry.max_timestamp_before_ms < timestamp_ms);
        self.entries[..after]
            .last()
            .map_or(0, |entry| entry.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_position_not_after_the_batch() {
        let mut index = SparseIndex::default();
        for batch in 0..100i64 {
            let position = u64::try_from(batch).expect("positive") * 1000;
            index.note(
                batch * 10,
                position,
                if batch == 0 { i64::MIN } else { batch - 1 },
            );
        }
        for offset in 0..990 {
            let at = i64::try_from(index.before_offset(offset)).expect("small");
            assert!(at <= offset / 10 * 1000 && at + 5000 > offset / 10 * 1000);
        }
        for time in 0..99 {
            assert!(index.before_time(time) <= u64::try_from(time).expect("positive") * 1000);
        }
        assert_eq!(index.before_time(-5), 0);
    }
}
