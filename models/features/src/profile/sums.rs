//! What the tables of a profile share: sums that are kept small, and letting go of the least.

use std::cmp::Ordering;

use crate::vector::narrow;

/// Adds to a sum that is kept small.
pub(super) fn add(sum: &mut f32, value: f64) {
    *sum = narrow(f64::from(*sum) + value);
}

/// Lets a sum that is kept small decay.
pub(super) fn scale(sum: &mut f32, factor: f64) {
    *sum = narrow(f64::from(*sum) * factor);
}

/// Which of more than `most` entries are kept: but an eighth, the greatest, so that not every
/// addition to a full table looks at all of it. Of equals the later ones.
pub(super) fn kept<S>(
    sizes: impl Iterator<Item = S>,
    most: usize,
    compare: impl Fn(&S, &S) -> Ordering,
) -> Vec<bool> {
    let mut entries: Vec<(S, usize)> = sizes.zip(0..).collect();
    let mut keep = vec![true; entries.len()];
    let dropped = entries.len().saturating_sub(most - most / 8);
    if dropped > 0 && dropped < entries.len() {
        let by_size = |a: &(S, usize), b: &(S, usize)| compare(&a.0, &b.0).then(a.1.cmp(&b.1));
        entries.select_nth_unstable_by(dropped - 1, by_size);
    }
    for (_, at) in &entries[..dropped] {
        keep[*at] = false;
    }
    keep
}
