//! Text to chunks: whole sentences packed to a target number of the model's own tokens.
//!
//! - A chunk fits the model: its tokens, those of the title that goes before it, and the special
//!   tokens are at most what the model reads, so nothing is cut off.
//! - Neighbours share up to `overlap_tokens` of whole sentences, so that a passage that straddles
//!   a boundary is found from one side.
//! - Work and memory are linear in the text, whatever the text: a run of punctuation can't make
//!   sentence segmentation quadratic, and a word of 10 MB is cut like a sentence.
//! - A chunk is a slice of the text; nothing is rewritten.

#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod packing;
mod sentences;

use std::ops::Range;

use millrace_models::Tokenizer;

use self::packing::Packing;
use self::sentences::{sentences, windows};

/// Longest piece given to the tokenizer at once, bytes. Also what bounds a chunk's text where
/// tokens don't: WordPiece makes one `[UNK]` of a word of any length.
const MAX_PIECE_BYTES: usize = 2048;

/// No ordinary text has tokens of this many bytes on average, but `[UNK]`s and runs of white space do.
const MAX_BYTES_PER_TOKEN: usize = 64;

/// Lengths of chunks, in tokens of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkLimits {
    /// Where a chunk is full.
    pub target_tokens: usize,
    /// Tokens of whole sentences that a chunk repeats of the one before.
    pub overlap_tokens: usize,
    /// Most chunks of one document.
    pub max_chunks: usize,
}

/// Why a text was not cut.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    /// More chunks than one document may have.
    #[error(
        "the text makes more than {limit} chunks of {target_tokens} tokens (limit vectorizer.chunk.max_chunks); split the document or raise the limit"
    )]
    TooManyChunks {
        /// The limit that was passed.
        limit: usize,
        /// Size of a chunk.
        target_tokens: usize,
    },
    /// The model's tokenizer refused the text.
    #[error("the model's tokenizer refused the text")]
    Tokenizer(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl ChunkError {
    /// Stable name for dead letters, metrics and queries.
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::TooManyChunks { .. } => "too_many_chunks",
            Self::Tokenizer(_) => "tokenizer_failed",
        }
    }
}

/// One passage of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The passage as the document has it.
    pub text: String,
    /// What the encoder reads: the document's title and the passage, special tokens included, at
    /// most the model's maximum.
    pub token_ids: Vec<u32>,
}

/// Cuts texts for one model: borrows its tokenizer, costs nothing to make.
#[derive(Clone, Copy)]
pub struct Chunker<'a> {
    tokenizer: &'a Tokenizer,
    limits: ChunkLimits,
}

/// A sentence or a part of one: where it is and how long.
#[derive(Clone, Debug)]
struct Piece {
    range: Range<usize>,
    tokens: usize,
}

impl<'a> Chunker<'a> {
    /// A chunker that counts with `tokenizer`.
    pub fn new(tokenizer: &'a Tokenizer, limits: ChunkLimits) -> Self {
        Self { tokenizer, limits }
    }

    /// The whole text as one chunk. What is longer than the model reads is cut off: this is for
    /// texts that are passages already, whose first tokens stand for them.
    pub fn passage(&self, title: Option<&str>, text: &str) -> Result<Chunk, ChunkError> {
        self.chunk(title, text)
    }

    /// Cuts `text`; `title` goes before each chunk for embedding. A document without text but
    /// with a title is one chunk of the title.
    pub fn document(&self, title: Option<&str>, text: &str) -> Result<Vec<Chunk>, ChunkError> {
        let (title, passages) = self.passages(title, text)?;
        if passages.is_empty() {
            return title
                .map(|title| self.chunk(None, &title))
                .into_iter()
                .collect();
        }
        passages
            .into_iter()
            .map(|passage| self.chunk(title.as_deref(), text[passage].trim()))
            .collect()
    }

