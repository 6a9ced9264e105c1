//! Values as JSON for people: whatever the topic, whatever the committed version.

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use serde_json::{Map, Value as Json};

use crate::SchemaError;
use crate::codec::{BoxError, catalogue};
use crate::framing::{Framed, split};

/// The value as JSON, read with the very schema that wrote it. Bytes are shown as text, with
/// replacement characters where they are none: this is for looking, not for round trips.
///
/// # Errors
/// As [`decode`](crate::decode); Confluent-framed values need a registry and are refused.
pub fn to_json(value: &[u8]) -> Result<Json, SchemaError> {
    match split(value)? {
        Framed::SingleObject { fingerprint, datum } => {
            let Some((topic, writer)) = catalogue()
                .into_iter()
                .find_map(|topic| Some((topic.topic(), topic.by_fingerprint(fingerprint)?)))
            else {
                return Err(SchemaError::UnknownFingerprint {
                    topic: "any",
                    hex: hex::encode(fingerprint),
                });
            };
            let read = |mut datum: &[u8]| -> Result<Value, BoxError> {
                Ok(GenericDatumReader::builder(writer)
                    .build()?
                    .read_value(&mut datum)?)
            };
            let source = |source| SchemaError::Malformed {
                topic,
                framing: "Avro",
                source,
            };
            Ok(json(read(datum).map_err(source)?))
        }
        Framed::Confluent { id, .. } => Err(SchemaError::RegistryNotConfigured { id }),
        Framed::Json => serde_json::from_slice(value).map_err(|source| SchemaError::Malformed {
            topic: "any",
            framing: "JSON",
            source: source.into(),
        }),
    }
}

fn json(value: Value) -> Json {
    match value {
        Value::Record(fields) => Json::Object(
            fields
                .into_iter()
                .map(|(name, value)| (name, json(value)))
                .collect(),
        ),
        Value::Map(entries) => {
            let entries: Map<String, Json> = entries
                .into_iter()
                .map(|(name, value)| (name, json(value)))
                .collect();
            Json::Object(entries)
        }
        Value::Array(items) => Json::Array(items.into_iter().map(json).collect()),
        Value::Union(_, value) => json(*value),
        Value::Bytes(bytes) | Value::Fixed(_, bytes) => {
            Json::String(String::from_utf8_lossy(&bytes).into_owned())
        }
        Value::String(text) | Value::Enum(_, text) => Json::String(text),
        Value::Boolean(value) => Json::Bool(value),
        Value::Int(value) => value.into(),
        Value::Long(value) => value.into(),
        Value::Float(value) => value.into(),
        Value::Double(value) => value.into(),
        Value::TimestampMillis(value) => value.into(),
        Value::Null => Json::Null,
        // No committed schema uses another logical type.
        other => Json::String(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::to_json;
    use crate::{DocumentOutcome, Framing, Origin, OutcomeKind, encode};

    #[test]
    fn what_was_encoded_is_shown() {
        let outcome = DocumentOutcome {
            uri: "file:///a.txt".to_owned(),
            doc_id: "id".to_owned(),
            outcome: OutcomeKind::DeadLettered,
            version: 7,
            chunks: 0,
            tokens: 0,
            fetch_ms: 1,
            extract_ms: 0,
            embed_ms: 0,
            index_ms: 0,
            total_ms: 2,
            error_type: Some("empty".to_owned()),
            message: None,
            traceparent: None,
            origin: Origin {
                topic: "documents".to_owned(),
                partition: 3,
                offset: 9,
            },
            finished_at_ms: 11,
        };
        let value = encode(&outcome, &Framing::SingleObject).unwrap();
        let json = to_json(&value).unwrap();
        assert_eq!(json["uri"], "file:///a.txt");
        assert_eq!(json["outcome"], "dead_lettered");
        assert_eq!(json["origin"]["offset"], 9);
        assert_eq!(json["finished_at_ms"], 11);
        assert_eq!(json["error_type"], "empty");
        assert!(to_json(&value[..12]).is_err());
        assert!(to_json(&[0xC3, 1, 0, 0, 0, 0, 0, 0, 0, 0]).is_err());
    }
}
