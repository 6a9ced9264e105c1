//! Reads a sentence-transformers folder's configuration and refuses what the encoder can't compute.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::ModelError;

/// The numbers of a BERT-family sentence encoder, checked against what this crate computes.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Rows of the word table: ids are below it.
    pub vocab_size: usize,
    /// Width of the residual stream and of a vector.
    pub hidden_size: usize,
    /// Encoder layers.
    pub layers: usize,
    /// Attention heads a layer.
    pub heads: usize,
    /// Width between the two linear layers behind attention.
    pub intermediate_size: usize,
    /// Rows of the position table: no sequence can be longer.
    pub max_position_embeddings: usize,
    /// Rows of the token type table; a text alone has only the first type.
    pub type_vocab_size: usize,
    /// What layer norms add to a variance.
    pub layer_norm_eps: f64,
    /// What the model was trained with and sentence-transformers cuts at, special tokens included.
    pub max_tokens: usize,
}

/// `config.json` as transformers writes it; only what decides the computation.
#[derive(Deserialize)]
struct Transformer {
    model_type: Option<String>,
    hidden_act: Option<String>,
    position_embedding_type: Option<String>,
    #[serde(default)]
    is_decoder: bool,
    vocab_size: Option<usize>,
    hidden_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    intermediate_size: Option<usize>,
    max_position_embeddings: Option<usize>,
    type_vocab_size: Option<usize>,
    layer_norm_eps: Option<f64>,
}

/// One entry of `modules.json`.
#[derive(Deserialize)]
struct Module {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Pooling {
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
    #[serde(default)]
    pooling_mode_max_tokens: bool,
    #[serde(default)]
    pooling_mode_mean_sqrt_len_tokens: bool,
    #[serde(default)]
    pooling_mode_weightedmean_tokens: bool,
    #[serde(default)]
    pooling_mode_lasttoken: bool,
}

#[derive(Deserialize)]
struct SentenceBert {
    max_seq_length: Option<usize>,
}

impl ModelConfig {
    /// Reads the folder's configuration files.
    ///
    /// # Errors
    /// [`ModelError`] when the folder is missing or incomplete, or the model of another kind than
    /// the encoder computes.
    pub fn read(folder: &Path) -> Result<Self, ModelError> {
        if !folder.is_dir() {
            return Err(ModelError::MissingFolder {
                path: folder.to_owned(),
            });
        }
        // The architecture first: a model of another kind has other files too, and it is the kind
        // that its owner has to be told of.
        require(folder, "config.json")?;
        let transformer: Transformer = json(&folder.join("config.json"))?;
        transformer.check(folder)?;
        require(folder, "tokenizer.json")?;
        require(folder, "model.safetensors")?;
        check_modules(folder)?;
        let sentence_bert: Option<SentenceBert> = optional(folder, "sentence_bert_config.json")?;
        let required = |property: &'static str, value: Option<usize>| match value {
            Some(value) if value > 0 => Ok(value),
            other => Err(ModelError::UnsupportedArchitecture {
                folder: folder.to_owned(),
                property,
                found: other.map_or("nothing".to_owned(), |value| value.to_string()),
                supported: "a positive number",
            }),
        };
        let positions = required(
            "max_position_embeddings",
            transformer.max_position_embeddings,
        )?;
        let config = Self {
            vocab_size: required("vocab_size", transformer.vocab_size)?,
            hidden_size: required("hidden_size", transformer.hidden_size)?,
            layers: required("num_hidden_layers", transformer.num_hidden_layers)?,
            heads: required("num_attention_heads", transformer.num_attention_heads)?,
            intermediate_size: required("intermediate_size", transformer.intermediate_size)?,
            max_position_embeddings: positions,
            type_vocab_size: required("type_vocab_size", transformer.type_vocab_size.or(Some(2)))?,
            layer_norm_eps: transformer.layer_norm_eps.unwrap_or(1e-12),
            max_tokens: sentence_bert
                .and_then(|config| config.max_seq_length)
                .map_or(positions, |tokens| tokens.min(positions)),
        };
        if !config.hidden_size.is_multiple_of(config.heads) {
            return Err(ModelError::UnsupportedArchitecture {
                folder: folder.to_owned(),
                property: "num_attention_heads",
                found: format!("{} for hidden_size {}", config.heads, config.hidden_size),
                supported: "a number of heads that divides hidden_size",
            });
        }
        Ok(config)
    }

