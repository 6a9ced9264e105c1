//! Cuts a batch of token sequences into micro-batches that are computed as one packed matrix.

use std::ops::Range;

/// At most `count` consecutive runs of sequences with about equally many tokens each.
///
/// Order is kept: packing has no padding, so sorting by length would gain nothing. Runs are equal
/// rather than full, so that workers that take one each finish together.
#[must_use]
pub fn micro_batches(lengths: &[usize], count: usize) -> Vec<Range<usize>> {
    let total: usize = lengths.iter().sum();
    let mut batches: Vec<Range<usize>> = Vec::new();
    let (mut before, mut current) = (0, 0);
    for (index, length) in lengths.iter().enumerate() {
        // A sequence belongs to the run in which its middle token falls.
        let run = (2 * before + length) * count / (2 * total).max(1);
        match batches.last_mut() {
            Some(batch) if run == current => batch.end = index + 1,
            _ => batches.push(index..index + 1),
        }
        current = run;
        before += length;
    }
    batches
}

/// Into how many micro-batches `tokens` are cut for `workers`: a multiple of the workers, each of
/// at most about `largest` tokens, and not below `smallest` unless one holds them all.
#[must_use]
pub(crate) fn micro_batch_count(
    tokens: usize,
    workers: usize,
    smallest: usize,
    largest: usize,
) -> usize {
    let wanted = tokens.div_ceil(largest).next_multiple_of(workers);
    wanted.min(tokens / smallest).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covers_every_sequence_once_in_order() {
        let lengths = [300, 300, 5, 5, 900, 1, 250, 2, 2, 2];
        for count in 1..=lengths.len() {
            let batches = micro_batches(&lengths, count);
            assert!(!batches.is_empty() && batches.len() <= count);
            let covered: Vec<usize> = batches.into_iter().flatten().collect();
            assert_eq!(covered, (0..lengths.len()).collect::<Vec<_>>());
        }
        assert!(micro_batches(&[], 4).is_empty());
        assert_eq!(micro_batches(&[7], 4), vec![0..1]);
    }

    #[test]
    fn runs_are_about_equal() {
        let lengths: Vec<usize> = (0..200).map(|i| 20 + (i * 7919) % 237).collect();
        let share = lengths.iter().sum::<usize>() / 16;
        let batches = micro_batches(&lengths, 16);
        assert_eq!(batches.len(), 16);
        for batch in batches {
            let tokens: usize = lengths[batch].iter().sum();
            assert!(
                tokens.abs_diff(share) <= 256,
                "{tokens} tokens against {share}"
            );
        }
    }

    #[test]
    fn every_worker_gets_as_many() {
        assert_eq!(micro_batch_count(4_672, 2, 64, 512), 10);
        assert_eq!(micro_batch_count(100_000, 2, 64, 512), 196);
        assert_eq!(micro_batch_count(300, 2, 64, 512), 2);
        assert_eq!(micro_batch_count(100, 2, 64, 512), 1);
        assert_eq!(micro_batch_count(2, 16, 64, 512), 1);
        assert_eq!(micro_batch_count(400, 16, 64, 512), 6);
    }
}
