//! Rows as the four dialects' senders write them.

use std::collections::BTreeMap;

use millrace_schemas::{BehaviorEvent, BehaviorKind, DocId};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// A day after the recorded rows.
const NOW_MS: i64 = 1_700_086_400_000;
const DAY_MS: i64 = 86_400_000;

const OWN: &str = r#"{"event_id":"e-1","user_id":"u1","item":"4711","kind":"buy","value":2,"event_time_ms":1700000000123,"request_id":"r-1","trace_info":"t","scene_id":"home","position":3,"attributes":{"platform":"ios","size":7}}"#;
/// AIRec, PushDocument with `tableName` behavior; the fields are those of its news template.
const AIREC: &str = r#"{"cmd":"add","fields":{"trace_id":"9f1c7e","trace_info":"1007.5911.12351.1002000:::::","platform":"Android","device_model":"Mi 9","imei":"867000000000001","app_version":"1.0.2","net_type":"4","longitude":"","latitude":"","ip":"203.0.113.7","login":"1","report_src":"2","scene_id":"1001","user_id":"u1","item_id":"4711","item_type":"article","module_id":"feed","page_id":"home","position":"3","bhv_type":"stay","bhv_value":"12.5","bhv_time":"1700000000"}}"#;
/// Metarank, `doc/event-schema.md`, with RankLens's way to write the relevancy.
const RANKING: &str = r#"{"event":"ranking","id":"81f46c34-a4bb-469c-8708-f8127cd67d27","timestamp":"1700000000000","user":"u1","session":"s1","fields":[{"name":"query","value":"cat"},{"name":"tags","value":["a","b"]}],"items":[{"id":"item3","relevancy":2.0},{"id":"item1","fields":[{"name":"relevancy","value":1.0}]},{"id":"item2"}]}"#;
const INTERACTION: &str = r#"{"event":"interaction","id":"0f4c0036-04fb-4409-b2c6-7163a59f6b7d","ranking":"81f46c34-a4bb-469c-8708-f8127cd67d27","timestamp":"2023-11-14T22:13:20Z","user":"u1","session":"s1","type":"purchase","item":"item1","fields":[{"name":"count","value":1},{"name":"shipping","value":"DHL"}]}"#;
const ITEM: &str = r#"{"event":"item","id":"81f46c34-a4bb-469c-8708-f8127cd67d27","timestamp":"1700000000000","item":"item1","fields":[{"name":"title","value":"You favourite cat"},{"name":"color","value":["white","black"]},{"name":"is_cute","value":true}]}"#;
/// UBI 1.3.0, as the OpenSearch documentation's add_to_cart example has it.
const UBI: &str = r#"{"action_name":"add_to_cart","client_id":"c1","session_id":"s1","query_id":"00112233-4455-6677-8899-aabbccddeeff","timestamp":"2023-11-14T22:13:20.5Z","message_type":"CONVERSION","message":"Item added to cart","event_attributes":{"position":{"ordinal":3,"x":10},"object":{"object_id":"4711","object_id_field":"product","name":"A printer"},"dwell":2}}"#;
const UBI_EXIT: &str = r#"{"action_name":"page_exit","user_id":"1821196507152684","query_id":"00112233-4455-6677-8899-aabbccddeeff","timestamp":"2023-11-14T22:13:20.5Z","message_type":"INFO","event_attributes":{"position":{},"object":{"idleTimeoutMs":5000}}}"#;
const UBI_QUERY: &str = r#"{"query_id":"00112233-4455-6677-8899-aabbccddeeff","client_id":"c1","user_query":"printer","timestamp":"2023-11-14T22:13:20Z","query_response_hit_ids":["1","2"]}"#;

fn config() -> BehaviorConfig {
    BehaviorConfig {
        item_uri: Some("file:///data/items.jsonl.gz#{item}".into()),
        ..BehaviorConfig::default()
    }
}

fn reader() -> RowReader {
    RowReader::new(&config()).unwrap()
}

fn told(row: &str) -> Told {
    reader().read_json(row.as_bytes(), NOW_MS).unwrap()
}

fn events(row: &str) -> Vec<BehaviorEvent> {
    match told(row) {
        Told::Events(events) => events,
        Told::PassedOver(what) => panic!("{what}"),
    }
}

fn event(row: &str) -> BehaviorEvent {
    let mut events = events(row);
    assert_eq!(events.len(), 1);
    events.remove(0)
}

