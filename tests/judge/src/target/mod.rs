//! The pipeline under test: which processes it has, and how each is configured.

pub mod embedded;
pub mod kafka_server;
pub mod member;
pub mod process_group;
pub mod real;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use millrace_index::IndexSpec;
use millrace_kafka::KafkaConfig;
use millrace_state::ValkeyConfig;
use serde_json::{Value, json};

use self::kafka_server::KafkaServer;
use self::member::{Member, Program};
use self::process_group::{ProcessGroup, ProcessGroupId};
use crate::faults::relay::Relay;
use crate::faults::search_proxy::SearchProxy;
use crate::object_server::{BUCKET, ObjectServer};
use crate::schedule::{Role, TargetKind};

/// The index's name and generation, as the configuration and `millrace` itself have them.
const GENERATION: u32 = 1;

/// Where the index is read once the processes have left.
#[derive(Clone, Debug)]
pub enum IndexPlace {
    /// The embedded one, a folder.
    Folder(PathBuf),
    /// OpenSearch itself, without the proxy.
    OpenSearch(String),
}

/// Where profiles are read once the processes have left.
#[derive(Clone, Debug)]
pub enum ProfilesPlace {
    /// A folder of the embedded state.
    Folder(PathBuf),
    /// A namespace of a Redis.
    Valkey {
        /// Which Redis, without a relay.
        config: ValkeyConfig,
        /// Which keys of it.
        namespace: String,
    },
}

/// A running pipeline.
pub struct Target {
    /// Which.
    pub kind: TargetKind,
    /// Its processes.
    pub members: BTreeMap<Role, Member>,
    /// The API that takes notices.
    pub notices_api: String,
    /// The API that takes behavior.
    pub events_api: String,
    /// Where profiles are kept.
    pub profiles: ProfilesPlace,
    /// The API that searches.
    pub search_api: String,
    /// Its brokers, without a relay.
    pub kafka: KafkaConfig,
    /// The vectorizers' group.
    pub group: String,
    /// Name of the index.
    pub index_name: String,
    /// Where the index is.
    pub index: IndexPlace,
    /// The broker, where it is a process of its own.
    pub broker: Option<KafkaServer>,
    /// Where the embedded broker keeps its topics.
    pub broker_topics: Option<PathBuf>,
    /// Between a role and the broker.
    pub relays: BTreeMap<Role, Relay>,
    /// Between the roles and the Redis of their states.
    pub state_relay: Option<Relay>,
    /// Between the roles and OpenSearch.
    pub search_proxy: Option<SearchProxy>,
    /// `millrace reconcile --repair` but for what to compare; none where two processes never act
    /// for one document.
    pub reconcile: Option<Program>,
    /// The watched folder.
    pub watched: PathBuf,
    /// Last, so that it is dropped last: what has not ended by then is killed.
    pub processes: ProcessGroup,
}

impl Target {
    /// What the index must be, as the running pipeline tells it.
    ///
    /// # Errors
    /// Its API does not answer.
    pub async fn index_spec(&self) -> anyhow::Result<IndexSpec> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(std::time::Duration::from_secs(30))
            .build()?;
        let info: Value = http
            .get(format!("{}/v1/info", self.search_api))
            .send()
            .await?
            .json()
            .await?;
        let index = &info["index"];
        let text = |key: &str| -> anyhow::Result<String> {
            let value = index[key].as_str();
            Ok(value
                .with_context(|| format!("no {key} in {info}"))?
                .to_owned())
        };
        Ok(IndexSpec {
            name: self.index_name.clone(),
            generation: GENERATION,
            dimension: index["dimension"]
                .as_u64()
                .and_then(|dimension| dimension.try_into().ok())
                .with_context(|| format!("no dimension in {info}"))?,
            model_version: text("model_version")?,
            model_fingerprint: text("model_fingerprint")?,
            engine: millrace_index::KnnEngine::default(),
        })
    }
}

/// The group of the vectorizers that write the index `name`.
fn group(topic_prefix: &str, index: &str) -> String {
    format!("{topic_prefix}vectorizer.{index}-{GENERATION:06}")
}

/// For every member of the vectorizers' group: one that is gone without a word is missed soon. The
/// shortest that Kafka allows by default.
fn session_options() -> BTreeMap<String, String> {
    let options = [
        ("session.timeout.ms", "6000"),
        ("heartbeat.interval.ms", "1000"),
    ];
    options
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

/// Settings that both targets share: short chunks, so that few words make a document of several;
/// a small limit of text, so that a zip bomb costs little.
fn common_config(store: &ObjectServer) -> Value {
    json!({
        "objects": {
            "allowed_buckets": [format!("s3://{BUCKET}")],
            "request_timeout_ms": 5_000,
            "s3": {
                "endpoint": store.url(),
                "region": "us-east-1",
                "access_key_id": "judge",
                "secret_access_key": "secret",
            },
        },
        "vectorizer": {
            "chunk": { "target_tokens": 16, "overlap_tokens": 0 },
            "extract": { "max_text_bytes": 1 << 20 },
        },
        "telemetry": { "log": "warn,millrace=info" },
    })
}

/// Writes a configuration under this name; the program that runs with it.
fn program(
    binary: &Path,
    folder: &Path,
    name: &str,
    subcommand: &[&str],
    config: &Value,
    group: ProcessGroupId,
) -> anyhow::Result<Program> {
    let file = folder.join(format!("{name}.toml"));
    std::fs::write(&file, toml::to_string(config)?)
        .with_context(|| format!("can't write {}", file.display()))?;
    let mut arguments: Vec<String> = subcommand.iter().map(|&word| word.to_owned()).collect();
    let config = file.to_str().context("the folder's name is UTF-8")?;
    arguments.extend([
        "--json".to_owned(),
        "--config".to_owned(),
        config.to_owned(),
    ]);
    Ok(Program {
        binary: binary.to_owned(),
        arguments,
        folder: folder.to_owned(),
        group,
    })
}

/// A port that nobody listens on, below the range from which the system gives out ports to
/// clients: a process that is killed finds it free again.
fn free_port() -> anyhow::Result<u16> {
    for _ in 0..100 {
        let port = fastrand::u16(20_000..30_000);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port found between 20000 and 30000")
}

/// The `millrace` binary: the one that is named, else the one beside this program.
///
/// # Errors
/// There is none.
pub fn find_binary(named: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    if let Some(path) = named {
        ensure!(path.is_file(), "{} is no file", path.display());
        return Ok(path.canonicalize()?);
    }
    let program = std::env::current_exe()?;
    // A test's program is one folder deeper.
    let beside = program.ancestors().skip(1).take(2);
    for folder in beside {
        let candidate = folder.join("millrace");
        if candidate.is_file() {
            return Ok(candidate);
        }
    }
    bail!(
        "no millrace beside {}; build it with `cargo build --bin millrace`, or name it with --millrace",
        program.display()
    )
}
