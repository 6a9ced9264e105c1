//! Folders that must not become an encoder.

use std::path::Path;

use anyhow::Result;
use millrace_models::{Encoder, EncoderOptions, ModelError};
use tempfile::TempDir;

use crate::model_folder;

/// A copy of the model's folder with one file replaced.
fn copy_with(file: &str, content: &[u8]) -> Result<TempDir> {
    let copy = tempfile::tempdir()?;
    std::fs::create_dir(copy.path().join("1_Pooling"))?;
    for name in [
        "config.json",
        "modules.json",
        "sentence_bert_config.json",
        "tokenizer.json",
        "model.safetensors",
        "1_Pooling/config.json",
    ] {
        if name != file {
            std::os::unix::fs::symlink(model_folder().join(name), copy.path().join(name))?;
        }
    }
    std::fs::write(copy.path().join(file), content)?;
    Ok(copy)
}

fn refusal(folder: &Path) -> Result<(ModelError, String)> {
    match Encoder::load(folder, EncoderOptions::default()) {
        Ok(encoder) => anyhow::bail!("loaded as {encoder:?}"),
        Err(error) => {
            let message = error.to_string();
            Ok((error, message))
        }
    }
}

#[test]
fn a_missing_folder() -> Result<()> {
    let (error, message) = refusal(&tempfile::tempdir()?.path().join("absent"))?;
    assert!(matches!(error, ModelError::MissingFolder { .. }));
    assert!(
        message.contains("absent") && message.contains("millrace model pull"),
        "{message}"
    );
    Ok(())
}

#[test]
fn another_architecture() -> Result<()> {
    let config = std::fs::read_to_string(model_folder().join("config.json"))?;
    let folder = copy_with(
        "config.json",
        config.replace("\"bert\"", "\"t5\"").as_bytes(),
    )?;
    let (error, message) = refusal(folder.path())?;
    assert!(matches!(error, ModelError::UnsupportedArchitecture { .. }));
    assert!(
        message.contains("model_type `t5`") && message.contains("BERT family"),
        "{message}"
    );
    Ok(())
}

#[test]
fn weights_of_other_shapes() -> Result<()> {
    let config = std::fs::read_to_string(model_folder().join("config.json"))?;
    let folder = copy_with("config.json", config.replace("1536", "1024").as_bytes())?;
    let (_, message) = refusal(folder.path())?;
    assert!(
        message.contains("intermediate.dense.weight") && message.contains("1536"),
        "{message}"
    );

    let folder = copy_with(
        "config.json",
        config
            .replace("\"num_hidden_layers\": 6", "\"num_hidden_layers\": 7")
            .as_bytes(),
    )?;
    let (_, message) = refusal(folder.path())?;
    assert!(
        message.contains("encoder.layer.6") && message.contains("missing"),
        "{message}"
    );
    Ok(())
}

#[test]
fn damaged_files() -> Result<()> {
    let weights = std::fs::read(model_folder().join("model.safetensors"))?;
    let folder = copy_with("model.safetensors", &weights[..weights.len() / 2])?;
    let (error, message) = refusal(folder.path())?;
    assert!(matches!(error, ModelError::Weights { .. }), "{message}");

    let folder = copy_with("tokenizer.json", b"{}")?;
    let (error, message) = refusal(folder.path())?;
    assert!(matches!(error, ModelError::Tokenizer { .. }), "{message}");

    let folder = copy_with("config.json", b"{\"model_type\": ")?;
    let (error, message) = refusal(folder.path())?;
    assert!(matches!(error, ModelError::Json { .. }), "{message}");
    Ok(())
}
