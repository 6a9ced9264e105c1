//! The tokenizer as the chunker uses it.

use crate::encoder;

#[test]
fn ids_are_those_of_bert() {
    // From the model card of bert-base-uncased: [CLS] hello world ! [SEP].
    let ids = encoder().tokenizer().encode("Hello world!").unwrap();
    assert_eq!(ids, [101, 7592, 2088, 999, 102]);
    assert_eq!(encoder().tokenizer().encode("").unwrap(), [101, 102]);
    assert_eq!(encoder().tokenizer().special_tokens(), 2);
}

#[test]
fn offsets_are_bytes_of_the_text() {
    let text = "Crème brûlée — 東京 unbelievably";
    let tokens = encoder().tokenizer().tokenize_with_offsets(text).unwrap();
    let pieces: Vec<&str> = tokens
        .iter()
        .map(|token| &text[token.range.clone()])
        .collect();
    assert_eq!(pieces.concat(), "Crèmebrûlée—東京unbelievably");
    assert!(pieces.contains(&"東") && pieces.contains(&"—"));
    assert_eq!(
        tokens.len(),
        encoder().tokenizer().count_tokens(text).unwrap()
    );
}

#[test]
fn counting_does_not_cut() {
    let text = "word ".repeat(1_000);
    assert_eq!(encoder().tokenizer().count_tokens(&text).unwrap(), 1_000);
    assert_eq!(
        encoder()
            .tokenizer()
            .tokenize_with_offsets(&text)
            .unwrap()
            .len(),
        1_000
    );
    assert_eq!(
        encoder().tokenizer().encode(&text).unwrap().len(),
        encoder().max_tokens()
    );
}

#[test]
fn a_sequence_without_its_frame_is_framed_again() {
    let tokenizer = encoder().tokenizer();
    for text in ["", "Hello world!", "東京 unbelievably"] {
        let sequence = tokenizer.encode(text).unwrap();
        let own = tokenizer.unframe(&sequence);
        assert_eq!(own.len(), tokenizer.count_tokens(text).unwrap());
        assert_eq!(tokenizer.frame(own), sequence);
        assert_eq!(tokenizer.encode_uncut(text).unwrap(), sequence);
        let tokens = tokenizer.sequence(text, true).unwrap();
        let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
        assert_eq!(ids, sequence);
        assert!(tokens[0].range.is_none() && tokens[0].piece == "[CLS]");
    }
}
