//! The encoder and its tokenizer on the real model, which the store fetches on the first run.
#![allow(clippy::unwrap_used)]

mod cross_encoder;
mod encoder;
#[path = "../fixture/cross_encoder.rs"]
mod fixture;
mod reference;
mod refusals;
mod tokenizer;
mod transfer;

use std::path::PathBuf;
use std::sync::{LazyLock, OnceLock};

use millrace_models::{Encoder, EncoderOptions, ModelStore};

/// The folder of all-MiniLM-L6-v2, fetched once where this user has none.
fn model_folder() -> &'static PathBuf {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let store = ModelStore::from_env().unwrap();
        runtime
            .block_on(store.pull("all-MiniLM-L6-v2", &mut |_, _| {}))
            .unwrap_or_else(|error| panic!("these tests need the real model: {error}"))
    });
    &FOLDER
}

/// One encoder for all tests.
fn encoder() -> &'static Encoder {
    static ENCODER: OnceLock<Encoder> = OnceLock::new();
    ENCODER.get_or_init(|| Encoder::load(model_folder(), EncoderOptions::default()).unwrap())
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