    /// The part of the title that goes before each chunk, and where the chunks are.
    fn passages(
        &self,
        title: Option<&str>,
        text: &str,
    ) -> Result<(Option<String>, Vec<Range<usize>>), ChunkError> {
        let title = title
            .map(|title| self.shortened(title))
            .transpose()?
            .filter(|title| !title.is_empty());
        let title_tokens = title
            .as_deref()
            .map(|title| self.count(title))
            .transpose()?
            .unwrap_or(0);
        let max_tokens = self.tokenizer.max_tokens();
        let budget = max_tokens
            .saturating_sub(self.tokenizer.special_tokens() + title_tokens)
            .max(1);
        let target = self.limits.target_tokens.min(budget);
        let mut packing = Packing::new(target, budget, self.limits.overlap_tokens.min(target / 2));
        for sentence in sentences(text) {
            self.pieces(text, sentence, budget, |piece| packing.push(piece))?;
            if packing.chunks.len() > self.limits.max_chunks {
                return Err(ChunkError::TooManyChunks {
                    limit: self.limits.max_chunks,
                    target_tokens: self.limits.target_tokens,
                });
            }
        }
        let passages = packing.finish().into_iter().map(|piece| piece.range);
        Ok((title, passages.collect()))
    }

    fn chunk(&self, title: Option<&str>, text: &str) -> Result<Chunk, ChunkError> {
        let embedded = with_title(title, text);
        let token_ids = self
            .tokenizer
            .encode(readable(&embedded, self.tokenizer.max_tokens()))
            .map_err(failed)?;
        Ok(Chunk {
            text: text.to_owned(),
            token_ids,
        })
    }

    fn count(&self, text: &str) -> Result<usize, ChunkError> {
        self.tokenizer.count_tokens(text).map_err(failed)
    }

    /// A title may take a quarter of the model's tokens; the rest of it is dropped for embedding.
    fn shortened(&self, title: &str) -> Result<String, ChunkError> {
        let mut kept = String::new();
        self.pieces(
            title,
            0..title.len(),
            (self.tokenizer.max_tokens() / 4).max(1),
            |piece| {
                if kept.is_empty() {
                    title[piece.range].trim().clone_into(&mut kept);
                }
            },
        )?;
        Ok(kept)
    }

    /// Hands on `range` of `text` in pieces of at most `budget` tokens.
    fn pieces(
        &self,
        text: &str,
        range: Range<usize>,
        budget: usize,
        mut emit: impl FnMut(Piece),
    ) -> Result<(), ChunkError> {
        for window in windows(text, range, MAX_PIECE_BYTES) {
            let slice = &text[window.clone()];
            let tokens = self.count(slice)?;
            if tokens <= budget {
                emit(Piece {
                    range: window,
                    tokens,
                });
                continue;
            }
            let tokens = self
                .tokenizer
                .tokenize_with_offsets(slice)
                .map_err(failed)?;
            let mut rest = tokens.as_slice();
            let mut start = window.start;
            while let Some(last) = rest[..rest.len().min(budget)].last() {
                let mut taken = rest.len().min(budget);
                let mut end = window.start + last.range.end;
                if taken < rest.len() {
                    // Between words where there is such a place: a gap between two tokens.
                    let gap = (1..=taken)
                        .rev()
                        .find(|&at| rest[at].range.start > rest[at - 1].range.end);
                    taken = gap.unwrap_or(taken);
                    end = window.start + rest[taken - 1].range.end;
                }
                if end > start {
                    emit(Piece {
                        range: start..end,
                        tokens: taken,
                    });
                    start = end;
                }
                rest = &rest[taken..];
            }
        }
        Ok(())
    }
}

fn failed(error: Box<dyn std::error::Error + Send + Sync>) -> ChunkError {
    ChunkError::Tokenizer(error)
}

/// Title and text as one passage, joined by a space as the BEIR benchmark joins them. Not said
/// twice: a document that opens with its title keeps it once.
fn with_title(title: Option<&str>, text: &str) -> String {
    match title {
        Some(title) if text.is_empty() => title.to_owned(),
        Some(title) if !text.starts_with(title) => format!("{title} {text}"),
        _ => text.to_owned(),
    }
}

/// The part of a text that a model of `max_tokens` can see, for counting: no token is longer than
/// some dozens of bytes, unless it is one word without end.
fn readable(text: &str, max_tokens: usize) -> &str {
    &text[..text.floor_char_boundary(max_tokens.saturating_mul(MAX_BYTES_PER_TOKEN))]
}

#[cfg(test)]
mod tests;
