//! Values of every framing come back as they were written, and no bytes make reading panic.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use millrace_schemas::{
    AuditEvent, AuditPhase, BehaviorByItem, BehaviorByRequest, BehaviorEvent, BehaviorKind, Bucket,
    DeadLetterResolution, DocumentEvent, DocumentNotice, DocumentOutcome, Feedback, Framing,
    GateVerdict, Impression, ImpressionItem, ItemCounters, ItemStats, Layout, Message, Origin,
    OutcomeKind, PositionCounts, ProfileRead, ReadUpTo, Resolution, Rollout, RolloutGate,
    RolloutGeneration, RolloutPhase, SchemaError, SchemaRegistry, Signal, TrainingExample,
    UnmatchedBehavior, User, WriterSchema, decode, decode_with, encode,
};
use proptest::prelude::*;

fn notice(uri: String, content: Option<Vec<u8>>, event_time_ms: i64) -> DocumentNotice {
    DocumentNotice {
        uri,
        event: DocumentEvent::Removed,
        event_time_ms,
        etag: Some("\"abc\"".into()),
        size_bytes: Some(3),
        media_type: None,
        content,
        title: Some("Tîtle".into()),
        layout: Layout::Passage,
        metadata: BTreeMap::from([("tags".into(), "a,b".into())]),
        min_version: None,
        source: "corpus".into(),
    }
}

fn signal(vector: Vec<f32>) -> Signal {
    Signal {
        item_id: "0123".into(),
        uri: "file:///a".into(),
        document_version: i64::MAX,
        model_version: "m1".into(),
        vector,
        title: None,
        language: Some("en".into()),
        media_type: "text/plain".into(),
        categories: vec!["c".into()],
        tags: vec![],
        key_phrases: vec!["two words".into()],
        near_duplicate_hash: i64::MIN,
        published_at_ms: Some(-1),
        deleted: false,
        etag: None,
        size_bytes: None,
        metadata: BTreeMap::new(),
        origin: Origin {
            topic: "millrace.documents".into(),
            partition: 3,
            offset: 9,
        },
    }
}

fn outcome() -> DocumentOutcome {
    DocumentOutcome {
        uri: "file:///a".into(),
        doc_id: "d".into(),
        outcome: OutcomeKind::DeadLettered,
        version: 7,
        chunks: 1,
        tokens: 2,
        fetch_ms: 3,
        extract_ms: 4,
        embed_ms: 5,
        index_ms: 6,
        total_ms: 7,
        error_type: Some("too_large".into()),
        message: None,
        traceparent: None,
        origin: Origin {
            topic: "millrace.documents".into(),
            partition: 0,
            offset: 0,
        },
        finished_at_ms: 8,
    }
}

fn click(user_id: String, value: Option<f64>) -> BehaviorEvent {
    BehaviorEvent {
        event_id: "e-1".into(),
        user_id,
        item_id: "b0150f43927acf4ed9a32d3af0b8f90b".into(),
        item: "4711".into(),
        kind: BehaviorKind::Click,
        value,
        event_time_ms: 1_700_000_000_123,
        request_id: Some("r-1".into()),
        trace_info: None,
        scene_id: Some("home".into()),
        position: Some(3),
        attributes: BTreeMap::from([("platform".into(), "ios".into())]),
        source: "airec".into(),
    }
}

fn round_trip<M: Message + PartialEq + std::fmt::Debug>(message: &M) {
    for framing in [Framing::SingleObject, Framing::Json] {
        let value = encode(message, &framing).unwrap();
        assert_eq!(&decode::<M>(&value).unwrap(), message, "{framing:?}");
    }
}

