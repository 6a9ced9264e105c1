//! The model's own tokenizer: what the encoder reads, and what a chunker counts and cuts by.

use std::ops::Range;
use std::path::Path;

use tokenizers::PostProcessor;
use tokenizers::utils::truncation::{
    TruncationDirection, TruncationParams, TruncationStrategy, truncate_encodings,
};

use crate::error::ModelError;
use crate::sequence::TokenSequence;

/// One token of a text, without the special ones that the model adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Index into the vocabulary.
    pub id: u32,
    /// Where it stands in the text, in bytes; always on character boundaries.
    pub range: Range<usize>,
}

/// One token of a sequence that the encoder reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequenceToken {
    /// Index into the vocabulary.
    pub id: u32,
    /// As the vocabulary has it, such as `##ing`.
    pub piece: String,
    /// Where it stands in the text, in bytes; none for those that the model adds.
    pub range: Option<Range<usize>>,
}

/// The first text of a pair, without the tokens that the model adds.
#[derive(Clone, Debug)]
pub struct FirstOfPair(tokenizers::Encoding);

/// The tokenizer of one model. Cheap to share; all methods take `&self`.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    max_tokens: usize,
    /// What the model adds before a text's tokens, and after them.
    before: Vec<u32>,
    after: Vec<u32>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Tokenizer {
    /// Loads `tokenizer.json`; sequences are cut at `max_tokens`, special tokens included.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`] when the file is missing or damaged.
    pub fn load(path: &Path, max_tokens: usize) -> Result<Self, ModelError> {
        let failed = |source| ModelError::Tokenizer {
            path: path.to_owned(),
            source,
        };
        let mut inner = tokenizers::Tokenizer::from_file(path).map_err(failed)?;
        // The published files carry the padding and truncation of the day they were saved
        // (MiniLM's pads to 128, cuts at 128). Neither is the model's.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(failed)?;
        let framed = inner.encode_fast("a", true).map_err(failed)?;
        let mask = framed.get_special_tokens_mask();
        let first = mask.iter().take_while(|special| **special == 1).count();
        let last = mask.iter().rev().take_while(|special| **special == 1);
        let last = mask.len() - last.count();
        let ids = framed.get_ids();
        Ok(Self {
            before: ids[..first].to_vec(),
            after: ids[last.max(first)..].to_vec(),
            inner,
            max_tokens,
        })
    }

    /// Longest sequence that the encoder reads, special tokens included.
    #[must_use]
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Ids are below this number.
    #[must_use]
    pub fn id_bound(&self) -> usize {
        let largest = self.inner.get_vocab(true).into_values().max();
        largest.map_or(0, |id| id as usize + 1)
    }

    /// How many tokens the model adds to every text (`[CLS]` and `[SEP]`: 2).
    #[must_use]
    pub fn special_tokens(&self) -> usize {
        self.before.len() + self.after.len()
    }

    /// A text's own tokens as the encoder reads them: those that the model adds go around them.
    #[must_use]
    pub fn frame(&self, text_ids: &[u32]) -> Vec<u32> {
        [&self.before, text_ids, &self.after].concat()
    }

    /// The text's own tokens of a sequence that [`Self::encode`] or [`Self::frame`] made.
    #[must_use]
    pub fn unframe<'a>(&self, sequence: &'a [u32]) -> &'a [u32] {
        let sequence = sequence.strip_prefix(&*self.before).unwrap_or(sequence);
        sequence.strip_suffix(&*self.after).unwrap_or(sequence)
    }

    /// The ids that the encoder reads: cut to [`Self::max_tokens`], special tokens included.
    ///
    /// # Errors
    /// What the tokenizers crate reports for a text that it can't split.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Failure> {
        let mut encoding = self.inner.encode_fast(text, false)?;
        encoding.truncate(
            self.max_tokens.saturating_sub(self.special_tokens()),
            0,
            TruncationDirection::Right,
        );
        Ok(self
            .inner
            .post_process(encoding, None, true)?
            .get_ids()
            .to_vec())
    }

    /// As [`Self::encode`], uncut: what is longer than [`Self::max_tokens`] the encoder refuses.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_uncut(&self, text: &str) -> Result<Vec<u32>, Failure> {
        Ok(self.inner.encode_fast(text, true)?.get_ids().to_vec())
    }

    /// The first text of pairs, read once for all of them.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn first_of_pair(&self, text: &str) -> Result<FirstOfPair, Failure> {
        Ok(FirstOfPair(self.inner.encode_fast(text, false)?))
    }

    /// Two texts as a cross-encoder reads them: where `cut`, the longer one is cut until both have
    /// room (`longest_first`, as sentence-transformers cuts pairs).
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_pair(
        &self,
        first: &FirstOfPair,
        second: &str,
        cut: bool,
    ) -> Result<TokenSequence, Failure> {
        let first = first.0.clone();
        let second = self.inner.encode_fast(second, false)?;
        let added = self.inner.get_post_processor();
        let added = added.map_or(0, |processor| processor.added_tokens(true));
        let room = TruncationParams {
            max_length: if cut {
                self.max_tokens.saturating_sub(added)
            } else {
                usize::MAX
            },
            strategy: TruncationStrategy::LongestFirst,
            ..TruncationParams::default()
        };
        let (first, second) = truncate_encodings(first, Some(second), &room)?;
        let pair = self.inner.post_process(first, second, true)?;
        let types = pair.get_type_ids();
        let second_from = types.iter().position(|kind| *kind == 1);
        Ok(TokenSequence {
            second_from: second_from.unwrap_or(types.len()),
            ids: pair.get_ids().to_vec(),
        })
    }

    /// All tokens of a text, uncut, with those that the model adds where `framed`.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn sequence(&self, text: &str, framed: bool) -> Result<Vec<SequenceToken>, Failure> {
        let encoding = self.inner.encode(text, framed)?;
        let mut tokens = Vec::with_capacity(encoding.len());
        for index in 0..encoding.len() {
            let added = encoding.get_special_tokens_mask()[index] == 1;
            let (start, end) = encoding.get_offsets()[index];
            tokens.push(SequenceToken {
                id: encoding.get_ids()[index],
                piece: encoding.get_tokens()[index].clone(),
                range: (!added).then_some(start..end),
            });
        }
        Ok(tokens)
    }

    /// Number of tokens of a text, uncut and without special tokens.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn count_tokens(&self, text: &str) -> Result<usize, Failure> {
        Ok(self.inner.encode_fast(text, false)?.len())
    }

    /// All tokens of a text with their places, uncut and without special tokens.
    ///
    /// Bytes that no token covers (white space, control characters) lie between the ranges.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn tokenize_with_offsets(&self, text: &str) -> Result<Vec<Token>, Failure> {
        let encoding = self.inner.encode(text, false)?;
        Ok(encoding
            .get_ids()
            .iter()
            .zip(encoding.get_offsets())
            .map(|(&id, &(start, end))| Token {
                id,
                range: start..end,
            })
            .collect())
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Tokenizer")
            .field("vocabulary", &self.inner.get_vocab_size(true))
            .field("max_tokens", &self.max_tokens)
            .finish_non_exhaustive()
    }
}
