//! Settings of the model server, with units and defaults, and the rules they must keep.

use std::net::{Ipv4Addr, SocketAddr};

use serde::Deserialize;

/// Settings of the model server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelServerConfig {
    /// Address to listen on. Default: `127.0.0.1:7080`; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Models of the store, `NAME` or `NAME:VERSION`; the first is the default, and the first
    /// version of a name is that name's. Default: the configured `model.name`.
    pub models: Vec<String>,
    /// Cross-encoder of the store that ranks texts for a query, `NAME` or `NAME:VERSION`. Default:
    /// none; then requests to rank are refused.
    pub reranker: Option<String>,
    /// Bearer token of requests for vectors and scores. Default: none.
    pub api_key: Option<String>,
    /// Bearer token of the calls that change what serves. Default: none; then they are open on
    /// loopback, and closed elsewhere.
    pub admin_token: Option<String>,
    /// Time of a request that asks for none or for more, milliseconds. Default: 5,000.
    pub timeout_ms: u64,
    /// Tokens that wait or are computed, by an estimate until they are read; those of one request,
    /// once read. Default: 262,144.
    pub max_queued_tokens: usize,
    /// Tokens given to an encoder at once. Default: 2,048.
    pub batch_tokens: usize,
    /// Batches at a time: the end of one leaves workers idle that the next fills. Default: 2.
    pub batches: usize,
    /// Inputs of one request. Default: 2,048.
    pub max_inputs: usize,
    /// Longest text that is not cut, bytes. Default: 1 MiB.
    pub max_text_bytes: usize,
    /// Body of one request, bytes. Default: 8 MiB.
    pub max_body_bytes: usize,
    /// Bodies of all requests in hand, bytes. Default: 128 MiB.
    pub max_in_flight_bytes: usize,
    /// Cut texts that are longer than the model reads, where the request does not say. Default: true.
    pub auto_truncate: bool,
}

impl Default for ModelServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7080)),
            models: Vec::new(),
            reranker: None,
            api_key: None,
            admin_token: None,
            timeout_ms: 5_000,
            max_queued_tokens: 262_144,
            batch_tokens: 2_048,
            batches: 2,
            max_inputs: 2_048,
            max_text_bytes: 1 << 20,
            max_body_bytes: 8 << 20,
            max_in_flight_bytes: 128 << 20,
            auto_truncate: true,
        }
    }
}

/// A setting that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("model_server.{setting} is {found}; it must be at least {least}")]
pub struct InvalidConfig {
    /// Name of the setting.
    pub setting: &'static str,
    /// Its value.
    pub found: u64,
    /// What it must be.
    pub least: u64,
}

impl ModelServerConfig {
    /// Checks every rule that the types do not keep.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let count = |number: usize| number as u64;
        let rules = [
            ("timeout_ms", self.timeout_ms, 1),
            ("max_queued_tokens", count(self.max_queued_tokens), 1_024),
            ("batch_tokens", count(self.batch_tokens), 1),
            ("batches", count(self.batches), 1),
            ("max_inputs", count(self.max_inputs), 1),
            ("max_text_bytes", count(self.max_text_bytes), 1),
            ("max_body_bytes", count(self.max_body_bytes), 1_024),
            (
                "max_in_flight_bytes",
                count(self.max_in_flight_bytes),
                count(self.max_body_bytes),
            ),
        ];
        for (setting, found, least) in rules {
            if found < least {
                return Err(InvalidConfig {
                    setting,
                    found,
                    least,
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_can_work_and_a_body_must_fit() {
        let mut config = ModelServerConfig::default();
        config.validate().unwrap();
        config.max_in_flight_bytes = config.max_body_bytes - 1;
        let refused = config.validate().unwrap_err().to_string();
        assert!(refused.contains("max_in_flight_bytes"), "{refused}");
    }
}
