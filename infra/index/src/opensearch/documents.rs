//! A record as a document of the index, and back.

use serde_json::{Map, Value, json};

use crate::{IndexError, Record};

/// The document that stores `record`.
///
/// `search_text` is written out rather than copied by the mapping: a header's title must not be
/// searchable, and the field is left out of the stored source.
pub(super) fn document(record: &Record) -> Value {
    let mut document = json!({
        "doc_id": record.doc_id,
        "version": record.version,
        "uri": record.uri,
        "deleted": record.deleted,
    });
    let fields = document.as_object_mut();
    // `json!` with braces makes an object.
    let Some(fields) = fields else {
        return document;
    };
    put(fields, "chunk", record.chunk.map(Value::from));
    if record.deleted {
        return document;
    }
    let text = |value: &Option<String>| value.clone().map(Value::from);
    let list = |values: &[String]| (!values.is_empty()).then(|| Value::from(values.to_vec()));
    put(fields, "title", text(&record.title));
    put(fields, "text", text(&record.text));
    if !record.is_header() {
        put(
            fields,
            "search_text",
            record.searchable_text().map(Value::from),
        );
    }
    put(
        fields,
        "vector",
        record.vector.as_ref().map(|vector| json!(vector)),
    );
    put(fields, "media_type", text(&record.media_type));
    put(fields, "language", text(&record.language));
    put(fields, "categories", list(&record.categories));
    put(fields, "tags", list(&record.tags));
    put(
        fields,
        "published_at_ms",
        record.published_at_ms.map(Value::from),
    );
    put(
        fields,
        "model_version",
        Some(Value::from(record.model_version.clone())),
    );
    put(fields, "etag", text(&record.etag));
    put(fields, "chunk_count", record.chunk_count.map(Value::from));
    document
}

fn put(fields: &mut Map<String, Value>, name: &str, value: Option<Value>) {
    if let Some(value) = value {
        fields.insert(name.to_owned(), value);
    }
}

/// The record in an answer's `_id` and `_source`.
pub(super) fn record(answer: &Value) -> Result<Record, IndexError> {
    let id = answer["_id"].as_str().unwrap_or_default();
    let Some(source) = answer["_source"].as_object() else {
        return Err(unreadable(id, "it has no source"));
    };
    let mut fields = source.clone();
    fields.insert("id".to_owned(), Value::from(id));
    for (name, missing) in [
        ("categories", json!([])),
        ("tags", json!([])),
        ("model_version", json!("")),
    ] {
        fields.entry(name).or_insert(missing);
    }
    serde_json::from_value(Value::Object(fields))
        .map_err(|error| unreadable(id, &error.to_string()))
}

fn unreadable(id: &str, why: &str) -> IndexError {
    IndexError::Refused {
        status: 200,
        error_type: "unreadable_record".to_owned(),
        reason: format!("{id}: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_went() {
        let record_in = Record {
            id: "d#3".into(),
            doc_id: "d".into(),
            chunk: Some(3),
            version: 1 << 60,
            uri: "file:///d".into(),
            title: Some("T".into()),
            text: Some("passage".into()),
            vector: Some(vec![0.25, -1.0e-7]),
            tags: vec!["x".into()],
            model_version: "m".into(),
            published_at_ms: Some(-1),
            ..Record::default()
        };
        let mut source = document(&record_in);
        assert_eq!(source["search_text"], "T passage");
        source
            .as_object_mut()
            .expect("object")
            .remove("search_text");
        let back = record(&json!({"_id": "d#3", "_source": source})).expect("readable");
        assert_eq!(back, record_in);
    }

    #[test]
    fn a_tombstone_and_a_header_have_nothing_to_search() {
        let header = Record {
            title: Some("T".into()),
            ..Record::default()
        };
        assert_eq!(document(&header).get("search_text"), None);
        let gone = Record {
            chunk: Some(0),
            text: Some("t".into()),
            vector: Some(vec![1.0]),
            deleted: true,
            ..Record::default()
        };
        let fields = document(&gone);
        assert!(fields.get("text").is_none() && fields.get("vector").is_none());
        assert_eq!(fields["deleted"], true);
    }
}
