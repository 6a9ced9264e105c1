//! A 64-bit simhash of a text: near-duplicates differ in few bits.
//!
//! Charikar, "Similarity estimation techniques from rounding algorithms" (2002), over shingles of
//! three words as in Manku, Jain, Das Sarma, "Detecting near-duplicates for web crawling" (2007),
//! who call texts near-duplicates at a Hamming distance of at most 3 of 64.
//!
//! It is a function of the text alone (no corpus statistics), so the order in which documents
//! arrive can't change it, and it is written down: a stored hash must mean the same after an
//! upgrade, so the shingle hash is SHA-256 and no hasher of a library that may change.

use sha2::{Digest, Sha256};
use unicode_segmentation::UnicodeSegmentation;

const SHINGLE_WORDS: usize = 3;

/// Shingles that vote; more of them would not make the vote more certain.
const MAX_SHINGLES: usize = 50_000;

/// The simhash of the words of `text`, case and punctuation ignored; 0 for a text without words.
pub(super) fn near_duplicate_hash(text: &str) -> u64 {
    let mut votes = [0_i32; 64];
    let mut window: Vec<String> = Vec::with_capacity(SHINGLE_WORDS);
    let mut shingles = 0;
    for word in text.unicode_words() {
        if window.len() == SHINGLE_WORDS {
            window.remove(0);
        }
        window.push(word.to_lowercase());
        if window.len() == SHINGLE_WORDS {
            vote(&window, &mut votes);
            shingles += 1;
            if shingles == MAX_SHINGLES {
                break;
            }
        }
    }
    if shingles == 0 && !window.is_empty() {
        vote(&window, &mut votes);
    }
    votes
        .iter()
        .enumerate()
        .filter(|(_, votes)| **votes > 0)
        .fold(0, |hash, (bit, _)| hash | 1 << bit)
}

fn vote(shingle: &[String], votes: &mut [i32; 64]) {
    let mut hasher = Sha256::new();
    for word in shingle {
        hasher.update(word.as_bytes());
        hasher.update([0]);
    }
    let digest = hasher.finalize();
    for (bit, votes) in votes.iter_mut().enumerate() {
        *votes += if digest[bit / 8] >> (bit % 8) & 1 == 1 {
            1
        } else {
            -1
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "The harbour of the old town was built in the eleventh century by merchants who \
        traded salt and herring along the coast, and for three hundred years it was the largest of the \
        region; today the warehouses hold a museum of navigation, a library and the town archive, and in \
        summer small boats carry visitors to the lighthouse on the outer island and back before nightfall.";

    #[test]
    fn the_hash_is_stable_across_builds() {
        let hash = near_duplicate_hash("the quick brown fox jumps over the lazy dog");
        assert_eq!(hash, 14_407_856_217_380_881_177);
    }

    #[test]
    fn near_duplicates_are_near_and_others_are_not() {
        let same = near_duplicate_hash(&TEXT.to_uppercase().replace(',', " -"));
        assert_eq!(near_duplicate_hash(TEXT), same);
        let edited = near_duplicate_hash(&TEXT.replace("nightfall", "dusk"));
        let distance = (near_duplicate_hash(TEXT) ^ edited).count_ones();
        assert!(distance <= 6, "{distance}");
        let other = near_duplicate_hash(
            "Gradient descent converges linearly on strongly convex functions \
            with Lipschitz gradients, and momentum improves the dependence on the condition number.",
        );
        assert!((near_duplicate_hash(TEXT) ^ other).count_ones() > 16);
        assert_eq!(near_duplicate_hash(" . "), 0);
    }
}