#[test]
fn every_message_round_trips() {
    round_trip(&notice("file:///a".into(), Some(vec![0, 255, 10]), 1));
    round_trip(&notice("file:///a".into(), None, 1));
    round_trip(&signal((0..384_u16).map(f32::from).collect()));
    round_trip(&outcome());
    for kind in BehaviorKind::ALL {
        let event = BehaviorEvent {
            kind,
            ..click("u".into(), Some(-0.5))
        };
        round_trip(&event);
        round_trip(&BehaviorByRequest {
            event: event.clone(),
            origin: outcome().origin,
        });
        round_trip(&BehaviorByItem {
            event,
            origin: outcome().origin,
        });
        assert_eq!(kind.as_str().parse(), Ok(kind));
    }
    assert!("unknown".parse::<BehaviorKind>().is_err());
    let feedback = Feedback {
        event: click("u".into(), None),
        origin: outcome().origin,
        item: signal(vec![0.5, -0.25]).into(),
        expected_ctr: Some(0.05),
    };
    round_trip(&UnmatchedBehavior {
        event: feedback.event.clone(),
        origin: outcome().origin,
        waited_ms: 600_000,
        watermark_ms: 1_700_000_600_123,
    });
    round_trip(&feedback);
    let bucket = Bucket {
        number: 28_333_333,
        impressions: 5,
        clicks: 1,
        others: BTreeMap::from([("buy".into(), 1)]),
        positions: vec![PositionCounts {
            position: 3,
            impressions: 5,
            clicks: 1,
        }],
    };
    round_trip(&ItemStats {
        item_id: feedback.event.item_id,
        counters: ItemCounters {
            minutes: vec![bucket.clone()],
            hours: vec![],
            days: vec![bucket],
        },
        generation: 1,
        epoch: 2,
        revision: 3,
        origin: outcome().origin,
    });
    let impression = Impression {
        request_id: "r".into(),
        user_id: "u".into(),
        scene: "home".into(),
        pipeline: "default".into(),
        bucket: None,
        served_at_ms: 1_700_000_000_123,
        items: vec![ImpressionItem {
            item_id: "0".repeat(32),
            position: 1,
            score: -0.5,
            features: vec![0.25, f32::NAN],
            propensity: 0.01,
            explored: true,
            sources: vec!["trending".into()],
        }],
        feature_version: "features@1".into(),
        ranker_version: "weighted".into(),
        embedding_version: "model".into(),
        index_version: String::new(),
        bm25_weight: 0.3,
        vector_weight: 0.7,
        weight_probability: 1.0,
        fallback: Some("unknown_user".into()),
        read_up_to: vec![ReadUpTo {
            topic: "signals".into(),
            partition: 0,
            offset: 9,
        }],
        profile: Some(ProfileRead {
            partition: 2,
            offset: 7,
            events: 3,
            rebuilt: true,
        }),
    };
    round_trip(&impression);
    let mut example = TrainingExample::without_clicks(impression, 1_800_000, outcome().origin);
    round_trip(&example);
    example.count_click(0, 1_700_000_000_500);
    example.count_click(0, 1_700_000_000_400);
    assert_eq!((example.revision, example.items[0].clicks), (3, 2));
    assert_eq!(example.items[0].first_click_ms, Some(1_700_000_000_400));
    round_trip(&example);
    round_trip(&User {
        user_id: "u".into(),
        fields: BTreeMap::from([("city".into(), "Hangzhou".into())]),
        deleted: false,
        updated_at_ms: 1_700_000_000_123,
        source: "airec".into(),
    });
    for phase in [AuditPhase::Begun, AuditPhase::Done, AuditPhase::Failed] {
        round_trip(&AuditEvent {
            id: "a-1".into(),
            action: "dlq.replay".into(),
            phase,
            who: "ada@host".into(),
            at_ms: 1_700_000_000_123,
            arguments: BTreeMap::from([("stage".into(), "extract".into())]),
            counts: BTreeMap::from([("replayed".into(), 3)]),
            message: Some("why".into()),
        });
    }
    for (resolution, published_as) in [
        (Resolution::Replayed, Some(outcome().origin)),
        (Resolution::Discarded, None),
    ] {
        let generation = |generation, model: &str| RolloutGeneration {
            generation,
            model_version: format!("{model}@0123456789ab"),
            model_fingerprint: "0123456789abcdef".to_owned(),
        };
        round_trip(&Rollout {
            index: "millrace-documents".to_owned(),
            phase: RolloutPhase::RollingBack,
            from: generation(1, "one"),
            to: generation(2, "two"),
            who: "ada@host".to_owned(),
            phases: [("building".to_owned(), 1_700_000_000_000)].into(),
            filled: 3,
            gates: vec![RolloutGate {
                gate: "retrieval".to_owned(),
                verdict: GateVerdict::NotMeasured,
                figures: "no judged set".to_owned(),
            }],
        });
        round_trip(&DeadLetterResolution {
            topic: "millrace.documents.dlq".into(),
            origin: outcome().origin,
            stage: "extract".into(),
            timestamp_ms: published_as.is_some().then_some(1_700_000_000_123),
            position: outcome().origin,
            resolution,
            published_as,
            who: "ada@host".into(),
            at_ms: 1_700_000_000_456,
        });
    }
}