/// `OWN` with a field replaced, or removed by null.
fn own_with(field: &str, value: Value) -> String {
    let mut row: Value = serde_json::from_str(OWN).unwrap();
    row[field] = value;
    row.to_string()
}

fn refused(row: &str) -> &'static str {
    match reader().read_json(row.as_bytes(), NOW_MS) {
        Err(error) => error.error_type(),
        Ok(told) => panic!("{row} was read: {told:?}"),
    }
}

fn doc_id(item: &str) -> String {
    DocId::from_uri(&format!("file:///data/items.jsonl.gz#{item}")).into()
}

fn attributes<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs
        .map(|(name, value)| (name.into(), value.into()))
        .into()
}

#[test]
fn our_own_rows() {
    let expected = BehaviorEvent {
        event_id: "e-1".into(),
        user_id: "u1".into(),
        item_id: doc_id("4711"),
        item: "4711".into(),
        kind: BehaviorKind::Buy,
        value: Some(2.0),
        event_time_ms: 1_700_000_000_123,
        request_id: Some("r-1".into()),
        trace_info: Some("t".into()),
        scene_id: Some("home".into()),
        position: Some(3),
        attributes: attributes([("platform", "ios"), ("size", "7")]),
        source: "own".into(),
    };
    assert_eq!(event(OWN), expected);
    // What stands on the topic can be sent again.
    let again = serde_json::to_string(&expected).unwrap();
    assert_eq!(event(&again), expected);
}

#[test]
fn airec_rows() {
    let from_bulk = event(AIREC);
    assert_eq!(
        (from_bulk.kind, from_bulk.value, from_bulk.position),
        (BehaviorKind::Stay, Some(12.5), Some(3))
    );
    assert_eq!(from_bulk.event_time_ms, 1_700_000_000_000);
    assert_eq!(from_bulk.request_id.as_deref(), Some("9f1c7e"));
    assert_eq!(
        from_bulk.trace_info.as_deref(),
        Some("1007.5911.12351.1002000:::::")
    );
    assert_eq!(from_bulk.scene_id.as_deref(), Some("1001"));
    assert_eq!(from_bulk.attributes["device_model"], "Mi 9");
    assert!(
        !from_bulk.attributes.contains_key("longitude"),
        "empty fields are none"
    );
    let row: Value = serde_json::from_str(AIREC).unwrap();
    let mut bare = row["fields"].clone();
    assert_eq!(event(&bare.to_string()), from_bulk);

    // Of AIRec's own service the trace id only says whose recommendation it was.
    bare["trace_id"] = "Alibaba".into();
    bare["user_id"] = "".into();
    let anonymous = event(&bare.to_string());
    assert_eq!(anonymous.request_id, None);
    assert_eq!(anonymous.attributes["trace_id"], "Alibaba");
    assert_eq!(anonymous.user_id, "867000000000001", "known by imei");

    let mut update = row;
    update["cmd"] = "update".into();
    assert_eq!(refused(&update.to_string()), "unknown_command");
}

