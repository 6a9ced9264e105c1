//! The cross-encoder against sentence-transformers' (`tests/reference/make_cross_encoder.py` made the
//! scores), and what a caller may rely on.

use std::path::Path;
use std::sync::LazyLock;

use anyhow::Result;
use millrace_models::store::ModelReference;
use millrace_models::{
    CrossEncoder, Encoder, EncoderOptions, ModelError, ModelKind, ModelStore, Segments,
};
use tempfile::TempDir;

use crate::reference::texts;
use crate::{fixture, model_folder};

struct Ranking {
    model: CrossEncoder,
    folder: TempDir,
}

/// One for all tests.
fn ranking() -> &'static Ranking {
    static RANKING: LazyLock<Ranking> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        fixture::build(model_folder(), folder.path()).unwrap();
        let model = CrossEncoder::load(folder.path(), None).unwrap();
        Ranking { model, folder }
    });
    &RANKING
}

#[test]
fn agrees_with_sentence_transformers_on_pairs_of_all_lengths() {
    let texts = texts();
    let wanted: Vec<(usize, usize, f32)> =
        serde_json::from_str(include_str!("../reference/pair_scores.json")).unwrap();
    assert_eq!(wanted.len(), 60);
    let model = &ranking().model;
    let mut cut = 0;
    for (query, text, score) in wanted {
        let (query, text) = (&texts[query], &texts[text]);
        let found = model.score(query, &[text]).unwrap()[0];
        assert!((found - score).abs() < 1e-4, "{found} and {score}: {query}");
        let first = model.tokenizer().first_of_pair(query).unwrap();
        let whole = model.tokenizer().encode_pair(&first, text, false).unwrap();
        let pair = model.tokenizer().encode_pair(&first, text, true).unwrap();
        assert_eq!(pair.ids.len(), whole.ids.len().min(model.max_tokens()));
        cut += usize::from(pair.ids.len() < whole.ids.len());
    }
    assert!(cut > 10, "only {cut} pairs are long enough to be cut");
}

#[test]
fn a_score_does_not_depend_on_its_batch_and_the_two_texts_are_not_one() {
    let (model, texts) = (&ranking().model, texts());
    let texts: Vec<&str> = texts.iter().step_by(9).map(String::as_str).collect();
    let together = model.score("what holds a wing up", &texts).unwrap();
    for (text, wanted) in texts.iter().zip(&together) {
        let alone = model.score("what holds a wing up", &[text]).unwrap()[0];
        assert!((alone - wanted).abs() < 1e-5, "{alone} and {wanted}");
    }
    let query = model.tokenizer().first_of_pair("what holds a wing up");
    let pair = model
        .tokenizer()
        .encode_pair(&query.unwrap(), texts[3], true)
        .unwrap();
    let scores = model
        .score_tokens(&[pair.segments(), Segments::alone(&pair.ids)])
        .unwrap();
    assert!((scores[0] - scores[1]).abs() > 1e-3, "{scores:?}");
    assert!(model.score("nothing", &[]).unwrap().is_empty());
}

#[test]
fn what_a_table_has_no_row_for_is_refused() {
    let model = &ranking().model;
    let (long, unknown) = (vec![7; 513], [7, 40_000]);
    for (ids, says) in [
        (&[][..], "is empty"),
        (&long, "513 tokens"),
        (&unknown, "id 40000"),
    ] {
        let refused = model.score_tokens(&[Segments::alone(ids)]).unwrap_err();
        assert!(refused.to_string().contains(says), "{refused}");
    }
}

#[test]
fn neither_kind_is_loaded_as_the_other() -> Result<()> {
    let refused = CrossEncoder::load(model_folder(), None).unwrap_err();
    assert!(refused.to_string().contains("`BertModel`"), "{refused}");
    let refused = Encoder::load(ranking().folder.path(), EncoderOptions::default()).unwrap_err();
    let refused = refused.to_string();
    assert!(refused.contains("model_server.reranker"), "{refused}");

    let headless = tempfile::tempdir()?;
    fixture::build(model_folder(), headless.path())?;
    std::fs::copy(
        model_folder().join("model.safetensors"),
        headless.path().join("model.safetensors"),
    )?;
    let refused = CrossEncoder::load(headless.path(), None).unwrap_err();
    assert!(matches!(refused, ModelError::Weights { .. }));
    let refused = refused.to_string();
    assert!(
        refused.contains("`classifier.weight` is missing"),
        "{refused}"
    );
    Ok(())
}

#[test]
fn a_store_takes_one_in_and_says_what_it_is() -> Result<()> {
    let root = tempfile::tempdir()?;
    let store = ModelStore::at(root.path());
    let named: ModelReference = "pairs:v1".parse()?;
    let card = store.import(ranking().folder.path(), Some(&named), &mut |_, _| {})?;
    assert_eq!((card.kind, card.dimension), (ModelKind::CrossEncoder, None));
    assert_eq!(card.architecture, "bert, 6 layers, 12 heads, cross-encoder");
    assert_eq!(card.fingerprint, *ranking().model.fingerprint());
    let archive = root.path().join("pairs.mar");
    store.export(&named, &archive, &mut |_, _| {})?;
    let again = ModelStore::at(root.path().join("other"));
    let taken = again.import(&archive, None, &mut |_, _| {})?;
    assert_eq!(taken.fingerprint, card.fingerprint);

    let broken = tempfile::tempdir()?;
    fixture::build(model_folder(), broken.path())?;
    spoil(&broken.path().join("model.safetensors"))?;
    let refused = store
        .import(broken.path(), None, &mut |_, _| {})
        .unwrap_err();
    assert!(refused.to_string().contains("is NaN"), "{refused}");
    Ok(())
}

/// Makes the classifier's bias NaN.
fn spoil(weights: &Path) -> Result<()> {
    let mut bytes = std::fs::read(weights)?;
    let range = {
        let tensors = safetensors::SafeTensors::deserialize(&bytes)?;
        let start = tensors.tensor("classifier.bias")?.data().as_ptr() as usize;
        let offset = start - bytes.as_ptr() as usize;
        offset..offset + 4
    };
    bytes[range].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(weights, bytes)?;
    Ok(())
}
