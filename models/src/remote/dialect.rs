//! What is written to a model server and read of its answer, in each interface.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;

use super::config::RemoteDialect;

impl RemoteDialect {
    /// The path below a server's address.
    pub(super) fn path(self, model: &str) -> String {
        match self {
            Self::OpenAi => "/v1/embeddings".to_owned(),
            Self::Tei => "/embed".to_owned(),
            // The version is a segment of its own there.
            Self::TorchServe => format!("/predictions/{}", model.replacen(':', "/", 1)),
        }
    }

    /// The body that asks for the vectors of texts by their own token ids.
    pub(super) fn body(self, model: &str, texts: &[&[u32]]) -> Vec<u8> {
        let body = match self {
            Self::OpenAi => {
                json!({ "model": model, "input": texts, "encoding_format": "base64" })
            }
            Self::Tei => json!({ "inputs": texts, "normalize": true }),
            Self::TorchServe => json!(texts),
        };
        body.to_string().into_bytes()
    }

    /// The vectors of an answer, in the order of the texts.
    pub(super) fn vectors(self, answer: &[u8]) -> Result<Vec<Vec<f32>>, String> {
        match self {
            Self::OpenAi => {
                let list: List = serde_json::from_slice(answer).map_err(|e| e.to_string())?;
                let mut data = list.data;
                data.sort_by_key(|embedding| embedding.index);
                data.into_iter()
                    .map(|item| item.embedding.floats())
                    .collect()
            }
            Self::Tei | Self::TorchServe => {
                serde_json::from_slice(answer).map_err(|error| error.to_string())
            }
        }
    }
}

#[derive(Deserialize)]
struct List {
    data: Vec<Embedding>,
}

#[derive(Deserialize)]
struct Embedding {
    index: usize,
    embedding: Components,
}

/// Not every server that speaks the interface knows `encoding_format`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Components {
    Base64(String),
    Floats(Vec<f32>),
}

impl Components {
    fn floats(self) -> Result<Vec<f32>, String> {
        let text = match self {
            Self::Floats(floats) => return Ok(floats),
            Self::Base64(text) => text,
        };
        let bytes = STANDARD.decode(text).map_err(|error| error.to_string())?;
        let (floats, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return Err("a base64 vector is not of whole floats".to_owned());
        }
        Ok(floats
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_in_the_order_of_its_indices_and_in_both_formats() {
        let answer = json!({ "data": [
            { "index": 1, "embedding": [0.5, -1.0] },
            { "index": 0, "embedding": STANDARD.encode(1.5f32.to_le_bytes()) },
        ]});
        let vectors = RemoteDialect::OpenAi.vectors(answer.to_string().as_bytes());
        assert_eq!(vectors.unwrap(), [vec![1.5], vec![0.5, -1.0]]);
        let torn = json!({ "data": [{ "index": 0, "embedding": STANDARD.encode([1, 2, 3]) }] });
        assert!(
            RemoteDialect::OpenAi
                .vectors(torn.to_string().as_bytes())
                .is_err()
        );
        assert_eq!(
            RemoteDialect::TorchServe.path("emb:v1"),
            "/predictions/emb/v1"
        );
    }
}
