//! Records as people and programs read them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use millrace_kafka::Record;
use serde_json::{Value, json};

use crate::output::printable;

/// A record with its value decoded where its framing and schema are known.
pub fn describe(record: &Record) -> Value {
    let headers: Vec<Value> = record
        .headers
        .iter()
        .map(|(name, value)| {
            json!([
                name,
                value
                    .as_deref()
                    .map(|value| String::from_utf8_lossy(value).into_owned())
            ])
        })
        .collect();
    json!({
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        "key": record.key_text(),
        "headers": headers,
        "value": record.value.as_deref().map(decoded),
    })
}

/// Key, value and headers byte for byte, in base64; null where there is none.
pub fn raw(record: &Record) -> Value {
    let encode = |bytes: Option<&[u8]>| bytes.map(|bytes| STANDARD.encode(bytes));
    let headers: Vec<Value> = record
        .headers
        .iter()
        .map(|(name, value)| json!([name, encode(value.as_deref())]))
        .collect();
    json!({
        "key": encode(record.key.as_deref()),
        "value": encode(record.value.as_deref()),
        "headers": headers,
    })
}

/// The value as JSON: decoded, or as text, or its length and why it can't be read.
pub fn decoded(value: &[u8]) -> Value {
    match millrace_schemas::to_json(value) {
        Ok(json) => json,
        Err(error) => match std::str::from_utf8(value) {
            Ok(text) => Value::String(text.to_owned()),
            Err(_) => json!({ "undecoded": error.to_string(), "bytes": value.len() }),
        },
    }
}

/// A record for people.
pub fn text(record: &Value) -> String {
    let mut value = record["value"].clone();
    shorten(&mut value);
    format!(
        "{}/{} @ {}  key {}\n  {}",
        record["topic"].as_str().unwrap_or_default(),
        record["partition"],
        record["offset"],
        printable(record["key"].as_str().unwrap_or("–")),
        printable(&value.to_string()),
    )
}

/// People read neither 384 numbers nor a megabyte of text; `--json` has all.
fn shorten(value: &mut Value) {
    match value {
        Value::Array(items) if items.len() > 8 && items.iter().all(Value::is_number) => {
            *value = Value::String(format!("[{} numbers]", items.len()));
        }
        Value::Array(items) => items.iter_mut().for_each(shorten),
        Value::Object(fields) => fields.values_mut().for_each(shorten),
        Value::String(text) if text.chars().count() > 120 => {
            let start: String = text.chars().take(120).collect();
            *text = format!("{start}…");
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
