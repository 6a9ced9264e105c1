//! Pieces to chunks.

use super::{MAX_BYTES_PER_TOKEN, Piece};

/// Packs pieces greedily. Holds ranges only, so its memory is a few bytes a sentence.
pub(super) struct Packing {
    target: usize,
    budget: usize,
    overlap: usize,
    open: Vec<Piece>,
    open_tokens: usize,
    /// Leading pieces of `open` that the chunk before holds too.
    repeated: usize,
    pub(super) chunks: Vec<Piece>,
}

impl Packing {
    pub(super) fn new(target: usize, budget: usize, overlap: usize) -> Self {
        Self {
            target,
            budget,
            overlap,
            open: Vec::new(),
            open_tokens: 0,
            repeated: 0,
            chunks: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, piece: Piece) {
        let full_bytes = self.open.first().is_some_and(|first| {
            piece.range.end - first.range.start > self.budget.saturating_mul(MAX_BYTES_PER_TOKEN)
        });
        if self.open.len() > self.repeated
            && (full_bytes || self.open_tokens + piece.tokens > self.target)
        {
            self.close();
        }
        // Repeated sentences give way where they and the new one don't fit together.
        while self.repeated > 0 && self.open_tokens + piece.tokens > self.target {
            let dropped = self.open.remove(0);
            self.open_tokens -= dropped.tokens;
            self.repeated -= 1;
        }
        self.open_tokens += piece.tokens;
        self.open.push(piece);
    }

    fn close(&mut self) {
        let (Some(first), Some(last)) = (self.open.first(), self.open.last()) else {
            return;
        };
        self.chunks.push(Piece {
            range: first.range.start..last.range.end,
            tokens: self.open_tokens,
        });
        let mut kept_tokens = 0;
        let mut keep_from = self.open.len();
        // From 1: a chunk that repeated the whole of the one before would never end.
        while keep_from > 1 && kept_tokens + self.open[keep_from - 1].tokens <= self.overlap {
            keep_from -= 1;
            kept_tokens += self.open[keep_from].tokens;
        }
        self.open.drain(..keep_from);
        self.open_tokens = kept_tokens;
        self.repeated = self.open.len();
    }

    pub(super) fn finish(mut self) -> Vec<Piece> {
        if self.open.len() > self.repeated {
            let fresh_tokens: usize = self.open[self.repeated..]
                .iter()
                .map(|piece| piece.tokens)
                .sum();
            match (self.chunks.last_mut(), self.open.last()) {
                // A short rest reads better at the end of the chunk before than alone.
                (Some(before), Some(last)) if before.tokens + fresh_tokens <= self.budget => {
                    before.range.end = last.range.end;
                    before.tokens += fresh_tokens;
                }
                _ => self.close(),
            }
        }
        self.chunks
    }
}
