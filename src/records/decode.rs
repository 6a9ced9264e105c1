//! Records as people and programs read them.

use std::borrow::Cow;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use millrace_kafka::Record;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::output::printable;

/// A record with its value decoded where its framing and schema are known. Bytes that are no text are
/// replaced: [`Raw`] has them.
#[derive(Debug, Serialize)]
pub struct Decoded<'a> {
    /// The topic's full name.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// Its place there.
    pub offset: i64,
    /// When it was published, ms since 1970.
    pub timestamp_ms: Option<i64>,
    /// Its key, as text.
    pub key: Option<Cow<'a, str>>,
    /// Its headers, as text.
    pub headers: Vec<(&'a str, Option<Cow<'a, str>>)>,
    /// Its value, as [`decoded`] has it.
    pub value: Option<Value>,
}

impl<'a> Decoded<'a> {
    /// Decodes it.
    pub fn of(record: &'a Record) -> Self {
        let header =
            |(name, value): &'a (String, Option<Bytes>)| (name.as_str(), text_of(value.as_ref()));
        Self {
            topic: &record.topic,
            partition: record.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key: text_of(record.key.as_ref()),
            headers: record.headers.iter().map(header).collect(),
            value: record.value.as_deref().map(decoded),
        }
    }
}

/// Key, value and headers of a record byte for byte, in base64; null where there is none.
#[derive(Debug, Serialize)]
pub struct Raw<'a> {
    key: Option<Base64<'a>>,
    value: Option<Base64<'a>>,
    headers: Vec<(&'a str, Option<Base64<'a>>)>,
}

impl<'a> Raw<'a> {
    /// Of this record.
    pub fn of(record: &'a Record) -> Self {
        let header =
            |(name, value): &'a (String, Option<Bytes>)| (name.as_str(), base64_of(value.as_ref()));
        Self {
            key: base64_of(record.key.as_ref()),
            value: base64_of(record.value.as_ref()),
            headers: record.headers.iter().map(header).collect(),
        }
    }
}

/// Written as base64 without being held as such.
#[derive(Debug)]
struct Base64<'a>(&'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(self.0, &STANDARD))
    }
}

fn text_of(bytes: Option<&Bytes>) -> Option<Cow<'_, str>> {
    bytes.map(|bytes| String::from_utf8_lossy(bytes))
}

fn base64_of(bytes: Option<&Bytes>) -> Option<Base64<'_>> {
    bytes.map(|bytes| Base64(bytes))
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
pub fn text(record: &Record) -> String {
    let decoded = Decoded::of(record);
    let mut value = decoded.value.unwrap_or_default();
    shorten(&mut value);
    format!(
        "{}/{} @ {}  key {}\n  {}",
        decoded.topic,
        decoded.partition,
        decoded.offset,
        printable(decoded.key.as_deref().unwrap_or("–")),
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