#[test]
fn the_default_framing_is_avros_single_object() {
    let value = encode(&outcome(), &Framing::default()).unwrap();
    assert_eq!(value[..2], [0xC3, 0x01]);
    assert_eq!(value[2..10], DocumentOutcome::schemas().fingerprints()[0]);
}

#[test]
fn a_short_json_notice_is_enough() {
    let value = br#"{"uri":"file:///a","event":"created","event_time_ms":5,"content":"aGk=","new_field":1}"#;
    let notice: DocumentNotice = decode(value).unwrap();
    assert_eq!(notice.content.as_deref(), Some(b"hi".as_slice()));
    assert_eq!(notice.layout, Layout::Document);
}

#[test]
fn an_outcome_of_a_newer_writer_reads_as_unknown() {
    let mut json: serde_json::Value =
        serde_json::from_slice(&encode(&outcome(), &Framing::Json).unwrap()).unwrap();
    json["outcome"] = "teleported".into();
    let read: DocumentOutcome = decode(json.to_string().as_bytes()).unwrap();
    assert_eq!(read.outcome, OutcomeKind::Unknown);
}

fn error_type<M: Message>(value: &[u8]) -> &'static str {
    match decode::<M>(value) {
        Ok(_) => panic!("{value:02x?} was read"),
        Err(error) => error.error_type(),
    }
}

#[test]
fn each_way_to_be_unreadable_has_its_own_type() {
    let good = encode(&outcome(), &Framing::SingleObject).unwrap();
    let mut unknown_fingerprint = good.clone();
    unknown_fingerprint[2] ^= 1;
    let mut trailing = good.clone();
    trailing.push(0);
    for (value, expected) in [
        (b"".as_slice(), "unknown_framing"),
        (b"\xC3", "unknown_framing"),
        (b"\xC3\x01\x00", "unknown_framing"),
        (b"plain text", "unknown_framing"),
        (b"\x00\x00\x00\x00", "unknown_framing"),
        (b"\x00\x00\x00\x00\x07data", "registry_not_configured"),
        (&unknown_fingerprint, "unknown_fingerprint"),
        (&good[..good.len() - 1], "malformed_value"),
        (&trailing, "malformed_value"),
        (b"{", "malformed_value"),
        (b"{}", "malformed_value"),
    ] {
        assert_eq!(
            error_type::<DocumentOutcome>(value),
            expected,
            "{value:02x?}"
        );
    }
    assert_eq!(
        error_type::<Signal>(&good),
        "unknown_fingerprint",
        "another topic's value"
    );
}

