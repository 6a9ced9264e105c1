//! Counts over time, and bars for them.

/// Buckets that a person can overlook.
const WANTED_BUCKETS: i64 = 24;
/// Columns of the longest bar.
const BAR_COLUMNS: u64 = 40;
/// Lengths of buckets to choose from, ms.
const STEPS_MS: [i64; 9] = [
    60_000,
    300_000,
    900_000,
    3_600_000,
    10_800_000,
    21_600_000,
    86_400_000,
    604_800_000,
    2_592_000_000,
];

/// How many buckets of this length there are from the first to the last moment, both included.
pub fn buckets_between(first_ms: i64, last_ms: i64, bucket_ms: i64) -> i64 {
    last_ms
        .div_euclid(bucket_ms)
        .saturating_sub(first_ms.div_euclid(bucket_ms))
        .saturating_add(1)
}

/// The length of bucket with which the time between the two makes a readable picture.
pub fn readable_bucket_ms(first_ms: i64, last_ms: i64) -> i64 {
    let readable = STEPS_MS
        .into_iter()
        .find(|ms| buckets_between(first_ms, last_ms, *ms) <= WANTED_BUCKETS);
    // A clock that is wrong by centuries must not make thousands of them.
    readable.unwrap_or_else(|| last_ms.saturating_sub(first_ms) / (WANTED_BUCKETS - 1) + 1)
}

/// What is there has a bar, however little it is beside the most.
pub fn bar(count: u64, most: u64) -> String {
    let columns = match count {
        0 => 0,
        count => (count.saturating_mul(BAR_COLUMNS) / most.max(1)).max(1),
    };
    "█".repeat(usize::try_from(columns).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_in_proportion() {
        assert_eq!(
            (bar(0, 80), bar(80, 80).chars().count()),
            (String::new(), 40)
        );
        assert_eq!(
            (bar(40, 80).chars().count(), bar(1, 80_000).chars().count()),
            (20, 1)
        );
    }

    #[test]
    fn no_time_makes_more_than_a_picture() {
        for (first, last) in [(0, 0), (-1, 1), (0, 90 * 86_400_000), (i64::MIN, i64::MAX)] {
            let ms = readable_bucket_ms(first, last);
            assert!(
                ms > 0 && buckets_between(first, last, ms) < 100,
                "{first} {last}"
            );
        }
    }
}
