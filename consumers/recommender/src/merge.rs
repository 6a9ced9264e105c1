//! Lists of several sources as one: each item once, and of texts that are nearly the same one.

use std::collections::{BTreeMap, HashMap};

use crate::answer::{Source, SourceRank};
use crate::catalog::KnownItem;

/// Rank constant of reciprocal rank fusion, as searches have it.
const RANK_CONSTANT: f64 = 60.0;
/// Simhashes that differ in no more bits are of nearly the same text (Manku, Jain, Das Sarma,
/// "Detecting near-duplicates for web crawling", 2007).
const NEAR_DUPLICATE_BITS: u32 = 3;

/// An item that some sources found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Merged {
    pub item_id: String,
    /// Who found it, at which rank.
    pub sources: Vec<SourceRank>,
    /// Σ 1 / (60 + rank) over the sources: what it is merged by.
    pub score: f64,
}

/// An item that may be shown.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub item: KnownItem,
    pub sources: Vec<SourceRank>,
    pub merge_score: f64,
}

/// Each item once, those first that many sources rank high; ties by id. Scores of different sources
/// have nothing in common, so that ranks are what is left to merge by (Cormack, Clarke, Büttcher,
/// "Reciprocal Rank Fusion", SIGIR 2009).
pub(crate) fn merge(lists: &BTreeMap<Source, Vec<(String, f64)>>) -> Vec<Merged> {
    let mut items: HashMap<&str, Merged> = HashMap::new();
    for (source, list) in lists {
        for (rank, (item_id, score)) in (1_u32..).zip(list) {
            let merged = items.entry(item_id).or_insert_with(|| Merged {
                item_id: item_id.clone(),
                sources: Vec::new(),
                score: 0.0,
            });
            // A source that names an item twice found it once.
            if merged
                .sources
                .last()
                .is_some_and(|last| last.source == *source)
            {
                continue;
            }
            merged.score += reciprocal_rank(rank);
            merged.sources.push(SourceRank {
                source: *source,
                rank,
                score: *score,
            });
        }
    }
    let mut merged: Vec<Merged> = items.into_values().collect();
    let by_score = |a: &Merged, b: &Merged| {
        b.score
            .total_cmp(&a.score)
            .then_with(|| a.item_id.cmp(&b.item_id))
    };
    merged.sort_unstable_by(by_score);
    merged
}

/// What a place in one list is worth in the merged one.
pub(crate) fn reciprocal_rank(rank: u32) -> f64 {
    1.0 / (RANK_CONSTANT + f64::from(rank))
}

/// Leaves out items whose text nearly is that of an earlier one, and what is beyond `limit`. A text
/// without words (hash 0) resembles nobody.
pub(crate) fn distinct(
    candidates: impl IntoIterator<Item = Candidate>,
    limit: usize,
) -> Vec<Candidate> {
    let mut hashes: Vec<i64> = Vec::new();
    let mut kept = Vec::new();
    for candidate in candidates {
        if kept.len() == limit {
            break;
        }
        let hash = candidate.item.signal.near_duplicate_hash;
        let near = |other: &i64| (hash ^ other).count_ones() <= NEAR_DUPLICATE_BITS;
        if hash != 0 {
            if hashes.iter().any(near) {
                continue;
            }
            hashes.push(hash);
        }
        kept.push(candidate);
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::samples::signal;

    fn lists() -> impl Strategy<Value = BTreeMap<Source, Vec<(String, f64)>>> {
        let item = (0..30_u32).prop_map(|n| (format!("i{n}"), f64::from(n)));
        let list = prop::collection::vec(item, 0..20);
        let source = prop::sample::select(Source::RECALL.to_vec());
        prop::collection::btree_map(source, list, 0..6)
    }

    proptest! {
        #[test]
        fn each_item_is_merged_once_with_all_that_found_it(lists in lists()) {
            let merged = merge(&lists);
            let ids: BTreeSet<&str> = merged.iter().map(|m| m.item_id.as_str()).collect();
            prop_assert_eq!(ids.len(), merged.len());
            let all: BTreeSet<&str> = lists.values().flatten().map(|(id, _)| id.as_str()).collect();
            prop_assert_eq!(ids, all);
            for item in &merged {
                let sum: f64 = item.sources.iter().map(|found| reciprocal_rank(found.rank)).sum();
                prop_assert!((sum - item.score).abs() < 1e-12);
                for found in &item.sources {
                    let place = lists[&found.source].iter().position(|(id, _)| *id == item.item_id);
                    prop_assert_eq!(place, Some(found.rank as usize - 1));
                }
                let finders = lists.values().filter(|list| list.iter().any(|(id, _)| *id == item.item_id));
                prop_assert_eq!(finders.count(), item.sources.len());
            }
            prop_assert!(merged.is_sorted_by(|a, b| a.score > b.score
                || (a.score.to_bits() == b.score.to_bits() && a.item_id < b.item_id)));
        }

        #[test]
        fn no_two_that_are_kept_are_nearly_the_same(
            hashes in prop::collection::vec((0..4_i64, 0..64_u32, 0..64_u32), 0..40), limit in 0..50_usize
        ) {
            // A few texts, each with up to two bits turned.
            let hash = |(text, a, b): (i64, u32, u32)| {
                (text * 0x1234_5678_9abc_def1) ^ (1_i64 << a) ^ (1_i64 << b)
            };
            let hashes: Vec<i64> = hashes.into_iter().map(hash).collect();
            let kept = distinct(hashes.iter().map(|hash| candidate(*hash)), limit);
            prop_assert!(kept.len() <= limit);
            let kept: Vec<i64> = kept.iter().map(|c| c.item.signal.near_duplicate_hash).collect();
            for (n, one) in kept.iter().enumerate().filter(|(_, hash)| **hash != 0) {
                for other in kept[n + 1..].iter().filter(|hash| **hash != 0) {
                    prop_assert!((one ^ other).count_ones() > NEAR_DUPLICATE_BITS);
                }
            }
            if limit >= hashes.len() {
                // Whatever was left out resembles something that was kept.
                for hash in hashes {
                    prop_assert!(kept.iter().any(|k| (k ^ hash).count_ones() <= NEAR_DUPLICATE_BITS));
                }
            }
        }
    }

    fn candidate(hash: i64) -> Candidate {
        let mut signal = signal("i", 1);
        signal.near_duplicate_hash = hash;
        Candidate {
            item: KnownItem {
                signal: Arc::new(signal),
                traceparent: None,
                counters: Arc::default(),
                shown: 0,
                clicked: 0,
            },
            sources: Vec::new(),
            merge_score: 0.0,
        }
    }

    #[test]
    fn texts_without_words_are_all_kept() {
        assert_eq!(distinct([0, 0, 1, 3, 0].map(candidate), 9).len(), 4);
    }
}
