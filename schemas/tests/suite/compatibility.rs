//! Committed schemas never change, and every version reads every other.

use std::path::Path;

use apache_avro::schema_compatibility::SchemaCompatibility;
use millrace_schemas::catalogue;
use sha2::{Digest, Sha256};

/// Topic, version, CRC-64-AVRO of the canonical form as on the wire (and as fastavro 1.13 computes it
/// of the file), SHA-256 of the file.
/// A new version adds a line; no line ever changes. The file's hash covers what the canonical form
/// leaves out: defaults, logical types, docs.
const PINNED: &[(&str, &str, &str, &str)] = &[
    (
        "documents",
        "v1",
        "5125776175c4574c",
        "2527026c4d274cfd5015a4fa2ce92154387850aa0aa59aa0bb80075506318021",
    ),
    (
        "signals",
        "v1",
        "2eefb6c5216a54e3",
        "dea88cedd191e7f35f9f85c5a50430275406bbe24fd06f37e31e138122982769",
    ),
    (
        "signals",
        "v2",
        "ae288dba1360f3be",
        "2381802b47f446fda1c3acf7012eea157796f82a15cb7efc656618c87ef562f4",
    ),
    (
        "signals",
        "v3",
        "1f0ffb7ba7bf4cb2",
        "5ae19738fd42cac5549be520128d18317c8c923b6947f3d2f13e1f7b92698c5c",
    ),
    (
        "documents.outcomes",
        "v1",
        "3f5a2cbabc4242eb",
        "14b81aec91a4adb8c4e43b6e32c4c43b28d1d94d37fa33c7d110e650df8f8fb2",
    ),
    (
        "behavior",
        "v1",
        "29fe8da84f778ab8",
        "6f61f5a1ba4a927e8a3b22a0836692f103432650bba600162c0f618a94bb2e20",
    ),
    (
        "behavior.by-item",
        "v1",
        "046a8ac4c61073f3",
        "1498a596c2c21d02a78af64ae197db1e48a29f2828e3496abf80262d92ece0d9",
    ),
    (
        "behavior.by-request",
        "v1",
        "50dff52bd0c7b7ee",
        "f3f2635fd8c9fc6b3c5233f6e5909d6883853b89fe6edb823b94838d5f18700d",
    ),
    (
        "behavior.unmatched",
        "v1",
        "77140b1f2cb21013",
        "e95ac970d6547103ebe84d49a024179fbfbf990601d9520cc8c59e2e25a8be5b",
    ),
    (
        "feedback",
        "v1",
        "b311f61662e524dc",
        "434fa8c28ab8f215d17cc77b2e31f298c167e6c7c3c0cb4ba683a3b3dfd771ec",
    ),
    (
        "feedback",
        "v2",
        "a94071eea251f68b",
        "be25233cb4e6c1ece8b1c797baaaa7be0afbf9c7eec302f255b6f56c09c20ad4",
    ),
    (
        "item-stats",
        "v1",
        "e6f766a3f7c9304e",
        "50cd6728ccdb9ca5ac0fe1c651cef5d46ebc8ca7673cf5072fb3394cf3f27fc6",
    ),
    (
        "impressions",
        "v1",
        "9ba230679e7def29",
        "3b32cb78febeb616a7dbc5b30671cc0626826c2a29e2fdaa345b433b98727f49",
    ),
    (
        "impressions",
        "v2",
        "f8adbc87bcb78d88",
        "dad9eb353b945a74edab032b4c5bbee7d1256917e64e040f8ea925e5c617f860",
    ),
    (
        "training",
        "v1",
        "13731f945fba7436",
        "6f310619dae0fe4156df9e687505017c3898c61b4f66869dc914c35bf3f21967",
    ),
    (
        "users",
        "v1",
        "d8282cdb0fab95c7",
        "f6939b26bb90ecf1d8c368e91b559d6d3a79a99f5b1af4241c30d495c5d3ff6c",
    ),
    (
        "audit",
        "v1",
        "c84e0920a8103d12",
        "a5d834c4fddbcd00477ade38dc9c50eb479757f3f8ad3228822bfbdf5e7bad27",
    ),
    (
        "dlq.resolved",
        "v1",
        "8d7844eff9dc5cef",
        "f26213de7296590716748b411d1778f2b5f40b0f4aa5896906fcb23bd26f30f2",
    ),
    (
        "rollouts",
        "v1",
        "1228f922a7fe8fac",
        "219abf6249211c0586678d9895e68cc0ec130fcaf1f677ee0fb4888d22071a87",
    ),
];

