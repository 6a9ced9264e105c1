//! The sections that no crate of their own configures.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use millrace_index::{KnnEngine, OpenSearchConfig};
use millrace_models::RemoteConfig;
use millrace_state::ValkeyConfig;
use serde::Deserialize;

/// The HTTP API of `up`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiConfig {
    /// Address to listen on. Default: `127.0.0.1:7070`; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Bearer token that notices must carry. Default: none, which is allowed on loopback only.
    pub notices_token: Option<String>,
    /// Bearer token that events must carry. Default: none, which is allowed on loopback only.
    pub events_token: Option<String>,
    /// Bearer token that calls which change what serves must carry (deploys, rollbacks, an instance's
    /// configuration), and those that read what a user did. Default: none; then they are open on loopback, and closed elsewhere.
    pub admin_token: Option<String>,
    /// Token that opens the console to read, and to change nothing. Default: none. It needs `admin_token`,
    /// without which the console is anybody's on loopback.
    pub read_token: Option<String>,
}

/// The embedded broker.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BrokerSection {
    /// Address to listen on. Default: `127.0.0.1:7092`; port 0 takes a free one.
    pub listen: SocketAddr,
}

/// The search index.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IndexSection {
    /// Read alias; generations and the write alias are named after it. Default: `millrace-documents`.
    pub name: String,
    /// Engine of the vectors in OpenSearch: `lucene` (default) or `faiss`.
    pub engine: KnnEngine,
    /// How to reach OpenSearch in the cluster profile.
    pub opensearch: OpenSearchConfig,
}

/// The sentence encoder.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSection {
    /// Name in the model store. Default: `all-MiniLM-L6-v2`.
    pub name: String,
    /// A sentence-transformers folder to use instead of the store.
    pub path: Option<PathBuf>,
    /// Store that machines share: a folder, `oss://bucket[/prefix]` or `s3://bucket[/prefix]`. What is
    /// imported goes there too, and a version that this machine lacks is fetched from there. Default:
    /// none.
    pub shared_store: Option<String>,
    /// Encoder threads. Default: one a core.
    pub threads: Option<usize>,
    /// Who computes vectors of documents and queries. Default: `local`.
    pub encoder: EncoderKind,
    /// The model server, where `encoder` is `remote`.
    pub remote: RemoteConfig,
}

/// Who computes vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EncoderKind {
    /// This process.
    #[default]
    Local,
    /// A model server. The model's folder is needed here too: its tokenizer cuts the texts.
    Remote,
}

/// What `up` and `run uploads` watch.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UploadsSection {
    /// Folders whose files are documents. Each is an allowed root as well.
    pub folders: Vec<PathBuf>,
}

/// Where stateful consumers keep their state.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StateSection {
    /// The state in the cluster profile, which has no stateful consumer without it. Default: none.
    /// The embedded profile's is in the data folder.
    pub valkey: Option<ValkeyConfig>,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            listen: loopback(7070),
            notices_token: None,
            events_token: None,
            admin_token: None,
            read_token: None,
        }
    }
}

impl Default for BrokerSection {
    fn default() -> Self {
        Self {
            listen: loopback(7092),
        }
    }
}

impl Default for IndexSection {
    fn default() -> Self {
        Self {
            name: "millrace-documents".to_owned(),
            engine: KnnEngine::default(),
            opensearch: OpenSearchConfig::default(),
        }
    }
}

impl Default for ModelSection {
    fn default() -> Self {
        Self {
            name: "all-MiniLM-L6-v2".to_owned(),
            path: None,
            shared_store: None,
            threads: None,
            encoder: EncoderKind::default(),
            remote: RemoteConfig::default(),
        }
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// `canary`: a document uploaded on a schedule, to measure how long it takes until it is found.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CanarySection {
    /// Seconds between two uploads; 0, the default, uploads never.
    pub every_seconds: u64,
    /// Seconds after which an upload that is not found counts as late. Default: 30.
    pub timeout_seconds: u64,
    /// Where it is uploaded: a bucket's folder such as `s3://uploads/canary`, which may be read and
    /// written, or a folder's `file://` URI. Default: the folder `canary` in the data folder.
    pub location: Option<String>,
}

impl CanarySection {
    /// The time between two uploads, where there are any.
    pub fn every(&self) -> Option<Duration> {
        (self.every_seconds > 0).then(|| Duration::from_secs(self.every_seconds))
    }

    /// How long an upload is searched for.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds)
    }
}

impl Default for CanarySection {
    fn default() -> Self {
        Self {
            every_seconds: 0,
            timeout_seconds: 30,
            location: None,
        }
    }
}

/// `lag`: metrics of how far consumer groups are behind.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LagSection {
    /// Seconds between two looks at the groups; 0 looks never.
    pub every_seconds: u64,
    /// Also at the groups of other applications, whose names do not begin with `kafka.topic_prefix`.
    pub all_groups: bool,
}

impl LagSection {
    /// The time between two looks, where there are any.
    pub fn every(&self) -> Option<Duration> {
        (self.every_seconds > 0).then(|| Duration::from_secs(self.every_seconds))
    }
}

impl Default for LagSection {
    fn default() -> Self {
        Self {
            every_seconds: 10,
            all_groups: false,
        }
    }
}
