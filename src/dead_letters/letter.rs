//! A letter as people and programs read it: decoded, and byte for byte.

use millrace_kafka::ScannedLetter;
use serde_json::{Value, json};

use crate::records::{Decoded, Raw};

/// All that is known of a letter: the reason, the original decoded as far as that is possible, its bytes
/// in base64, and what was done with it.
pub fn describe(scanned: &ScannedLetter) -> Value {
    let letter = &scanned.letter;
    let decoded = Decoded::of(&letter.original);
    let resolved = scanned.resolved.as_ref().map(|resolved| {
        json!({
            "resolution": resolved.resolution,
            "published_as": resolved.published_as,
            "who": resolved.who,
            "at_ms": resolved.at_ms,
        })
    });
    json!({
        "topic": letter.position.topic,
        "position": letter.position,
        "origin": letter.origin,
        "stage": letter.stage,
        "error_type": letter.error_type,
        "class": letter.class,
        "message": letter.message,
        "http_status": letter.http_status,
        "attempts": letter.attempts,
        "schema_id": letter.schema_id,
        "first_failed_at_ms": letter.first_failed_at_ms,
        "replay_count": letter.history.count,
        "history": letter.history,
        "pipeline": letter.pipeline,
        "version": letter.version,
        "resolved": resolved,
        "timestamp_ms": decoded.timestamp_ms,
        "key": decoded.key,
        "headers": decoded.headers,
        "value": decoded.value,
        "raw": Raw::of(&letter.original),
    })
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use bytes::Bytes;
    use millrace_kafka::{DeadLetter, LetterId, Record};

    use super::*;

    #[test]
    fn no_byte_is_lost() {
        let hostile = Bytes::from_static(b"\xFF\x00\x1B[2J");
        let letter = DeadLetter::from_record(Record {
            topic: "millrace.documents.dlq".to_owned(),
            partition: 0,
            offset: 3,
            timestamp_ms: Some(500),
            key: Some(hostile.clone()),
            value: Some(hostile.clone()),
            headers: vec![
                ("h".to_owned(), Some(hostile.clone())),
                ("n".to_owned(), None),
            ],
        });
        let described = describe(&ScannedLetter {
            id: LetterId::of(&letter, "millrace.documents"),
            letter,
            resolved: None,
        });
        let raw = &described["raw"];
        for encoded in [&raw["key"], &raw["value"], &raw["headers"][0][1]] {
            let bytes = STANDARD.decode(encoded.as_str().unwrap()).unwrap();
            assert_eq!(bytes, hostile);
        }
        assert!(raw["headers"][1][1].is_null() && described["resolved"].is_null());
    }
}