#[test]
fn an_error_does_not_quote_the_document() {
    let value = br#"{"uri":"u","event":"created","event_time_ms":"SECRET TEXT"}"#;
    let error = decode::<DocumentNotice>(value).unwrap_err();
    let chain = format!("{error} {}", std::error::Error::source(&error).unwrap());
    assert!(!chain.contains("SECRET"), "{chain}");
    assert!(chain.contains("line 1 column"), "{chain}");
}

/// A registry in memory; ids from 1. Stands in for the HTTP one, which `millrace-kafka` tests.
#[derive(Default)]
struct MemoryRegistry(Mutex<HashMap<i32, String>>);

#[async_trait::async_trait]
impl SchemaRegistry for MemoryRegistry {
    async fn schema(&self, id: i32) -> Result<WriterSchema, SchemaError> {
        let schemas = self.0.lock().unwrap();
        let text = schemas
            .get(&id)
            .ok_or(SchemaError::UnknownSchemaId { id })?;
        Ok(WriterSchema::parse(text).unwrap())
    }
    async fn register(&self, _subject: &str, schema: &str) -> Result<i32, SchemaError> {
        let mut schemas = self.0.lock().unwrap();
        let id = i32::try_from(schemas.len()).unwrap() + 1;
        schemas.insert(id, schema.to_owned());
        Ok(id)
    }
}

/// Drives a future that never waits.
fn ready<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the memory registry never waits"),
    }
}

#[test]
fn confluent_framing_resolves_the_registrys_schema() {
    let registry = MemoryRegistry::default();
    let schema_id =
        ready(registry.register("documents.outcomes-value", DocumentOutcome::SCHEMA)).unwrap();
    let value = encode(&outcome(), &Framing::Confluent { schema_id }).unwrap();
    assert_eq!(value[..5], [0, 0, 0, 0, 1]);
    let read: DocumentOutcome = ready(decode_with(&value, Some(&registry))).unwrap();
    assert_eq!(read, outcome());

    let error = ready(decode_with::<DocumentOutcome>(
        &[0, 0, 0, 0, 9, 1],
        Some(&registry),
    ))
    .unwrap_err();
    assert_eq!(error.error_type(), "unknown_schema_id");
}

proptest! {
    #[test]
    fn no_bytes_panic(value: Vec<u8>) {
        let _ = decode::<DocumentNotice>(&value);
        let _ = decode::<Signal>(&value);
    }

    #[test]
    fn no_bytes_after_a_right_fingerprint_panic(datum: Vec<u8>) {
        let mut value = vec![0xC3, 0x01];
        value.extend_from_slice(&Signal::schemas().fingerprints()[0]);
        value.extend_from_slice(&datum);
        let _ = decode::<Signal>(&value);
        let mut value = vec![0xC3, 0x01];
        value.extend_from_slice(&DocumentNotice::schemas().fingerprints()[0]);
        value.extend_from_slice(&datum);
        let _ = decode::<DocumentNotice>(&value);
    }

    #[test]
    fn no_damaged_byte_panics(index: prop::sample::Index, byte: u8) {
        let mut value = encode(&signal(vec![0.25; 8]), &Framing::SingleObject).unwrap();
        let index = index.index(value.len());
        value[index] = byte;
        let _ = decode::<Signal>(&value);
    }

    #[test]
    fn any_notice_round_trips(uri: String, content: Option<Vec<u8>>, event_time_ms: i64) {
        round_trip(&notice(uri, content, event_time_ms));
    }

    #[test]
    fn any_behavior_round_trips(user_id: String, value in prop::option::of(prop::num::f64::NORMAL)) {
        round_trip(&click(user_id, value));
    }

    #[test]
    fn any_vector_round_trips_bit_by_bit(vector: Vec<f32>) {
        let value = encode(&signal(vector.clone()), &Framing::SingleObject).unwrap();
        let read: Signal = decode(&value).unwrap();
        prop_assert!(read.vector.iter().map(|x| x.to_bits()).eq(vector.iter().map(|x| x.to_bits())));
    }
}
