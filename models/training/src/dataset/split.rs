//! Which pairs are learnt from and which are kept to judge by.

use std::collections::HashSet;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::{Pair, SplitBy};
use crate::batches::shuffle;

/// Splits off `share` of the queries: the last to be asked where every pair has a time, else drawn by
/// the seed. All pairs of a query are on one side, or the dev split would judge what was learnt.
pub(crate) fn split(
    mut pairs: Vec<Pair>,
    share: f64,
    seed: u64,
) -> (Vec<Pair>, Vec<Pair>, SplitBy) {
    let by_time = pairs.iter().all(|pair| pair.time_ms.is_some());
    if by_time {
        pairs.sort_by_key(|pair| pair.time_ms);
    }
    let mut seen = HashSet::new();
    let mut queries: Vec<String> = (pairs.iter())
        .filter(|pair| seen.insert(pair.query.as_str()))
        .map(|pair| pair.query.clone())
        .collect();
    if !by_time {
        // From one order, whatever the order of the file.
        queries.sort_unstable();
        shuffle(&mut queries, &mut ChaCha8Rng::seed_from_u64(seed));
    }
    let kept = (queries.len() as f64 * share).round() as usize;
    let kept: HashSet<String> = queries
        .split_off(queries.len() - kept)
        .into_iter()
        .collect();
    let (dev, train) = pairs
        .into_iter()
        .partition(|pair| kept.contains(&pair.query));
    let by = if by_time {
        SplitBy::Time
    } else {
        SplitBy::Seed(seed)
    };
    (train, dev, by)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(timed: bool) -> Vec<Pair> {
        (0..20)
            .map(|i| Pair {
                query: format!("query {}", i % 10),
                positive: format!("passage {i}"),
                time_ms: timed.then_some(1_000 - i),
            })
            .collect()
    }

    #[test]
    fn a_query_is_on_one_side() {
        for timed in [false, true] {
            let (train, dev, _) = split(pairs(timed), 0.3, 7);
            assert_eq!((train.len(), dev.len()), (14, 6));
            assert!(
                dev.iter()
                    .all(|kept| train.iter().all(|pair| pair.query != kept.query))
            );
        }
    }

    #[test]
    fn the_latest_queries_judge() {
        let (_, dev, by) = split(pairs(true), 0.2, 7);
        assert_eq!(by, SplitBy::Time);
        let queries: HashSet<&str> = dev.iter().map(|pair| pair.query.as_str()).collect();
        // Seen first at 990 + 0 … 9: queries 1 and 0 are the last to come up.
        assert_eq!(queries, HashSet::from(["query 0", "query 1"]));
    }

    #[test]
    fn a_seed_means_one_split() {
        let mut turned = pairs(false);
        turned.reverse();
        let (_, mut one, by) = split(pairs(false), 0.2, 7);
        let (_, mut other, _) = split(turned, 0.2, 7);
        one.sort_by(|a, b| a.positive.cmp(&b.positive));
        other.sort_by(|a, b| a.positive.cmp(&b.positive));
        assert_eq!((one, by), (other, SplitBy::Seed(7)));
        let (_, third, _) = split(pairs(false), 0.2, 8);
        assert!(!third.is_empty());
    }
}
