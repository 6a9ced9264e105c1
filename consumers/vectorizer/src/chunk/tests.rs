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

/// A quarter of a megabyte on one line, in the shapes that break naive splitters: seconds in a debug
/// build. A quadratic step would need longer than the runner lets any test have.
#[test]
fn a_very_long_line_is_cut_in_linear_time() {
    let size = 256 * 1024;
    let tokenizer = letters(256);
    let chunker = Chunker::new(&tokenizer, limits(200, 20));
    for shape in ["one two three. ", "x", ".)", " ", "。", "a.1 ", "\u{301}"] {
        let text = shape.repeat(size / shape.len());
        let chunks = chunker.document(None, &text).unwrap_or_default();
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
