//! Text to chunks: whole sentences packed to a target number of the model's own tokens.
//!
//! - A chunk fits the model: its tokens, those of the title that goes before it, and the special
//!   tokens are at most what the model reads, so nothing is cut off.
//! - Neighbours share up to `overlap_tokens` of whole sentences, so that a passage that straddles
//!   a boundary is found from one side.
//! - Work and memory are linear in the text, whatever the text: a run of punctuation can't make
//!   sentence segmentation quadratic, and a word of 10 MB is cut like a sentence.
//! - A chunk is a slice of the text; nothing is rewritten.

use std::ops::Range;

use millrace_models::Tokenizer;
use unicode_segmentation::UnicodeSegmentation;

/// Longest piece given to the tokenizer at once, bytes. Also what bounds a chunk's text where
/// tokens don't: WordPiece makes one `[UNK]` of a word of any length.
const MAX_PIECE_BYTES: usize = 2048;

/// No ordinary text has tokens of this many bytes on average, but `[UNK]`s and runs of white space do.
const MAX_BYTES_PER_TOKEN: usize = 64;

/// A run of this many characters without a letter or digit ends a sentence. UAX #29's rule SB8
/// looks ahead across such runs from each of their characters, which is quadratic in the run.
const MAX_SEPARATOR_RUN: usize = 32;

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
        let packed = packing.finish();
        if packed.is_empty() {
            return title
                .map(|title| self.chunk(None, &title))
                .into_iter()
                .collect();
        }
        packed
            .into_iter()
            .map(|piece| self.chunk(title.as_deref(), text[piece.range].trim()))
            .collect()
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

/// Sentences of UAX #29, cut also at line feeds and long runs without letters or digits.
fn sentences(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    blocks(text).flat_map(move |block| {
        let start = block.start;
        text[block]
            .split_sentence_bound_indices()
            .filter_map(move |(at, sentence)| {
                let range = start + at..start + at + sentence.len();
                (!sentence.trim().is_empty()).then_some(range)
            })
    })
}

/// Parts of `text` in which no run of separators is longer than [`MAX_SEPARATOR_RUN`].
fn blocks(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut start = 0;
    let mut run = 0;
    let mut characters = text.char_indices();
    std::iter::from_fn(move || {
        for (at, c) in characters.by_ref() {
            run = if c.is_alphanumeric() { 0 } else { run + 1 };
            if c == '\n' || run == MAX_SEPARATOR_RUN {
                run = 0;
                let end = at + c.len_utf8();
                let block = start..end;
                start = end;
                return Some(block);
            }
        }
        let block = start..text.len();
        start = text.len();
        (!block.is_empty()).then_some(block)
    })
}

/// Parts of `range` of at most `max_bytes`, cut at white space where there is any.
fn windows(
    text: &str,
    range: Range<usize>,
    max_bytes: usize,
) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut start = range.start;
    std::iter::from_fn(move || {
        if start >= range.end {
            return None;
        }
        let mut end = range.end;
        if end - start > max_bytes {
            end = text.floor_char_boundary(start + max_bytes);
            if let Some(space) = text[start..end].rfind(char::is_whitespace) {
                let after = start
                    + space
                    + text[start + space..]
                        .chars()
                        .next()
                        .map_or(1, char::len_utf8);
                if after > start {
                    end = after;
                }
            }
        }
        let window = start..end;
        start = end;
        Some(window)
    })
}

/// Packs pieces greedily. Holds ranges only, so its memory is a few bytes a sentence.
struct Packing {
    target: usize,
    budget: usize,
    overlap: usize,
    open: Vec<Piece>,
    open_tokens: usize,
    /// Leading pieces of `open` that the chunk before holds too.
    repeated: usize,
    chunks: Vec<Piece>,
}

