//! Triples as token sequences, and in which order and company they are learnt from.

use std::collections::{HashMap, HashSet};

use millrace_models::{ModelError, Tokenizer};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use rayon::prelude::*;

use crate::dataset::Triple;
use crate::error::TrainingError;

/// A dataset's texts as token sequences, each text once.
pub struct Examples {
    sequences: Vec<Vec<u32>>,
    rows: Vec<Row>,
    /// Which passages are known to answer which query: they are no negatives of it.
    relevant: HashSet<(usize, usize)>,
}

/// A triple; numbers are those of sequences.
struct Row {
    query: usize,
    positive: usize,
    negatives: Vec<usize>,
}

/// A row of a batch: which triple, with which of its negatives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pick {
    row: usize,
    negatives: Vec<usize>,
}

/// What one step learns from: `queries` queries, as many passages that answer them, then the others.
pub struct Batch<'a> {
    /// Queries, their positives in the same order, hard negatives.
    pub sequences: Vec<&'a [u32]>,
    /// How many queries there are.
    pub queries: usize,
    /// `(query, passage)` by their positions among queries and passages: the passage answers the
    /// query and is not its positive here, so it is none of its negatives.
    pub masked: Vec<(usize, usize)>,
}

impl Examples {
    /// Tokenizes each text of the triples once, cut at what `tokenizer` cuts at.
    ///
    /// # Errors
    /// [`TrainingError::Model`] for a text that can't be tokenized.
    pub fn tokenize(triples: &[Triple], tokenizer: &Tokenizer) -> Result<Self, TrainingError> {
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        let mut texts: Vec<&str> = Vec::new();
        let mut number = |text| {
            *numbers.entry(text).or_insert_with(|| {
                texts.push(text);
                texts.len() - 1
            })
        };
        let rows: Vec<Row> = triples
            .iter()
            .map(|triple| Row {
                query: number(triple.query.as_str()),
                positive: number(triple.positive.as_str()),
                negatives: triple.negatives.iter().map(|text| number(text)).collect(),
            })
            .collect();
        let sequences = texts
            .par_iter()
            .enumerate()
            .map(|(index, text)| {
                tokenizer
                    .encode(text)
                    .map_err(|source| ModelError::Tokenize { index, source })
            })
            .collect::<Result<_, _>>()?;
        let relevant = rows.iter().map(|row| (row.query, row.positive)).collect();
        Ok(Self {
            sequences,
            rows,
            relevant,
        })
    }

    /// How many triples there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The batches of one epoch: all triples once, in an order drawn by seed and epoch alone, each
    /// with `negatives` of its hard negatives, drawn as well. The last batch may be smaller.
    #[must_use]
    pub fn epoch(&self, seed: u64, epoch: usize, batch: usize, negatives: usize) -> Vec<Vec<Pick>> {
        let mut chance = ChaCha8Rng::seed_from_u64(seed);
        chance.set_stream(epoch as u64);
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        shuffle(&mut order, &mut chance);
        let picks: Vec<Pick> = order
            .into_iter()
            .map(|row| {
                let mut drawn = self.rows[row].negatives.clone();
                shuffle(&mut drawn, &mut chance);
                drawn.truncate(negatives);
                Pick {
                    row,
                    negatives: drawn,
                }
            })
            .collect();
        picks.chunks(batch).map(<[Pick]>::to_vec).collect()
    }

    /// The triples in their own order, each with its first negatives: what a dev split is judged by.
    #[must_use]
    pub fn in_order(&self, batch: usize, negatives: usize) -> Vec<Vec<Pick>> {
        let picks: Vec<Pick> = (self.rows.iter().enumerate())
            .map(|(row, of)| Pick {
                row,
                negatives: of.negatives.iter().take(negatives).copied().collect(),
            })
            .collect();
        picks.chunks(batch).map(<[Pick]>::to_vec).collect()
    }

    /// The sequences of these picks.
    #[must_use]
    pub fn batch(&self, picks: &[Pick]) -> Batch<'_> {
        let rows: Vec<&Row> = picks.iter().map(|pick| &self.rows[pick.row]).collect();
        let queries: Vec<usize> = rows.iter().map(|row| row.query).collect();
        let mut passages: Vec<usize> = rows.iter().map(|row| row.positive).collect();
        passages.extend(picks.iter().flat_map(|pick| &pick.negatives));
        let mut masked = Vec::new();
        for (at, query) in queries.iter().enumerate() {
            for (passage_at, passage) in passages.iter().enumerate() {
                if at != passage_at && self.relevant.contains(&(*query, *passage)) {
                    masked.push((at, passage_at));
                }
            }
        }
        let numbers = queries.iter().chain(&passages);
        Batch {
            sequences: numbers
                .map(|number| self.sequences[*number].as_slice())
                .collect(),
            queries: queries.len(),
            masked,
        }
    }

    /// The most tokens that a batch of so many triples can have.
    #[must_use]
    pub fn largest_batch_tokens(&self, batch: usize, negatives: usize) -> usize {
        let length = |number: &usize| self.sequences[*number].len();
        let mut rows: Vec<usize> = (self.rows.iter())
            .map(|row| {
                let mut others: Vec<usize> = row.negatives.iter().map(length).collect();
                others.sort_unstable_by(|a, b| b.cmp(a));
                let others: usize = others.iter().take(negatives).sum();
                length(&row.query) + length(&row.positive) + others
            })
            .collect();
        rows.sort_unstable_by(|a, b| b.cmp(a));
        rows.iter().take(batch).sum()
    }
}

impl Batch<'_> {
    /// Tokens in all.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.sequences.iter().map(|sequence| sequence.len()).sum()
    }
}

/// Fisher and Yates, written out so that a seed means the same order in every release.
pub(crate) fn shuffle<T>(values: &mut [T], chance: &mut ChaCha8Rng) {
    for last in (1..values.len()).rev() {
        // Multiply and shift: a bias below 2⁻⁵⁰ for any dataset that fits into memory.
        let drawn = (u128::from(chance.next_u64()) * (last as u128 + 1)) >> 64;
        values.swap(last, drawn as usize);
    }
}