    /// Width of one attention head.
    #[must_use]
    pub fn head_size(&self) -> usize {
        self.hidden_size / self.heads
    }
}

impl Transformer {
    fn check(&self, folder: &Path) -> Result<(), ModelError> {
        // RoBERTa numbers positions from 2, DistilBERT and MPNet name or compute layers otherwise:
        // their weights could half fit, so the type decides and not the tensor names.
        let rules = [
            (
                "model_type",
                &self.model_type,
                "bert",
                "the BERT family (model_type `bert`)",
            ),
            ("hidden_act", &self.hidden_act, "gelu", "the exact `gelu`"),
            (
                "position_embedding_type",
                &self.position_embedding_type,
                "absolute",
                "`absolute` positions",
            ),
        ];
        for (property, found, wanted, supported) in rules {
            let optional = property != "model_type";
            match found {
                Some(found) if found == wanted => {}
                None if optional => {}
                other => {
                    return Err(ModelError::UnsupportedArchitecture {
                        folder: folder.to_owned(),
                        property,
                        found: other.clone().unwrap_or_else(|| "nothing".to_owned()),
                        supported,
                    });
                }
            }
        }
        if self.is_decoder {
            return Err(ModelError::UnsupportedArchitecture {
                folder: folder.to_owned(),
                property: "is_decoder",
                found: "true".to_owned(),
                supported: "encoders, which attend both ways",
            });
        }
        Ok(())
    }
}

fn require(folder: &Path, file: &'static str) -> Result<(), ModelError> {
    if folder.join(file).is_file() {
        return Ok(());
    }
    Err(ModelError::MissingFile {
        folder: folder.to_owned(),
        file,
    })
}

/// The pipeline must be transformer, mean pooling and at most a normalisation.
fn check_modules(folder: &Path) -> Result<(), ModelError> {
    let modules: Vec<Module> =
        optional(folder, "modules.json")?.ok_or_else(|| ModelError::MissingFile {
            folder: folder.to_owned(),
            file: "modules.json",
        })?;
    let refuse = |property, found: &str, supported| ModelError::UnsupportedArchitecture {
        folder: folder.to_owned(),
        property,
        found: found.to_owned(),
        supported,
    };
    let mut pooled = false;
    for module in &modules {
        // Older and newer releases of sentence-transformers differ in the path before the class.
        match module.kind.rsplit('.').next().unwrap_or_default() {
            "Transformer" if module.path.is_empty() => {}
            "Pooling" => {
                let path = folder.join(&module.path).join("config.json");
                if !path.is_file() {
                    return Err(ModelError::MissingFile {
                        folder: folder.to_owned(),
                        file: "1_Pooling/config.json",
                    });
                }
                let mode = json::<Pooling>(&path)?.mode();
                if mode != "mean" {
                    return Err(refuse("pooling", &mode, "`mean` pooling"));
                }
                pooled = true;
            }
            "Normalize" => {}
            _ => {
                return Err(refuse(
                    "module",
                    &module.kind,
                    "Transformer, Pooling and Normalize in `modules.json`",
                ));
            }
        }
    }
    if pooled {
        Ok(())
    } else {
        Err(refuse("pooling", "nothing", "`mean` pooling"))
    }
}

