//! Lines of JSON: BEIR's layout, and Metarank's events as RankLens has them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{CorpusFormat, Document, LineError};

/// What kind of corpus a line belongs to, if any.
pub(super) fn shape(line: &[u8]) -> Option<CorpusFormat> {
    let fields: Map<String, Value> = serde_json::from_slice(line).ok()?;
    let has = |names: &[&str]| names.iter().any(|name| fields.contains_key(*name));
    if fields.get("event").is_some_and(Value::is_string) && has(&["item", "items", "fields"]) {
        return Some(CorpusFormat::RankLens);
    }
    (has(&["_id", "id"]) && has(&["text", "title"])).then_some(CorpusFormat::Jsonl)
}

/// `{"_id": …, "title": …, "text": …}`, or `id`.
pub(super) fn beir(line: &[u8]) -> Result<Document, LineError> {
    let mut fields: Map<String, Value> = parse(line)?;
    let id = fields.remove("_id").or_else(|| fields.remove("id"));
    let id = match id {
        Some(Value::String(id)) if !id.is_empty() => id,
        Some(Value::Number(id)) => id.to_string(),
        _ => {
            return Err(LineError::Shape(
                "has no `_id` or `id` that is a text or a number",
            ));
        }
    };
    let title = text_field(&mut fields, "title", "has a `title` that is no text")?;
    let text = text_field(&mut fields, "text", "has a `text` that is no text")?;
    if title.is_none() && text.is_none() {
        return Err(LineError::Shape("has neither `text` nor `title`"));
    }
    let mut metadata = BTreeMap::new();
    if let Some(Value::Object(members)) = fields.get("metadata") {
        let members = members.clone();
        fields.remove("metadata");
        members
            .iter()
            .for_each(|(name, value)| insert(&mut metadata, name, value));
    }
    // A field of the line counts more than a member of its `metadata`.
    fields
        .iter()
        .for_each(|(name, value)| insert(&mut metadata, name, value));
    Ok(Document {
        id,
        title,
        text: text.unwrap_or_default(),
        metadata,
    })
}

#[derive(Deserialize)]
struct Event {
    event: String,
    item: Option<String>,
    #[serde(default)]
    fields: Vec<Field>,
}

#[derive(Deserialize)]
struct Field {
    name: String,
    value: Value,
}

/// An `item` event; `None` of another event.
pub(super) fn ranklens(line: &[u8]) -> Result<Option<Document>, LineError> {
    let event: Event = parse(line)?;
    if event.event != "item" {
        return Ok(None);
    }
    let Some(id) = event.item.filter(|id| !id.is_empty()) else {
        return Err(LineError::Shape("is an item event without an `item`"));
    };
    let mut document = Document {
        id,
        ..Document::default()
    };
    let (mut genres, mut tags) = (vec![], vec![]);
    for Field { name, value } in event.fields {
        match (name.as_str(), value) {
            ("title", Value::String(title)) => document.title = Some(title),
            ("description", Value::String(text)) => document.text = text,
            ("genres", Value::Array(values)) => genres = texts(&values),
            ("tags", Value::Array(values)) => tags = texts(&values),
            ("release_date", Value::Number(seconds)) => {
                if let Some(seconds) = seconds.as_f64() {
                    let ms = (seconds * 1000.0).round();
                    document
                        .metadata
                        .insert("published_at_ms".to_owned(), format!("{ms:.0}"));
                }
            }
            (_, value) => insert(&mut document.metadata, &name, &value),
        }
    }
    if document.title.is_none() && document.text.is_empty() {
        return Err(LineError::Shape(
            "is an item event with neither `title` nor `description`",
        ));
    }
    for (label, key, values) in [("Genres", "categories", genres), ("Tags", "tags", tags)] {
        if !values.is_empty() {
            let separator = if document.text.is_empty() { "" } else { "\n" };
            document
                .text
                .push_str(&format!("{separator}{label}: {}", values.join(", ")));
            document.metadata.insert(key.to_owned(), values.join("\n"));
        }
    }
    Ok(Some(document))
}

fn parse<T: for<'de> Deserialize<'de>>(line: &[u8]) -> Result<T, LineError> {
    if std::str::from_utf8(line).is_err() {
        return Err(LineError::NotUtf8);
    }
    serde_json::from_slice(line).map_err(LineError::Json)
}

fn text_field(
    fields: &mut Map<String, Value>,
    name: &str,
    wrong: &'static str,
) -> Result<Option<String>, LineError> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(LineError::Shape(wrong)),
    }
}

fn texts(values: &[Value]) -> Vec<String> {
    values.iter().filter_map(text_of).collect()
}

fn insert(metadata: &mut BTreeMap<String, String>, name: &str, value: &Value) {
    if let Some(text) = text_of(value) {
        metadata.insert(name.to_owned(), text);
    }
}

/// A value as metadata; none of null and of what is empty.
fn text_of(value: &Value) -> Option<String> {
    let text = match value {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        Value::Array(values) => texts(values).join("\n"),
        Value::Object(members) if members.is_empty() => return None,
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    };
    (!text.is_empty()).then_some(text)
}
