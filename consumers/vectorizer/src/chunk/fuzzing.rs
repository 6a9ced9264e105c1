//! What fuzzing asks of the chunker. Compiled for fuzzing and for the test that replays the corpus.

use std::path::Path;
use std::sync::OnceLock;

use millrace_models::Tokenizer;

use super::{ChunkLimits, Chunker, MAX_BYTES_PER_TOKEN, MAX_PIECE_BYTES};

/// What the models here may read, in tokens.
const MAX_TOKENS: [usize; 4] = [8, 16, 48, 256];

static TOKENIZERS: OnceLock<Vec<Tokenizer>> = OnceLock::new();

/// Any text, with limits from the first three bytes: chunks fit the model, stand in order, and
/// leave nothing out that has a token. `tokenizer` is the file of a small WordPiece.
pub fn chunks(input: &[u8], tokenizer: &Path) {
    let &[model, target_tokens, overlap_tokens, ref rest @ ..] = input else {
        return;
    };
    let tokenizers = TOKENIZERS.get_or_init(|| {
        // A panic is how a fuzz target says that something is wrong, here and below.
        let load = |max_tokens: &usize| match Tokenizer::load(tokenizer, *max_tokens) {
            Ok(tokenizer) => tokenizer,
            Err(error) => panic!("the tokenizer cannot be read: {error}"),
        };
        MAX_TOKENS.iter().map(load).collect()
    });
    let tokenizer = &tokenizers[usize::from(model) % tokenizers.len()];
    let max_tokens = tokenizer.max_tokens();
    let text = String::from_utf8_lossy(rest);
    let (title, text) = match text.split_once('\0') {
        Some((title, text)) => (Some(title), text),
        None => (None, &*text),
    };
    let limits = ChunkLimits {
        target_tokens: usize::from(target_tokens).max(1),
        overlap_tokens: usize::from(overlap_tokens),
        max_chunks: 100_000,
    };
    let chunker = Chunker::new(tokenizer, limits);
    let passages = match chunker.passages(title, text) {
        Ok((_, passages)) => passages,
        Err(error) => panic!("a text was not cut: {error}"),
    };
    let mut covered = 0;
    let mut last_start = 0;
    for passage in &passages {
        assert!(
            passage.start >= last_start && passage.end > covered,
            "{passage:?}"
        );
        if passage.start > covered {
            is_empty_of_tokens(tokenizer, &text[covered..passage.start]);
        }
        (last_start, covered) = (passage.start, passage.end);
    }
    is_empty_of_tokens(tokenizer, &text[covered..]);
    let chunks = match chunker.document(title, text) {
        Ok(chunks) => chunks,
        Err(error) => panic!("a text was not cut: {error}"),
    };
    for chunk in &chunks {
        assert!(chunk.token_ids.len() <= max_tokens);
        assert!(chunk.text.len() <= max_tokens * MAX_BYTES_PER_TOKEN + MAX_PIECE_BYTES);
    }
    for (passage, chunk) in passages.iter().zip(&chunks) {
        assert_eq!(text[passage.clone()].trim(), chunk.text);
        let tokens = tokenizer.count_tokens(&chunk.text);
        assert!(
            tokens.is_ok_and(|tokens| tokens + tokenizer.special_tokens() <= max_tokens),
            "a chunk is cut off by the model: {chunk:?}"
        );
    }
    assert!(passages.is_empty() || passages.len() == chunks.len());
}

fn is_empty_of_tokens(tokenizer: &Tokenizer, gap: &str) {
    let tokens = tokenizer.count_tokens(gap).unwrap_or(usize::MAX);
    assert_eq!(tokens, 0, "{gap:?} is in no chunk");
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_of_chunks() {
        let tokenizer = millrace_fuzz::corpus("../tokenizer.json");
        millrace_fuzz::replay("chunks", |input| super::chunks(input, &tokenizer));
    }
}
