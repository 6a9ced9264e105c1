//! A model and a dataset that are small enough to be trained in a test.

use std::path::Path;

use anyhow::Result;
use candle_core::Device;
use millrace_models::ModelConfig;
use millrace_training::dataset::{BuildOptions, Pair, Source, build};
use millrace_training::{
    AdamWOptions, Batch, ContrastiveLoss, Moments, Network, ParameterLayout, Trainer,
    TrainingOptions,
};
use serde_json::json;
use tempfile::TempDir;

pub const HIDDEN: usize = 16;
/// Words of the vocabulary, special tokens included.
const WORDS: usize = 64;

/// Numbers between -1 and 1 that look like chance and are always the same.
pub fn numbers(count: usize, salt: u64) -> Vec<f32> {
    let mut state = salt.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

/// Writes a sentence-transformers folder of two layers.
pub fn write_model(folder: &Path) -> Result<()> {
    let files = json!({
        "config.json": {
            "model_type": "bert", "hidden_act": "gelu", "vocab_size": WORDS,
            "hidden_size": HIDDEN, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 40, "max_position_embeddings": 32, "type_vocab_size": 2,
            "layer_norm_eps": 1e-12
        },
        "modules.json": [
            {"path": "", "type": "sentence_transformers.models.Transformer"},
            {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}
        ],
        "sentence_bert_config.json": {"max_seq_length": 24},
        "1_Pooling/config.json": {"pooling_mode_mean_tokens": true},
        "tokenizer.json": tokenizer(WORDS),
    });
    std::fs::create_dir_all(folder.join("1_Pooling"))?;
    for (file, content) in files.as_object().unwrap() {
        std::fs::write(folder.join(file), content.to_string())?;
    }
    std::fs::write(folder.join("model.safetensors"), "")?;
    let config = ModelConfig::read(folder)?;
    write_weights(folder, &config)
}

/// A tokenizer of words `w0`, `w1`, … with so many ids.
pub fn tokenizer(ids: usize) -> serde_json::Value {
    let mut vocabulary = json!({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2});
    for id in 3..ids {
        vocabulary[format!("w{}", id - 3)] = json!(id);
    }
    json!({
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]
        },
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"}
    })
}

fn write_weights(folder: &Path, config: &ModelConfig) -> Result<()> {
    let layout = ParameterLayout::new(config);
    let tensors: Vec<(String, candle_core::Tensor)> = layout
        .places()
        .iter()
        .enumerate()
        .map(|(index, place)| {
            let mut values = numbers(place.range.len(), index as u64 + 1);
            let gain = place.name.ends_with("LayerNorm.weight");
            for value in &mut values {
                *value = if gain {
                    1.0 + 0.3 * *value
                } else {
                    0.4 * *value
                };
            }
            let shape = place.shape.as_slice();
            let tensor = candle_core::Tensor::from_vec(values, shape, &Device::Cpu)?;
            Ok((place.name.clone(), tensor))
        })
        .collect::<Result<_>>()?;
    // What training leaves alone has to survive it.
    let pooler = candle_core::Tensor::from_vec(numbers(4, 99), 4, &Device::Cpu)?;
    let tensors: std::collections::HashMap<_, _> = tensors
        .into_iter()
        .chain([("pooler.dense.bias".to_owned(), pooler)])
        .collect();
    candle_core::safetensors::save(&tensors, folder.join("model.safetensors"))?;
    Ok(())
}

pub fn model() -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    write_model(folder.path())?;
    Ok(folder)
}

/// Sequences of a batch: three queries, three positives, two negatives, of several lengths.
pub fn sequences() -> Vec<Vec<u32>> {
    [4usize, 1, 7, 9, 3, 12, 5, 2]
        .iter()
        .enumerate()
        .map(|(row, length)| {
            (0..*length)
                .map(|at| ((row * 17 + at * 29 + 5) % WORDS) as u32)
                .collect()
        })
        .collect()
}

pub fn batch(sequences: &[Vec<u32>]) -> Batch<'_> {
    Batch {
        sequences: sequences.iter().map(Vec::as_slice).collect(),
        queries: 3,
        masked: vec![(0, 1)],
    }
}

/// A trainer of the model in `folder`.
pub fn trainer(folder: &Path, plain: bool, threads: usize) -> Result<(Trainer, ParameterLayout)> {
    let config = ModelConfig::read(folder)?;
    let layout = ParameterLayout::new(&config);
    let make = if plain { Network::plain } else { Network::new };
    let network = make(&config, &layout, &Device::Cpu, threads)?;
    let loss = ContrastiveLoss {
        scale: 20.0,
        dimensions: vec![config.hidden_size, config.hidden_size / 2],
    };
    let parameters = layout.read(folder)?;
    let moments = Moments::zero(parameters.len());
    let options = AdamWOptions::default();
    let trainer = Trainer::new(network, layout.clone(), parameters, moments, loss, options);
    Ok((trainer, layout))
}

/// Queries of two words and passages of six that begin with them.
pub fn source() -> Source {
    let word = |at: usize| format!("w{}", at % 60);
    let pairs: Vec<Pair> = (0..30)
        .map(|row| Pair {
            query: format!("{} {}", word(row * 2), word(row * 7 + 1)),
            positive: [row * 2, row * 7 + 1, row * 3, row * 11, row + 5, row * 13]
                .map(word)
                .join(" "),
            time_ms: None,
        })
        .collect();
    Source {
        kind: "pairs",
        passages: pairs.iter().map(|pair| pair.positive.clone()).collect(),
        pairs,
        ..Source::default()
    }
}

pub async fn dataset(folder: &Path, dev_share: f64) -> Result<()> {
    let options = BuildOptions {
        negative_ranks: 1..=5,
        dev_share,
        ..BuildOptions::default()
    };
    build(source(), &options, folder, &mut |_, _| {}).await?;
    Ok(())
}

pub fn options() -> TrainingOptions {
    TrainingOptions {
        epochs: 4,
        batch: 6,
        max_tokens: 16,
        learning_rate: 3e-3,
        checkpoint_every: 3,
        threads: 2,
        seed: 11,
        ..TrainingOptions::default()
    }
}
