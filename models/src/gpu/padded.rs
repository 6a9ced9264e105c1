//! Attention by stock operators: sequences of about equal length are padded to one batch.
//!
//! Padding stays inside attention: all else is computed on packed tokens. A masked score is lowered by a
//! number that f16 can hold, since −∞ would make NaN where a whole row is masked.

use candle_core::{DType, Device, Error, IndexOp, Tensor};
use candle_nn::ops::softmax_last_dim;

/// What the score of a padding token is lowered by: its exponential is 0 in f16 as in f32.
const MASKED: f32 = -30_000.0;
/// A group's shortest sequence has at least this share of the longest one's tokens.
const SHORTEST_SHARE: f64 = 0.8;

/// Which sequences are computed together: the same for all layers of a forward.
pub(super) struct Attention {
    groups: Vec<Group>,
    /// Row of each packed token among the groups' rows, one group after the other.
    back: Tensor,
}

/// Sequences of about equal length.
struct Group {
    count: usize,
    longest: usize,
    /// `[count · longest]`: the packed row of each token; padding repeats the sequence's first.
    rows: Tensor,
    /// `[count, 1, 1, longest]`, added to scores; none where nothing is padded.
    mask: Option<Tensor>,
}

impl Attention {
    /// For packed sequences of these lengths, none of them 0.
    pub fn new(lengths: &[usize], device: &Device, dtype: DType) -> Result<Self, Error> {
        let starts: Vec<usize> = lengths
            .iter()
            .scan(0, |next, length| {
                *next += length;
                Some(*next - length)
            })
            .collect();
        let mut by_length: Vec<usize> = (0..lengths.len()).collect();
        by_length.sort_by_key(|sequence| std::cmp::Reverse(lengths[*sequence]));
        let mut back = vec![0_u32; lengths.iter().sum()];
        let mut groups = Vec::new();
        let mut first_row = 0;
        let mut rest = by_length.as_slice();
        while let Some(first) = rest.first() {
            let longest = lengths[*first];
            let shortest = SHORTEST_SHARE * longest as f64;
            let count = rest.partition_point(|sequence| lengths[*sequence] as f64 >= shortest);
            let (members, others) = rest.split_at(count);
            rest = others;
            let mut rows = Vec::with_capacity(count * longest);
            let mut mask = Vec::with_capacity(count * longest);
            for sequence in members {
                let (start, length) = (starts[*sequence], lengths[*sequence]);
                for place in 0..longest {
                    let is_padding = place >= length;
                    let row = if is_padding { start } else { start + place };
                    if !is_padding {
                        back[row] = (first_row + rows.len()) as u32;
                    }
                    rows.push(row as u32);
                    mask.push(if is_padding { MASKED } else { 0.0 });
                }
            }
            first_row += rows.len();
            let is_padded = mask.contains(&MASKED);
            let mask = Tensor::from_vec(mask, (count, 1, 1, longest), device)?.to_dtype(dtype)?;
            groups.push(Group {
                count,
                longest,
                rows: Tensor::new(rows, device)?,
                mask: is_padded.then_some(mask),
            });
        }
        Ok(Self {
            groups,
            back: Tensor::new(back, device)?,
        })
    }

    /// `[tokens, 3 · heads · head_size]`, queries scaled, to `[tokens, heads · head_size]`.
    pub fn attend(&self, qkv: &Tensor, heads: usize, head_size: usize) -> Result<Tensor, Error> {
        let contexts = self
            .groups
            .iter()
            .map(|group| group.attend(qkv, heads, head_size))
            .collect::<Result<Vec<_>, _>>()?;
        Tensor::cat(&contexts, 0)?.index_select(&self.back, 0)
    }
}

impl Group {
    fn attend(&self, qkv: &Tensor, heads: usize, head_size: usize) -> Result<Tensor, Error> {
        let (count, longest) = (self.count, self.longest);
        // [3, count, heads, longest, head_size]
        let parts = qkv
            .index_select(&self.rows, 0)?
            .reshape((count, longest, 3, heads, head_size))?
            .permute((2, 0, 3, 1, 4))?
            .contiguous()?;
        let scores = parts.i(0)?.matmul(&parts.i(1)?.t()?)?;
        let scores = match &self.mask {
            Some(mask) => scores.broadcast_add(mask)?,
            None => scores,
        };
        softmax_last_dim(&scores)?
            .matmul(&parts.i(2)?)?
            .transpose(1, 2)?
            .reshape((count * longest, heads * head_size))
    }
}
