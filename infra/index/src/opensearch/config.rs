//! Settings of the OpenSearch adapter.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

/// Where the cluster is, and how to create an index in it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenSearchConfig {
    /// Addresses of the nodes, such as `https://search-1:9200`; requests go round them. Default
    /// `http://127.0.0.1:9200`.
    #[serde(default = "default_nodes")]
    pub nodes: Vec<String>,
    /// User for basic authentication. Default: none.
    #[serde(default)]
    pub username: Option<String>,
    /// Password of that user.
    #[serde(default)]
    pub password: Option<String>,
    /// PEM file of the certificate authority to trust beside the system's. Default: none.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// How long a request may take, in milliseconds. Default 60,000.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// Primary shards of a new index. Default 1.
    #[serde(default = "default_shards")]
    pub shards: u32,
    /// Replicas of a new index. Default 1.
    #[serde(default = "default_replicas")]
    pub replicas: u32,
    /// How long a write may stay unseen by searches, in milliseconds. Default 1,000.
    #[serde(default = "default_refresh_interval_ms")]
    pub refresh_interval_ms: u32,
}

fn default_nodes() -> Vec<String> {
    vec!["http://127.0.0.1:9200".to_owned()]
}
fn default_timeout_ms() -> u64 {
    60_000
}
fn default_shards() -> u32 {
    1
}
fn default_replicas() -> u32 {
    1
}
fn default_refresh_interval_ms() -> u32 {
    1_000
}

impl Default for OpenSearchConfig {
    fn default() -> Self {
        Self::new(default_nodes())
    }
}

impl OpenSearchConfig {
    /// Defaults with these nodes.
    pub fn new(nodes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            nodes: nodes.into_iter().map(Into::into).collect(),
            username: None,
            password: None,
            ca_file: None,
            timeout_ms: default_timeout_ms(),
            shards: default_shards(),
            replicas: default_replicas(),
            refresh_interval_ms: default_refresh_interval_ms(),
        }
    }
}

impl fmt::Debug for OpenSearchConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenSearchConfig")
            .field("nodes", &self.nodes)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .field("ca_file", &self.ca_file)
            .field("timeout_ms", &self.timeout_ms)
            .field("shards", &self.shards)
            .field("replicas", &self.replicas)
            .field("refresh_interval_ms", &self.refresh_interval_ms)
            .finish()
    }
}
