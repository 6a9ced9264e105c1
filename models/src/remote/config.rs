//! Settings of a remote encoder, with units and defaults.

use serde::Deserialize;

/// The interface that a model server is spoken to in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RemoteDialect {
    /// `POST /v1/embeddings`, with token ids as input.
    #[default]
    OpenAi,
    /// text-embeddings-inference's `POST /embed`; the server's own model.
    Tei,
    /// `POST /predictions/{model}`, with an array of token ids.
    TorchServe,
}

/// Settings of a remote encoder.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RemoteConfig {
    /// Addresses of model servers with the same model; requests go round them. Default:
    /// `http://127.0.0.1:7080`.
    pub urls: Vec<String>,
    /// The interface. Default: `openai`.
    pub dialect: RemoteDialect,
    /// The model's name at the servers, `NAME`, `NAME:VERSION` or `NAME/VERSION`. Default: the
    /// local one's.
    pub model: Option<String>,
    /// Bearer token. Default: none.
    pub token: Option<String>,
    /// Time of one attempt, milliseconds. Default: 10,000.
    pub timeout_ms: u64,
    /// Attempts before whoever asked is told that the servers are away. Default: 3.
    pub attempts: u32,
    /// After so many milliseconds without an answer a second request goes to the next address, and
    /// the first answer counts. At most one in ten requests has a second. Default: none.
    pub hedge_after_ms: Option<u64>,
    /// Tokens of one request: what the servers compute well within their time. Default: 1,024.
    pub request_tokens: usize,
}

impl Default for RemoteConfig {
    fn default() -> Self {
        Self {
            urls: vec!["http://127.0.0.1:7080".to_owned()],
            dialect: RemoteDialect::OpenAi,
            model: None,
            token: None,
            timeout_ms: 10_000,
            attempts: 3,
            hedge_after_ms: None,
            request_tokens: 1_024,
        }
    }
}
