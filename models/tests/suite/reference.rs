//! Against sentence-transformers: `tests/reference/make.py` made the vectors from the same folder.

use std::path::Path;

use half::f16;

use crate::{cosine, encoder};

pub fn texts() -> Vec<String> {
    include_str!("../reference/texts.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn vectors() -> Vec<Vec<f32>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/vectors.f16");
    let bytes = std::fs::read(path).unwrap();
    let values: Vec<f32> = bytes
        .chunks_exact(2)
        .map(|pair| f16::from_le_bytes([pair[0], pair[1]]).to_f32())
        .collect();
    values
        .chunks_exact(encoder().dimension())
        .map(<[f32]>::to_vec)
        .collect()
}

#[test]
fn agrees_with_sentence_transformers_on_real_texts() {
    let (texts, expected) = (texts(), vectors());
    assert_eq!((texts.len(), expected.len()), (200, 200));
    let cut = texts
        .iter()
        .filter(|text| encoder().tokenizer().count_tokens(text).unwrap() > encoder().max_tokens())
        .count();
    assert!(
        cut > 10,
        "only {cut} of the texts are long enough to be cut"
    );

    let computed = encoder()
        .encode(&texts.iter().map(String::as_str).collect::<Vec<_>>())
        .unwrap();
    for (index, (computed, expected)) in computed.iter().zip(&expected).enumerate() {
        let cosine = cosine(computed, expected);
        assert!(cosine >= 0.9999, "text {index}: cosine {cosine}");
    }
}