#[test]
fn a_committed_schema_never_changes() {
    let actual: Vec<(&str, &str, String, String)> = catalogue()
        .iter()
        .flat_map(|topic| {
            topic
                .versions()
                .iter()
                .zip(topic.fingerprints())
                .map(|(version, fingerprint)| {
                    let file = hex::encode(Sha256::digest(version.text.as_bytes()));
                    (topic.topic(), version.name, hex::encode(fingerprint), file)
                })
        })
        .collect();
    let actual: Vec<(&str, &str, &str, &str)> = actual
        .iter()
        .map(|(t, v, f, s)| (*t, *v, f.as_str(), s.as_str()))
        .collect();
    assert_eq!(
        actual, PINNED,
        "commit a new version instead of changing one"
    );
}

#[test]
fn every_file_is_in_the_catalogue() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("avro");
    let mut files = Vec::new();
    for topic in root.read_dir().unwrap().map(Result::unwrap) {
        for file in topic.path().read_dir().unwrap().map(Result::unwrap) {
            files.push(format!(
                "{}/{}",
                topic.file_name().display(),
                file.file_name().display()
            ));
        }
    }
    let mut known: Vec<String> = catalogue()
        .iter()
        .flat_map(|topic| {
            topic
                .versions()
                .iter()
                .map(|version| format!("{}/{}.avsc", topic.topic(), version.name))
        })
        .collect();
    files.sort();
    known.sort();
    assert_eq!(files, known);
}

#[test]
fn every_version_reads_every_other() {
    for topic in catalogue() {
        for (writer, writer_version) in topic.parsed().iter().zip(topic.versions()) {
            for (reader, reader_version) in topic.parsed().iter().zip(topic.versions()) {
                let (writer_name, reader_name) = (writer_version.name, reader_version.name);
                if let Err(error) = SchemaCompatibility::can_read(writer, reader) {
                    panic!(
                        "{}: {reader_name} cannot read {writer_name}: {error}",
                        topic.topic()
                    );
                }
            }
        }
    }
}

/// What is passed on by item is the event itself: the two schemas of it must not drift apart.
#[test]
fn behavior_by_item_carries_the_newest_event() {
    let newest = |topic: &str| -> serde_json::Value {
        let topic = catalogue().into_iter().find(|t| t.topic() == topic);
        serde_json::from_str(topic.unwrap().versions().last().unwrap().text).unwrap()
    };
    let mut event = newest("behavior");
    event.as_object_mut().unwrap().remove("namespace");
    assert_eq!(newest("behavior.by-item")["fields"][0]["type"], event);
}

#[test]
fn fingerprints_tell_the_versions_of_a_topic_apart() {
    for topic in catalogue() {
        let mut fingerprints = topic.fingerprints().to_vec();
        fingerprints.sort_unstable();
        fingerprints.dedup();
        assert_eq!(
            fingerprints.len(),
            topic.versions().len(),
            "{}",
            topic.topic()
        );
    }
}

/// Without a default an enum could never get another symbol: older readers would fail on it.
#[test]
fn every_enum_has_a_default() {
    fn enums_without_default(schema: &serde_json::Value, found: &mut Vec<String>) {
        match schema {
            serde_json::Value::Object(object) => {
                if object.get("type").is_some_and(|kind| kind == "enum")
                    && !object.contains_key("default")
                {
                    found.push(object["name"].to_string());
                }
                object
                    .values()
                    .for_each(|value| enums_without_default(value, found));
            }
            serde_json::Value::Array(items) => {
                items
                    .iter()
                    .for_each(|value| enums_without_default(value, found));
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    for version in catalogue().iter().flat_map(|topic| topic.versions()) {
        enums_without_default(&serde_json::from_str(version.text).unwrap(), &mut found);
    }
    assert_eq!(found, Vec::<String>::new());
}
