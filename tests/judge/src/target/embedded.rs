//! `millrace up` in a folder of its own.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use millrace_kafka::KafkaConfig;
use serde_json::json;

use super::member::Member;
use super::process_group::ProcessGroup;
use super::{
    IndexPlace, ProfilesPlace, Target, common_config, free_port, group, program, session_options,
};
use crate::object_server::ObjectServer;
use crate::schedule::{Role, TargetKind};

const INDEX: &str = "millrace-documents";

/// Starts it.
///
/// # Errors
/// A port, a file or the process can't be had.
pub fn start(binary: &Path, folder: &Path, store: &ObjectServer) -> anyhow::Result<Target> {
    let (api, broker) = (free_port()?, free_port()?);
    let (data, watched) = (folder.join("data"), folder.join("watched"));
    std::fs::create_dir_all(&watched).context("can't make the watched folder")?;
    let mut config = common_config(store);
    config["data_dir"] = json!(data);
    config["api"] = json!({ "listen": format!("127.0.0.1:{api}") });
    config["broker"] = json!({ "listen": format!("127.0.0.1:{broker}") });
    config["kafka"] = json!({ "librdkafka_options": session_options() });
    config["uploads"] = json!({ "folders": [watched] });
    let processes = ProcessGroup::begin(folder)?;
    let up = program(
        binary,
        folder,
        Role::Up.name(),
        &["up"],
        &config,
        processes.id(),
    )?;
    let kafka = KafkaConfig {
        bootstrap: format!("127.0.0.1:{broker}"),
        client_id: "judge".to_owned(),
        librdkafka_options: session_options(),
        ..KafkaConfig::default()
    };
    let api = format!("http://127.0.0.1:{api}");
    Ok(Target {
        kind: TargetKind::Embedded,
        members: BTreeMap::from([(Role::Up, Member::start(Role::Up, up)?)]),
        notices_api: api.clone(),
        events_api: api.clone(),
        profiles: ProfilesPlace::Folder(data.join("state/profiles")),
        search_api: api,
        group: group(&kafka.topic_prefix, INDEX),
        kafka,
        index_name: INDEX.to_owned(),
        index: IndexPlace::Folder(data.join("index")),
        broker: None,
        broker_topics: Some(data.join("broker/topics")),
        relays: BTreeMap::new(),
        state_relay: None,
        search_proxy: None,
        reconcile: None,
        watched,
        processes,
    })
}