#[test]
fn metarank_events() {
    let shown = events(RANKING);
    let told: Vec<_> = shown
        .iter()
        .map(|e| (e.event_id.as_str(), e.item.as_str(), e.position, e.kind))
        .collect();
    let id = "81f46c34-a4bb-469c-8708-f8127cd67d27";
    let expose = |n: i32, item| (format!("{id}#{n}"), item, Some(n), BehaviorKind::Expose);
    let expected = [expose(1, "item3"), expose(2, "item1"), expose(3, "item2")];
    let expected: Vec<_> = expected
        .iter()
        .map(|(id, item, n, kind)| (id.as_str(), *item, *n, *kind))
        .collect();
    assert_eq!(told, expected);
    assert!(shown.iter().all(|e| e.request_id.as_deref() == Some(id)));
    assert_eq!(
        shown[1].attributes,
        attributes([
            ("query", "cat"),
            ("tags", r#"["a","b"]"#),
            ("session", "s1"),
            ("relevancy", "1.0")
        ])
    );
    assert_eq!(shown[0].attributes["relevancy"], "2.0");

    let bought = event(INTERACTION);
    assert_eq!(bought.kind, BehaviorKind::Buy);
    assert_eq!(bought.event_id, "0f4c0036-04fb-4409-b2c6-7163a59f6b7d");
    assert_eq!(bought.request_id.as_deref(), Some(id));
    assert_eq!(bought.event_time_ms, 1_700_000_000_000);
    assert_eq!(bought.attributes["shipping"], "DHL");

    assert_eq!(told_name(ITEM), "metarank_item");
    assert_eq!(
        told_name(r#"{"event":"user","id":"1","timestamp":"1","user":"u"}"#),
        "metarank_user"
    );
    let by_session = RANKING.replace(r#""user":"u1","#, "");
    assert_eq!(events(&by_session)[0].user_id, "s1");
}

fn told_name(row: &str) -> &'static str {
    match told(row) {
        Told::PassedOver(what) => what,
        events @ Told::Events(_) => panic!("{events:?}"),
    }
}

#[test]
fn ubi_events() {
    let added = event(UBI);
    assert_eq!(
        (added.kind, added.position, added.item.as_str()),
        (BehaviorKind::Cart, Some(3), "4711")
    );
    assert_eq!(added.user_id, "c1");
    assert_eq!(added.event_time_ms, 1_700_000_000_500);
    assert_eq!(
        added.request_id.as_deref(),
        Some("00112233-4455-6677-8899-aabbccddeeff")
    );
    assert_eq!(
        added.attributes,
        attributes([
            ("session_id", "s1"),
            ("message_type", "CONVERSION"),
            ("message", "Item added to cart"),
            ("dwell", "2"),
            ("object.name", "A printer"),
            ("object.object_id_field", "product"),
        ])
    );
    // The plugin's mapping takes milliseconds, and the schema times without a zone.
    for time in [
        json!(1_700_000_000_500_i64),
        json!("2023-11-14T22:13:20.500"),
    ] {
        let mut row: Value = serde_json::from_str(UBI).unwrap();
        row["timestamp"] = time;
        assert_eq!(event(&row.to_string()).event_time_ms, 1_700_000_000_500);
    }
    assert_eq!(told_name(UBI_EXIT), "ubi_no_object");
    assert_eq!(told_name(UBI_QUERY), "ubi_query");
}

#[test]
fn each_way_to_be_no_event_has_its_own_reason() {
    let long = "x".repeat(1 << 20);
    let far = NOW_MS + MAX_AHEAD_MS;
    for (row, expected) in [
        ("hello".to_owned(), "malformed_json"),
        (
            r#"{"kind":"click","value":NaN}"#.to_owned(),
            "malformed_json",
        ),
        (
            format!("{}{}", "[".repeat(500), "]".repeat(500)),
            "malformed_json",
        ),
        ("[1]".to_owned(), "malformed_row"),
        ("7".to_owned(), "malformed_row"),
        (r#"{"foo":1}"#.to_owned(), "unknown_dialect"),
        (own_with("user_id", Value::Null), "missing_field"),
        (own_with("item", Value::Null), "missing_field"),
        (own_with("event_time_ms", Value::Null), "missing_field"),
        (own_with("user_id", json!("")), "empty_id"),
        (own_with("user_id", json!(" \t")), "empty_id"),
        (own_with("user_id", json!("a\nb")), "control_character"),
        (own_with("item", json!("a\u{0}b")), "control_character"),
        (
            own_with("request_id", json!("a\u{85}")),
            "control_character",
        ),
        (own_with("user_id", json!(["u"])), "invalid_field"),
        (own_with("user_id", json!(long)), "row_too_long"),
        (
            own_with("user_id", json!("x".repeat(513))),
            "field_too_long",
        ),
        (
            own_with("trace_info", json!("x".repeat(5121))),
            "field_too_long",
        ),
        (
            own_with("attributes", json!({"a": "x".repeat(5121)})),
            "field_too_long",
        ),
        (
            own_with(
                "attributes",
                json!({"a": "x".repeat(5000), "b": "y".repeat(5000), "c": "z".repeat(500)}),
            ),
            "event_too_large",
        ),
        (
            own_with("attributes", json!({"a\n": "x"})),
            "control_character",
        ),
        (own_with("kind", json!("glance")), "unknown_kind"),
        (own_with("kind", json!("unknown")), "unknown_kind"),
        (own_with("kind", json!("Click")), "unknown_kind"),
        (own_with("value", json!("NaN")), "not_finite"),
        (own_with("value", json!("-inf")), "not_finite"),
        (own_with("value", json!("much")), "invalid_field"),
        (
            own_with("event_time_ms", json!("yesterday")),
            "invalid_event_time",
        ),
        (own_with("event_time_ms", json!(1.5)), "invalid_event_time"),
        (
            own_with("event_time_ms", json!(far + 1)),
            "event_time_in_future",
        ),
        (
            own_with("event_time_ms", json!(i64::MAX)),
            "event_time_in_future",
        ),
        (
            own_with("event_time_ms", json!(i64::MIN)),
            "event_time_too_old",
        ),
        (
            own_with("event_time_ms", json!(1_700_000_000)),
            "event_time_too_old",
        ),
        (own_with("position", json!(0)), "invalid_position"),
        (own_with("position", json!(-1)), "invalid_position"),
        (own_with("position", json!(1_i64 << 31)), "invalid_position"),
        (own_with("position", json!("first")), "invalid_field"),
        (own_with("item", json!("ftp://host/x")), "unresolved_item"),
        (
            AIREC.replace("1700000000", "1700000000000"),
            "event_time_in_future",
        ),
        (RANKING.replace("item2", "a\\nb"), "control_character"),
        (RANKING.replace(r#"{"id":"item2"}"#, "{}"), "missing_field"),
        (RANKING.replace(r#"{"id":"item2"}"#, "7"), "invalid_field"),
        (
            RANKING.replace(r#"{"id":"item2"}"#, &vec![r#"{"id":"i"}"#; 1000].join(",")),
            "too_many_items",
        ),
        (INTERACTION.replace("purchase", "stare"), "unknown_kind"),
    ] {
        assert_eq!(refused(&row), expected, "{}", error::beginning(&row));
    }
    let error = reader()
        .read_json(b"{\"kind\":\"\xFF\"}", NOW_MS)
        .unwrap_err();
    assert_eq!(error.error_type(), "not_utf8");
    // The edges.
    for time in [far, NOW_MS - 3650 * DAY_MS] {
        assert_eq!(
            event(&own_with("event_time_ms", json!(time))).event_time_ms,
            time
        );
    }
}

#[test]
fn numbers_may_be_texts_and_texts_numbers() {
    let mut row: Value = serde_json::from_str(OWN).unwrap();
    row["event_time_ms"] = "1.700000000123E12".into();
    row["value"] = "2.0".into();
    row["position"] = "3".into();
    row["item"] = 4711.into();
    row["user_id"] = 17.into();
    let read = event(&row.to_string());
    let expected = BehaviorEvent {
        user_id: "17".into(),
        ..event(OWN)
    };
    assert_eq!(read, expected);
}

#[test]
fn an_item_is_found_by_id_uri_or_template() {
    let item_id = |config: &BehaviorConfig, item: &str| {
        let row = own_with("item", json!(item));
        let reader = RowReader::new(config).unwrap();
        match reader.read_json(row.as_bytes(), NOW_MS) {
            Ok(Told::Events(events)) => events[0].item_id.clone(),
            other => format!("{other:?}"),
        }
    };
    let none = BehaviorConfig::default();
    let of = |uri: &str| DocId::from_uri(uri).as_str().to_owned();
    let id = "b0150f43927acf4ed9a32d3af0b8f90b";
    assert_eq!(item_id(&none, id), id);
    assert_eq!(item_id(&config(), id), id);
    assert_eq!(
        item_id(&none, "/data/a b.txt"),
        of("file:///data/a%20b.txt")
    );
    assert_eq!(item_id(&none, "oss://bucket/a b"), of("oss://bucket/a%20b"));
    assert_eq!(
        item_id(&config(), "a b#1"),
        of("file:///data/items.jsonl.gz#a%20b%231")
    );
    let objects = BehaviorConfig {
        item_uri: Some("s3://films/{item}.txt".into()),
        ..none.clone()
    };
    assert_eq!(item_id(&objects, "x/ü?"), of("s3://films/x/%C3%BC%3F.txt"));
    let refused = item_id(&objects, "a//b");
    assert!(refused.contains("ItemUri"), "{refused}");

    let reader = RowReader::new(&none).unwrap();
    let error = reader.read_json(OWN.as_bytes(), NOW_MS).unwrap_err();
    assert!(error.to_string().contains("behavior.item_uri"), "{error}");
    let no_room = BehaviorConfig {
        collector: collector::CollectorConfig {
            max_in_flight_bytes: 1 << 20,
            ..collector::CollectorConfig::default()
        },
        ..none.clone()
    };
    assert!(RowReader::new(&no_room).is_err());
    for template in ["", "file:///a", "{item}{item}", "ftp://a/{item}"] {
        let config = BehaviorConfig {
            item_uri: Some(template.into()),
            ..none.clone()
        };
        assert!(RowReader::new(&config).is_err(), "{template}");
    }
}

#[test]
fn further_kinds_are_configured() {
    let mut config = config();
    config.kinds.insert("stare".into(), "stay".into());
    let row = INTERACTION.replace("purchase", "stare");
    match RowReader::new(&config)
        .unwrap()
        .read_json(row.as_bytes(), NOW_MS)
    {
        Ok(Told::Events(events)) => assert_eq!(events[0].kind, BehaviorKind::Stay),
        other => panic!("{other:?}"),
    }
    config.kinds.insert("x".into(), "unknown".into());
    let error = RowReader::new(&config).unwrap_err();
    assert!(error.to_string().contains("\"x\""), "{error}");
}

#[test]
fn an_event_without_an_id_has_one_of_its_content() {
    let id = |row: &str| event(row).event_id;
    let plain = own_with("event_id", Value::Null);
    let derived = id(&plain);
    assert_eq!(derived.len(), 32);
    assert_eq!(id(&plain), derived);
    assert_ne!(id(OWN), derived);
    let differs = |field: &str, value: Value| {
        let mut row: Value = serde_json::from_str(&plain).unwrap();
        row[field] = value;
        assert_ne!(id(&row.to_string()), derived, "{field}");
    };
    differs("user_id", "u2".into());
    differs("item", "4712".into());
    differs("kind", "cart".into());
    differs("value", 3.into());
    differs("value", Value::Null);
    differs("event_time_ms", 1_700_000_000_124_i64.into());
    differs("request_id", Value::Null);
    differs("trace_info", "u".into());
    differs("scene_id", "t".into());
    differs("position", 4.into());
    differs("attributes", json!({"platform": "ios"}));
    // A time that is moved is the same event.
    let moved = reader().shifted(-5).read_json(plain.as_bytes(), NOW_MS);
    match moved {
        Ok(Told::Events(events)) => {
            assert_eq!(events[0].event_id, derived);
            assert_eq!(events[0].event_time_ms, 1_700_000_000_118);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_reason_is_listed_once() {
    let mut names = RowError::ERROR_TYPES.to_vec();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), RowError::ERROR_TYPES.len());
    for error in [RowError::NotUtf8, RowError::Dialect, RowError::NotAnObject] {
        assert!(names.contains(&error.error_type()));
    }
}

const RECORDED: [&str; 8] = [
    OWN,
    AIREC,
    RANKING,
    INTERACTION,
    ITEM,
    UBI,
    UBI_EXIT,
    UBI_QUERY,
];

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = reader().read_json(&bytes, NOW_MS);
    }

    /// Bytes that come close: a recorded row with a part replaced. What is read fits its schema.
    #[test]
    fn no_damaged_row_panics(which in 0..RECORDED.len(), at in any::<prop::sample::Index>(), length in 0usize..40, with in "\\PC{0,20}") {
        let row = RECORDED[which].as_bytes();
        let at = at.index(row.len());
        let damaged = [&row[..at], with.as_bytes(), &row[(at + length).min(row.len())..]].concat();
        for dialect in [None, Some(Dialect::Own), Some(Dialect::Airec), Some(Dialect::Metarank), Some(Dialect::Ubi)] {
            if let Ok(Told::Events(events)) = reader().of_dialect(dialect).read_json(&damaged, NOW_MS) {
                for event in events {
                    prop_assert!(DocId::parse(&event.item_id).is_some());
                    prop_assert!(!event.event_id.is_empty() && !event.user_id.is_empty());
                    prop_assert!(event.value.is_none_or(f64::is_finite));
                }
            }
        }
    }

    /// A field of a recorded row replaced by any JSON.
    #[test]
    fn no_field_panics(which in 0..RECORDED.len(), at in any::<prop::sample::Index>(), value in prop_oneof![
        Just(Value::Null), any::<i64>().prop_map(Value::from), any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from), Just(json!([])), Just(json!([{}])), Just(json!({"a": [1]})),
    ]) {
        let mut row: Value = serde_json::from_str(RECORDED[which]).unwrap();
        let fields = row.as_object_mut().unwrap();
        let name = fields.keys().nth(at.index(fields.len())).unwrap().clone();
        fields.insert(name, value);
        let _ = reader().read_json(row.to_string().as_bytes(), NOW_MS);
    }
}
