//! All roles as processes of their own, two vectorizers and two joiners, on a real Kafka, OpenSearch
//! and Redis.
//!
//! The judge starts a Kafka of its own, to kill it; vectorizer 1 and joiner 1 reach it through relays.
//! The states are in the Redis that `infra/servers/servers` runs, under names of their own, behind a
//! relay.
//! OpenSearch is the one that `infra/servers/servers` runs, with an index of its own, behind the
//! fault proxy.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;
use millrace_kafka::KafkaConfig;
use millrace_state::ValkeyConfig;
use serde_json::{Value, json};

use super::kafka_server::KafkaServer;
use super::member::Member;
use super::process_group::ProcessGroup;
use super::{
    IndexPlace, ProfilesPlace, Target, common_config, free_port, group, program, session_options,
};
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
    let redis = millrace_servers::redis()?;
    let name = millrace_servers::unique_name("judge");
    let watched = folder.join("watched");
    std::fs::create_dir_all(&watched).context("can't make the watched folder")?;
    let processes = ProcessGroup::begin(folder)?;
    let port = kafka_port()?;
    let relayed = [Role::Vectorizer1, Role::Joiner1];
    let listeners = [(free_port()?, free_port()?), (free_port()?, free_port()?)];
    let broker = KafkaServer::start(folder, port, &listeners).await?;
    let mut relays = BTreeMap::new();
    let mut bootstraps = BTreeMap::new();
    for (role, (behind, relay)) in relayed.into_iter().zip(listeners) {
        relays.insert(role, Relay::start(relay, loopback(behind)).await?);
        bootstraps.insert(role, relay);
    }
    let state_port = free_port()?;
    let state_relay = Relay::start(state_port, address_of(&redis)?).await?;
    let proxy = SearchProxy::start(opensearch.clone(), HttpRules::new(seed ^ 2, counts)).await?;

    let kafka = KafkaConfig {
        bootstrap: format!("127.0.0.1:{port}"),
        topic_prefix: format!("{name}."),
        client_id: "judge".to_owned(),
        librdkafka_options: session_options(),
        ..KafkaConfig::default()
    };
    let config = |role: &str, api: u16, bootstrap: u16| -> Value {
        let mut config = common_config(store);
        config["profile"] = json!("cluster");
        config["data_dir"] = json!(folder.join(format!("{role}-data")));
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
            "client_id": role,
            "librdkafka_options": session_options(),
        });
        config["state"] = json!({ "valkey": { "url": format!("redis://127.0.0.1:{state_port}") } });
        if role == Role::Uploads.name() {
            config["uploads"] = json!({ "folders": [watched] });
        }
        config
    };
    let mut members = BTreeMap::new();
    let mut apis = BTreeMap::new();
    for (role, subcommand) in [
        (Role::Vectorizer1, "vectorizer"),
        (Role::Vectorizer2, "vectorizer"),
        (Role::Uploads, "uploads"),
        (Role::Collector, "collector"),
        (Role::Joiner1, "joiner"),
        (Role::Joiner2, "joiner"),
        (Role::Profiles, "profiles"),
    ] {
        let api = free_port()?;
        let bootstrap = bootstraps.get(&role).copied().unwrap_or(port);
        let config = config(role.name(), api, bootstrap);
        let subcommand = ["run", subcommand];
        let program = program(
            binary,
            folder,
            role.name(),
            &subcommand,
            &config,
            processes.id(),
        )?;
        members.insert(role, Member::start(role, program)?);
        apis.insert(role, format!("http://127.0.0.1:{api}"));
    }
    let reconcile = program(
        binary,
        folder,
        "reconcile",
        &["reconcile", "--repair"],
        &config("reconcile", free_port()?, port),
        processes.id(),
    )?;
    Ok(Target {
        kind: TargetKind::Real,
        members,
        notices_api: apis[&Role::Uploads].clone(),
        events_api: apis[&Role::Collector].clone(),
        profiles: ProfilesPlace::Valkey {
            config: ValkeyConfig {
                url: redis,
                ..ValkeyConfig::default()
            },
            namespace: format!("{}profiles", kafka.topic_prefix),
        },
        search_api: apis[&Role::Vectorizer2].clone(),
        group: group(&kafka.topic_prefix, &name),
        kafka,
        index_name: name,
        index: IndexPlace::OpenSearch(opensearch),
        broker_topics: None,
        broker: Some(broker),
        relays,
        state_relay: Some(state_relay),
        search_proxy: Some(proxy),
        reconcile: Some(reconcile),
        watched,
        processes,
    })
}

fn loopback(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// Of `redis://host:port`.
fn address_of(redis: &str) -> anyhow::Result<SocketAddr> {
    let address = redis.trim_start_matches("redis://").trim_end_matches('/');
    address
        .parse()
        .with_context(|| format!("{redis} names no address and port"))
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
