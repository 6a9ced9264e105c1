//! Attention by FlashAttention over packed sequences of varying length: nothing is padded.

use candle_core::{DType, Device, Error, IndexOp, Tensor};
use candle_flash_attn::flash_attn_varlen;

/// Where the packed sequences begin: the same for all layers of a forward.
pub(super) struct Attention {
    /// `[sequences + 1]`
    starts: Tensor,
    longest: usize,
}

impl Attention {
    /// For packed sequences of these lengths. The kernels compute in f16.
    pub fn new(lengths: &[usize], device: &Device, _: DType) -> Result<Self, Error> {
        let mut starts = vec![0_u32];
        let mut next = 0;
        for length in lengths {
            next += *length as u32;
            starts.push(next);
        }
        Ok(Self {
            starts: Tensor::new(starts, device)?,
            longest: lengths.iter().copied().max().unwrap_or(0),
        })
    }

    /// `[tokens, 3 · heads · head_size]`, queries scaled, to `[tokens, heads · head_size]`.
    pub fn attend(&self, qkv: &Tensor, heads: usize, head_size: usize) -> Result<Tensor, Error> {
        let tokens = qkv.dim(0)?;
        let qkv = qkv.reshape((tokens, 3, heads, head_size))?;
        let part = |third: usize| qkv.i((.., third))?.contiguous();
        flash_attn_varlen(
            &part(0)?,
            &part(1)?,
            &part(2)?,
            &self.starts,
            &self.starts,
            self.longest,
            self.longest,
            1.0,
            false,
        )?
        .reshape((tokens, heads * head_size))
    }
}