impl Packing {
    fn new(target: usize, budget: usize, overlap: usize) -> Self {
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

    fn push(&mut self, piece: Piece) {
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

    fn finish(mut self) -> Vec<Piece> {
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;
    use tokenizers::models::wordpiece::WordPiece;
    use tokenizers::normalizers::BertNormalizer;
    use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
    use tokenizers::processors::bert::BertProcessing;

    use super::*;

    /// WordPiece over single letters: a word has as many tokens as letters, as hard as it gets.
    fn letters(max_tokens: usize) -> Tokenizer {
        let mut names = vec!["[UNK]".to_owned(), "[CLS]".to_owned(), "[SEP]".to_owned()];
        for letter in ('a'..='z').chain('0'..='9').chain(".,!?()".chars()) {
            names.extend([letter.to_string(), format!("##{letter}")]);
        }
        // The builder takes a map of a crate that is not ours, or an array.
        let vocabulary: Vec<(String, u32)> = names.into_iter().zip(0..).collect();
        let vocabulary: [(String, u32); 87] = vocabulary.try_into().unwrap();
        let model = WordPiece::builder()
            .vocab(vocabulary)
            .unk_token("[UNK]".to_owned())
            .build()
            .unwrap();
        let mut tokenizer = tokenizers::Tokenizer::new(model);
        tokenizer
            .with_normalizer(Some(BertNormalizer::default()))
            .unwrap();
        tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
        let special = BertProcessing::new(("[SEP]".to_owned(), 2), ("[CLS]".to_owned(), 1));
        tokenizer.with_post_processor(Some(special));
        let file = tempfile::NamedTempFile::new().unwrap();
        tokenizer.save(file.path(), false).unwrap();
        Tokenizer::load(file.path(), max_tokens).unwrap()
    }

    fn limits(target_tokens: usize, overlap_tokens: usize) -> ChunkLimits {
        ChunkLimits {
            target_tokens,
            overlap_tokens,
            max_chunks: 100_000,
        }
    }

    fn texts(chunks: &[Chunk]) -> Vec<&str> {
        chunks.iter().map(|chunk| chunk.text.as_str()).collect()
    }

    #[test]
    fn whole_sentences_are_packed_and_the_last_ones_repeated() {
        let tokenizer = letters(22);
        let text = "Aa bb cc. Dd ee ff. Gg hh ii. Jj kk ll.";
        let chunks = Chunker::new(&tokenizer, limits(14, 7))
            .document(None, text)
            .unwrap();
        assert_eq!(
            texts(&chunks),
            [
                "Aa bb cc. Dd ee ff.",
                "Dd ee ff. Gg hh ii.",
                "Gg hh ii. Jj kk ll."
            ]
        );
        assert!(chunks.iter().all(|chunk| chunk.token_ids.len() == 16));
    }

    #[test]
    fn a_short_rest_joins_the_chunk_before() {
        let tokenizer = letters(22);
        let chunker = Chunker::new(&tokenizer, limits(14, 0));
        let chunks = chunker.document(None, "Aa bb cc. Dd ee ff. Gg.").unwrap();
        assert_eq!(chunks.len(), 1);
        assert_eq!(chunks[0].token_ids.len(), 19);
    }

    #[test]
    fn the_title_goes_before_every_chunk_and_counts() {
        let tokenizer = letters(18);
        let chunker = Chunker::new(&tokenizer, limits(14, 0));
        let chunks = chunker
            .document(Some("Tt"), "Aa bb cc. Dd ee ff. Gg hh ii.")
            .unwrap();
        assert_eq!(texts(&chunks), ["Aa bb cc. Dd ee ff.", "Gg hh ii."]);
        assert_eq!(
            chunks[0].token_ids,
            tokenizer.encode("Tt Aa bb cc. Dd ee ff.").unwrap()
        );
        assert_eq!(
            chunks[1].token_ids,
            tokenizer.encode("Tt Gg hh ii.").unwrap()
        );
        assert_eq!(texts(&chunker.document(Some("Tt"), "").unwrap()), ["Tt"]);
        assert!(chunker.document(None, " \n ").unwrap().is_empty());
        // Not said twice where the text opens with it.
        let chunks = chunker.document(Some("Tt"), "Tt\nAa.").unwrap();
        assert_eq!(chunks[0].token_ids, tokenizer.encode("Tt Aa.").unwrap());
    }

    #[test]
    fn a_passage_is_one_chunk_however_long() {
        let tokenizer = letters(18);
        let text = "Aa bb cc. ".repeat(50);
        let chunk = Chunker::new(&tokenizer, limits(14, 0))
            .passage(Some("Tt"), &text)
            .unwrap();
        assert_eq!(chunk.text, text);
        assert_eq!(chunk.token_ids.len(), 18);
    }

    #[test]
    fn too_many_chunks_are_refused_with_the_setting_to_change() {
        let tokenizer = letters(12);
        let limits = ChunkLimits {
            target_tokens: 10,
            overlap_tokens: 0,
            max_chunks: 3,
        };
        let error = Chunker::new(&tokenizer, limits)
            .document(None, &"Aaa bbb ccc. ".repeat(100))
            .unwrap_err();
        assert_eq!(error.error_type(), "too_many_chunks");
        assert!(error.to_string().contains("chunk.max_chunks"), "{error}");
    }

    /// Megabytes on one line, in the shapes that break naive splitters. The time is generous for a
    /// busy machine with a debug build; a quadratic step would need hours.
    #[test]
    fn megabytes_on_one_line_are_cut_in_linear_time() {
        let size = 1024 * 1024;
        let tokenizer = letters(256);
        let chunker = Chunker::new(&tokenizer, limits(200, 20));
        for shape in ["one two three. ", "x", ".)", " ", "。", "a.1 ", "\u{301}"] {
            let text = shape.repeat(size / shape.len());
            let started = Instant::now();
            let chunks = chunker.document(None, &text).unwrap_or_default();
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "{shape:?}: {:?}",
                started.elapsed()
            );
            for chunk in chunks {
                assert!(chunk.token_ids.len() <= 256, "{shape:?}");
                assert!(
                    chunk.text.len() <= 256 * MAX_BYTES_PER_TOKEN + MAX_PIECE_BYTES,
                    "{shape:?}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn every_word_is_in_some_chunk_and_every_chunk_fits(
            text in "([a-z]{1,30}[.!?,]{0,2}[ \n]){0,80}",
            title in proptest::option::of("[a-z]{1,9}"),
            target in 5_usize..40, room in 2_usize..20, overlap in 0_usize..20,
        ) {
            let max_tokens = target + room;
            let tokenizer = letters(max_tokens);
            let chunks =
                Chunker::new(&tokenizer, limits(target, overlap)).document(title.as_deref(), &text).unwrap();
            let joined: String = chunks.iter().map(|chunk| format!("{}\n", chunk.text)).collect();
            for word in text.split(|c: char| !c.is_alphanumeric()) {
                // A word may be cut only where it alone is longer than what a chunk has room for.
                prop_assert!(word.len() + 11 >= target || joined.contains(word), "{word} is lost");
            }
            for chunk in &chunks {
                prop_assert!(!chunk.text.trim().is_empty());
                let passage = tokenizer.count_tokens(&chunk.text).unwrap();
                prop_assert!(passage + 2 <= max_tokens.max(3), "{passage} + 2 > {max_tokens}: {chunk:?}");
            }
        }
    }
}
