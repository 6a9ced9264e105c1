//! What a caller may rely on, whatever it encodes.

use std::num::NonZeroUsize;

use millrace_models::{Encoder, EncoderOptions, ModelError, ModelFingerprint, normalise};

use crate::reference::texts;
use crate::{cosine, encoder, model_folder};

#[test]
fn a_vector_does_not_depend_on_its_batch() {
    let texts = texts();
    let texts: Vec<&str> = texts.iter().step_by(4).map(String::as_str).collect();
    let together = encoder().encode(&texts).unwrap();
    let mut reversed = texts.clone();
    reversed.reverse();
    let mut backwards = encoder().encode(&reversed).unwrap();
    backwards.reverse();
    for (index, text) in texts.iter().enumerate() {
        let alone = encoder().encode(&[text]).unwrap().remove(0);
        for other in [&alone, &backwards[index]] {
            let cosine = cosine(&together[index], other);
            assert!(cosine >= 0.999_999, "text {index}: cosine {cosine}");
        }
    }
}

#[test]
fn vectors_have_norm_one() {
    for vector in encoder()
        .encode(&["", " ", "a", "two words", "日本語 and émojis 🦀"])
        .unwrap()
    {
        assert_eq!(vector.len(), encoder().dimension());
        let norm: f32 = vector.iter().map(|value| value * value).sum();
        assert!((norm - 1.0).abs() < 1e-5, "norm² {norm}");
    }
    assert!(encoder().encode(&[]).unwrap().is_empty());
}

#[test]
fn a_long_text_is_cut_where_the_model_ends() {
    let words: Vec<String> = (0..40_000)
        .map(|word| format!("word{}", word % 97))
        .collect();
    let (long, longer) = (words[..2_000].join(" "), words.join(" "));
    let vectors = encoder().encode(&[&long, &longer]).unwrap();
    assert!(cosine(&vectors[0], &vectors[1]) >= 0.999_999);
    // And not earlier: the last token that fits still counts.
    let ids = encoder().tokenizer().encode(&long).unwrap();
    assert_eq!(ids.len(), encoder().max_tokens());
    let mut changed = ids.clone();
    let what = encoder().tokenizer().encode("what").unwrap()[1];
    changed[encoder().max_tokens() - 2] = what;
    let vectors = encoder().encode_tokens(&[&ids, &changed]).unwrap();
    assert!(cosine(&vectors[0], &vectors[1]) < 0.999_999);
}

#[test]
fn meaning_is_near() {
    let texts = [
        "a cat sits on the mat",
        "a kitten rests on a rug",
        "quarterly tax returns are due",
    ];
    let vectors = encoder().encode(&texts).unwrap();
    let (near, far) = (
        cosine(&vectors[0], &vectors[1]),
        cosine(&vectors[0], &vectors[2]),
    );
    assert!(near > 0.5 && far < 0.2, "near {near}, far {far}");
}

#[test]
fn tokens_and_texts_give_the_same() {
    let text = "The quick brown fox jumps over the lazy dog.";
    let ids = encoder().tokenizer().encode(text).unwrap();
    let (by_text, by_tokens) = (
        encoder().encode(&[text]).unwrap(),
        encoder().encode_tokens(&[&ids]).unwrap(),
    );
    assert_eq!(by_text, by_tokens);
}

#[test]
fn bad_sequences_are_refused_by_position() {
    let refusal = |sequence: &[u32]| match encoder().encode_tokens(&[&[101, 102], sequence]) {
        Err(error @ ModelError::Sequence { index: 1, .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(refusal(&[]).contains("is empty"));
    assert!(refusal(&[101; 257]).contains("257 tokens; the model reads at most 256"));
    assert!(refusal(&[101, 30_522]).contains("id 30522; the vocabulary ends at 30521"));
}

#[test]
fn options_are_followed_or_refused() {
    let options = EncoderOptions {
        threads: NonZeroUsize::new(1),
        max_tokens: NonZeroUsize::new(16),
        ..EncoderOptions::default()
    };
    let short = Encoder::load(model_folder(), options).unwrap();
    assert_eq!((short.threads(), short.max_tokens()), (1, 16));
    assert_eq!(
        short.tokenizer().encode(&"word ".repeat(50)).unwrap().len(),
        16
    );
    let text = "short enough for both";
    let both = [
        short.encode(&[text]).unwrap(),
        encoder().encode(&[text]).unwrap(),
    ];
    assert!(cosine(&both[0][0], &both[1][0]) >= 0.999_999);

    let options = EncoderOptions {
        max_tokens: NonZeroUsize::new(300),
        ..EncoderOptions::default()
    };
    let refused = Encoder::load(model_folder(), options)
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("`max_tokens` is 300; this model reads 3 to 256"),
        "{refused}"
    );
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_device_that_is_not_compiled_in_is_named() {
    let options = EncoderOptions {
        device: millrace_models::Device::Cuda(1),
        ..EncoderOptions::default()
    };
    let refused = Encoder::load(model_folder(), options)
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("cuda:1") && refused.contains("--features cuda"),
        "{refused}"
    );
}

#[test]
fn version_and_fingerprint_are_those_of_the_files() {
    let fingerprint = ModelFingerprint::of_folder(model_folder()).unwrap();
    assert_eq!(encoder().fingerprint(), &fingerprint);
    let short = &fingerprint.as_str()[..12];
    assert_eq!(encoder().version(), format!("all-MiniLM-L6-v2@{short}"));
    // Recorded in indexes: a change of this value is a change of the format.
    assert_eq!(short, "32444c8b834d");
}

#[test]
fn one_encoder_serves_many_threads() {
    let texts = texts();
    let expected = encoder().encode(&[&texts[100]]).unwrap();
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| encoder().encode(&[&texts[100], &texts[3]]).unwrap()))
            .collect();
        for handle in handles {
            let vectors = handle.join().unwrap();
            assert!(cosine(&vectors[0], &expected[0]) >= 0.999_999);
        }
    });
}

#[test]
fn a_pooled_vector_has_the_direction_of_the_normalised_one() {
    let ids = encoder()
        .tokenizer()
        .encode("a shark at the beach")
        .unwrap();
    let mut pooled = encoder().pool_tokens(&[&ids]).unwrap().remove(0);
    let length: f32 = pooled.iter().map(|value| value * value).sum();
    assert!((length.sqrt() - 1.0).abs() > 0.01, "{length}");
    normalise(&mut pooled);
    assert_eq!(pooled, encoder().encode_tokens(&[&ids]).unwrap()[0]);
}