impl Pooling {
    fn mode(&self) -> String {
        let modes = [
            ("cls", self.pooling_mode_cls_token),
            ("mean", self.pooling_mode_mean_tokens),
            ("max", self.pooling_mode_max_tokens),
            ("mean_sqrt_len", self.pooling_mode_mean_sqrt_len_tokens),
            ("weightedmean", self.pooling_mode_weightedmean_tokens),
            ("lasttoken", self.pooling_mode_lasttoken),
        ];
        let on: Vec<_> = modes
            .iter()
            .filter(|(_, on)| *on)
            .map(|(name, _)| *name)
            .collect();
        if on.is_empty() {
            "nothing".to_owned()
        } else {
            on.join("+")
        }
    }
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<T, ModelError> {
    let bytes = std::fs::read(path).map_err(|source| ModelError::Read {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_slice(&bytes).map_err(|source| ModelError::Json {
        path: path.to_owned(),
        source,
    })
}

fn optional<T: DeserializeOwned>(folder: &Path, file: &str) -> Result<Option<T>, ModelError> {
    let path = folder.join(file);
    if path.is_file() {
        json(&path).map(Some)
    } else {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use tempfile::TempDir;

    fn folder(change: impl FnOnce(&mut Value)) -> anyhow::Result<TempDir> {
        let folder = tempfile::tempdir()?;
        let mut files = json!({
            "config.json": {
                "model_type": "bert", "hidden_act": "gelu", "vocab_size": 30522,
                "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12,
                "intermediate_size": 1536, "max_position_embeddings": 512, "type_vocab_size": 2,
                "layer_norm_eps": 1e-12
            },
            "modules.json": [
                {"path": "", "type": "sentence_transformers.models.Transformer"},
                {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
                {"path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}
            ],
            "sentence_bert_config.json": {"max_seq_length": 256},
            "1_Pooling/config.json": {"pooling_mode_mean_tokens": true},
            "tokenizer.json": {},
            "model.safetensors": {}
        });
        change(&mut files);
        std::fs::create_dir(folder.path().join("1_Pooling"))?;
        for (file, content) in files.as_object().into_iter().flatten() {
            if !content.is_null() {
                std::fs::write(folder.path().join(file), content.to_string())?;
            }
        }
        Ok(folder)
    }

    fn refusal(change: impl FnOnce(&mut Value)) -> anyhow::Result<String> {
        let folder = folder(change)?;
        match ModelConfig::read(folder.path()) {
            Ok(config) => anyhow::bail!("accepted as {config:?}"),
            Err(error) => Ok(error.to_string()),
        }
    }

    #[test]
    fn reads_the_numbers() -> anyhow::Result<()> {
        let config = ModelConfig::read(folder(|_| {})?.path())?;
        assert_eq!(
            (config.layers, config.heads, config.head_size()),
            (6, 12, 32)
        );
        assert_eq!(config.max_tokens, 256);
        let config = ModelConfig::read(
            folder(|files| files["sentence_bert_config.json"] = Value::Null)?.path(),
        )?;
        assert_eq!(config.max_tokens, 512);
        Ok(())
    }

    #[test]
    fn refuses_another_architecture() -> anyhow::Result<()> {
        let refused = refusal(|files| files["config.json"]["model_type"] = json!("roberta"))?;
        assert!(refused.contains("model_type `roberta`"), "{refused}");
        let refused = refusal(|files| files["config.json"]["hidden_act"] = json!("relu"))?;
        assert!(refused.contains("hidden_act `relu`"), "{refused}");
        let refused = refusal(|files| files["config.json"]["num_attention_heads"] = json!(7))?;
        assert!(refused.contains("7 for hidden_size 384"), "{refused}");
        Ok(())
    }

    #[test]
    fn refuses_another_pipeline() -> anyhow::Result<()> {
        let refused = refusal(|files| {
            files["1_Pooling/config.json"] = json!({"pooling_mode_cls_token": true});
        })?;
        assert!(refused.contains("pooling `cls`"), "{refused}");
        let refused = refusal(|files| {
            files["modules.json"][2]["type"] = json!("sentence_transformers.models.Dense");
        })?;
        assert!(refused.contains("models.Dense"), "{refused}");
        Ok(())
    }

    #[test]
    fn names_the_missing_file() -> anyhow::Result<()> {
        for file in [
            "config.json",
            "tokenizer.json",
            "model.safetensors",
            "modules.json",
        ] {
            let refused = refusal(|files| files[file] = Value::Null)?;
            assert!(
                refused.contains(file) && refused.contains("model pull"),
                "{refused}"
            );
        }
        let absent = ModelConfig::read(Path::new("/nowhere/at/all"));
        assert!(matches!(absent, Err(ModelError::MissingFolder { .. })));
        Ok(())
    }
}
