//! Two vectorizers and the uploads role as processes of their own, on a real Kafka and OpenSearch.
//!
//! The judge starts a Kafka of its own, to kill it; vectorizer 1 reaches it through a relay.
//! OpenSearch is the one that `infra/servers/servers` runs, with an index of its own, behind the
//! fault proxy.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use millrace_kafka::KafkaConfig;
use serde_json::{Value, json};

use super::kafka_server::KafkaServer;
use super::member::Member;
use super::{IndexPlace, Target, common_config, free_port, group, program, session_options};
use crate::faults::http_rules::HttpRules;
use crate::faults::relay::Relay;
use crate::faults::search_proxy::SearchProxy;
use crate::object_server::ObjectServer;
use crate::report::FaultCounts;
use crate::schedule::{Role, TargetKind};

/// Starts it.
///
/// # Errors
/// A server, a port, a file or a process can't be had.
pub async fn start(
    binary: &Path,
    folder: &Path,
    store: &ObjectServer,
    seed: u64,
    counts: FaultCounts,
) -> anyhow::Result<Target> {
    let opensearch = millrace_servers::opensearch()?;
    let name = millrace_servers::unique_name("judge");
    let watched = folder.join("watched");
    std::fs::create_dir_all(&watched).context("can't make the watched folder")?;
    let (port, behind_relay, relay_port) = (kafka_port()?, free_port()?, free_port()?);
    let broker = KafkaServer::start(folder, port, &[(behind_relay, relay_port)]).await?;
    let relay = Relay::start(relay_port, ([127, 0, 0, 1], behind_relay).into()).await?;
    let proxy = SearchProxy::start(opensearch.clone(), HttpRules::new(seed ^ 2, counts)).await?;

    let kafka = KafkaConfig {
        bootstrap: format!("127.0.0.1:{port}"),
        topic_prefix: format!("{name}."),
        client_id: "judge".to_owned(),
        librdkafka_options: session_options(),
        ..KafkaConfig::default()
    };
    let config = |role: Role, api: u16, bootstrap: u16| -> Value {
        let mut config = common_config(store);
        config["profile"] = json!("cluster");
        config["data_dir"] = json!(folder.join(format!("{}-data", role.name())));
        config["api"] = json!({ "listen": format!("127.0.0.1:{api}") });
        config["objects"]["allowed_roots"] = json!([watched]);
        config["index"] = json!({
            "name": name,
            "opensearch": {
                "nodes": [proxy.url()],
                "replicas": 0,
                "timeout_ms": 10_000,
                "refresh_interval_ms": 200,
            },
        });
        config["kafka"] = json!({
            "bootstrap": format!("127.0.0.1:{bootstrap}"),
            "topic_prefix": kafka.topic_prefix,
            // No `group_instance_id`: a static member that restarts between the two steps of a
            // cooperative rebalance leaves partitions without an owner (ARCHITECTURE.md, limits).
            "client_id": role.name(),
            "librdkafka_options": session_options(),
        });
        if role == Role::Uploads {
            config["uploads"] = json!({ "folders": [watched] });
        }
        config
    };
    let mut members = BTreeMap::new();
    let mut apis = BTreeMap::new();
    for (role, subcommand, bootstrap) in [
        (Role::Vectorizer1, "vectorizer", relay_port),
        (Role::Vectorizer2, "vectorizer", port),
        (Role::Uploads, "uploads", port),
    ] {
        let api = free_port()?;
        let config = config(role, api, bootstrap);
        let program = program(binary, folder, role, &["run", subcommand], &config)?;
        members.insert(role, Member::start(role, program)?);
        apis.insert(role, format!("http://127.0.0.1:{api}"));
    }
    Ok(Target {
        kind: TargetKind::Real,
        members,
        notices_api: apis[&Role::Uploads].clone(),
        events_api: None,
        profiles: None,
        search_api: apis[&Role::Vectorizer2].clone(),
        group: group(&kafka.topic_prefix, &name),
        kafka,
        index_name: name,
        index: IndexPlace::OpenSearch(opensearch),
        broker: Some(broker),
        relays: BTreeMap::from([(Role::Vectorizer1, relay)]),
        search_proxy: Some(proxy),
        watched,
    })
}

/// Kafka takes the port after its own too.
fn kafka_port() -> anyhow::Result<u16> {
    loop {
        let port = free_port()?;
        if std::net::TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return Ok(port);
        }
    }
}
