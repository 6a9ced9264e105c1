//! Reads a model folder's configuration and refuses what this crate can't compute.

mod kind;
mod modules;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use self::modules::check_modules;
use crate::error::ModelError;

pub use self::kind::ModelKind;

/// The numbers of a BERT-family encoder, checked against what this crate computes.
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
    /// Rows of the token type table; a text alone has only the first type, a pair the first two.
    pub type_vocab_size: usize,
    /// What layer norms add to a variance.
    pub layer_norm_eps: f64,
    /// What the model was trained with and sentence-transformers cuts at, special tokens included.
    pub max_tokens: usize,
}

/// `config.json` as transformers writes it; only what decides the computation.
#[derive(Deserialize)]
struct Transformer {
    #[serde(default)]
    architectures: Vec<String>,
    id2label: Option<BTreeMap<String, IgnoredAny>>,
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

#[derive(Deserialize)]
struct SentenceBert {
    max_seq_length: Option<usize>,
}

impl ModelConfig {
    /// Reads the configuration of a sentence encoder: a sentence-transformers folder.
    ///
    /// # Errors
    /// [`ModelError`] when the folder is missing or incomplete, or the model of another kind than
    /// the encoder computes.
    pub fn read(folder: &Path) -> Result<Self, ModelError> {
        let transformer = Transformer::read(folder)?;
        if ModelKind::of(folder, &transformer)? == ModelKind::CrossEncoder {
            return Err(ModelError::UnsupportedArchitecture {
                folder: folder.to_owned(),
                property: "architectures",
                found: transformer.architectures.join(", "),
                supported: "sentence encoders here; a cross-encoder gives no vectors, it ranks as \
                            `model_server.reranker`",
            });
        }
        check_modules(folder)?;
        transformer.numbers(folder)
    }

    /// Reads the configuration of a cross-encoder: a transformers folder of
    /// `BertForSequenceClassification` with one label.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_cross_encoder(folder: &Path) -> Result<Self, ModelError> {
        let transformer = Transformer::read(folder)?;
        let refuse = |property, found: String, supported| {
            Err(ModelError::UnsupportedArchitecture {
                folder: folder.to_owned(),
                property,
                found,
                supported,
            })
        };
        if ModelKind::of(folder, &transformer)? != ModelKind::CrossEncoder {
            let found = match transformer.architectures.join(", ") {
                none if none.is_empty() => "nothing".to_owned(),
                names => names,
            };
            return refuse(
                "architectures",
                found,
                "a cross-encoder (`BertForSequenceClassification`) here",
            );
        }
        // What transformers takes for granted where nothing is written.
        let labels = transformer.id2label.as_ref().map_or(2, BTreeMap::len);
        if labels != 1 {
            return refuse(
                "id2label",
                format!("{labels} labels"),
                "one label, which is the score of a pair",
            );
        }
        let config = transformer.numbers(folder)?;
        if config.type_vocab_size < 2 {
            return refuse(
                "type_vocab_size",
                config.type_vocab_size.to_string(),
                "two token types, one for each text of a pair",
            );
        }
        Ok(config)
    }

    /// Reads the configuration of a model of either kind.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_any(folder: &Path) -> Result<(ModelKind, Self), ModelError> {
        let kind = ModelKind::of_folder(folder)?;
        let config = match kind {
            ModelKind::SentenceEncoder => Self::read(folder)?,
            ModelKind::CrossEncoder => Self::read_cross_encoder(folder)?,
        };
        Ok((kind, config))
    }

    /// Width of one attention head.
    #[must_use]
    pub fn head_size(&self) -> usize {
        self.hidden_size / self.heads
    }
}

impl Transformer {
    /// `config.json` of a folder that has what every model has.
    fn read(folder: &Path) -> Result<Self, ModelError> {
        if !folder.is_dir() {
            return Err(ModelError::MissingFolder {
                path: folder.to_owned(),
            });
        }
        // The architecture first: a model of another kind has other files too, and it is the kind
        // that its owner has to be told of.
        require(folder, "config.json")?;
        let transformer: Self = json(&folder.join("config.json"))?;
        transformer.check(folder)?;
        require(folder, "tokenizer.json")?;
        require(folder, "model.safetensors")?;
        Ok(transformer)
    }

    fn numbers(&self, folder: &Path) -> Result<ModelConfig, ModelError> {
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
        let positions = required("max_position_embeddings", self.max_position_embeddings)?;
        let config = ModelConfig {
            vocab_size: required("vocab_size", self.vocab_size)?,
            hidden_size: required("hidden_size", self.hidden_size)?,
            layers: required("num_hidden_layers", self.num_hidden_layers)?,
            heads: required("num_attention_heads", self.num_attention_heads)?,
            intermediate_size: required("intermediate_size", self.intermediate_size)?,
            max_position_embeddings: positions,
            type_vocab_size: required("type_vocab_size", self.type_vocab_size.or(Some(2)))?,
            layer_norm_eps: self.layer_norm_eps.unwrap_or(1e-12),
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

    /// What a folder of transformers' `BertForSequenceClassification` has and lacks.
    fn cross_encoder(files: &mut Value) {
        for file in [
            "modules.json",
            "sentence_bert_config.json",
            "1_Pooling/config.json",
        ] {
            files[file] = Value::Null;
        }
        files["config.json"]["architectures"] = json!(["BertForSequenceClassification"]);
        files["config.json"]["id2label"] = json!({"0": "LABEL_0"});
    }

    #[test]
    fn a_cross_encoder_is_another_kind() -> anyhow::Result<()> {
        let pairs = folder(cross_encoder)?;
        assert_eq!(ModelKind::of_folder(pairs.path())?, ModelKind::CrossEncoder);
        let config = ModelConfig::read_cross_encoder(pairs.path())?;
        assert_eq!((config.layers, config.max_tokens), (6, 512));
        let refused = refusal(cross_encoder)?;
        assert!(refused.contains("model_server.reranker"), "{refused}");

        let texts = folder(|_| {})?;
        assert_eq!(
            ModelKind::of_folder(texts.path())?,
            ModelKind::SentenceEncoder
        );
        let refused = ModelConfig::read_cross_encoder(texts.path()).unwrap_err();
        assert!(
            refused.to_string().contains("architectures `nothing`"),
            "{refused}"
        );

        // Fine-tuned for something else first, a sentence encoder after that.
        let pooled = folder(|files| {
            files["config.json"]["architectures"] = json!(["BertForSequenceClassification"]);
        })?;
        assert_eq!(
            ModelKind::of_folder(pooled.path())?,
            ModelKind::SentenceEncoder
        );
        Ok(())
    }

    #[test]
    fn a_cross_encoder_of_several_labels_has_no_score() -> anyhow::Result<()> {
        for (labels, says) in [
            (json!({"0": "no", "1": "yes"}), "id2label `2 labels`"),
            (Value::Null, "id2label `2 labels`"),
        ] {
            let classifier = folder(|files| {
                cross_encoder(files);
                files["config.json"]["id2label"] = labels;
            })?;
            let refused = ModelConfig::read_cross_encoder(classifier.path()).unwrap_err();
            assert!(refused.to_string().contains(says), "{refused}");
        }
        let one_type = folder(|files| {
            cross_encoder(files);
            files["config.json"]["type_vocab_size"] = json!(1);
        })?;
        let refused = ModelConfig::read_cross_encoder(one_type.path()).unwrap_err();
        assert!(
            refused.to_string().contains("type_vocab_size `1`"),
            "{refused}"
        );
        Ok(())
    }
}
