//! JSON and JSON Lines: the readable leaves, in the order they are written.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::published::parse_published;
use super::{ExtractError, ExtractedText};

/// Reads one JSON value (nested at most 128 deep, `serde_json`'s limit).
pub(super) fn read(source: &str) -> Result<ExtractedText, ExtractError> {
    let node: Node =
        serde_json::from_str(source).map_err(|error| malformed("JSON", None, &error))?;
    let mut extracted = ExtractedText::default();
    describe(&node, &mut extracted);
    append(&node, &mut extracted.text);
    Ok(extracted)
}

/// Reads one JSON value a line; empty lines are skipped. All lines are one document: a file in
/// which each line is a document of its own is cut up where it is uploaded.
pub(super) fn read_lines(source: &str) -> Result<ExtractedText, ExtractError> {
    let mut extracted = ExtractedText::default();
    for (number, line) in source.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let node: Node = serde_json::from_str(line)
            .map_err(|error| malformed("JSONL", Some(number + 1), &error))?;
        append(&node, &mut extracted.text);
        extracted.text.push('\n');
    }
    Ok(extracted)
}

fn malformed(format: &str, line: Option<usize>, error: &serde_json::Error) -> ExtractError {
    // serde_json quotes the input in some messages; position and category hold no document text.
    let line = line.unwrap_or_else(|| error.line());
    ExtractError::Malformed {
        format: format.to_owned(),
        detail: format!(
            "{:?} error at line {line}, column {}",
            error.classify(),
            error.column()
        ),
    }
}

/// A JSON value that keeps the order of its keys (`serde_json::Value` sorts them).
enum Node {
    Text(String),
    Number(String),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
    Nothing,
}

/// Every readable leaf on a line of its own. Booleans and nulls say nothing, and a bare number
/// says little without its key, so it keeps it.
fn append(node: &Node, text: &mut String) {
    match node {
        Node::Text(part) => {
            text.push_str(part);
            text.push('\n');
        }
        Node::List(items) => items.iter().for_each(|item| append(item, text)),
        Node::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Node::Number(number) => {
                        text.push_str(key);
                        text.push_str(": ");
                        text.push_str(number);
                        text.push('\n');
                    }
                    // A top-level title is kept as the title; identifiers are no prose.
                    Node::Text(_)
                        if matches!(key.as_str(), "_id" | "id" | "uuid" | "url" | "uri") => {}
                    value => append(value, text),
                }
            }
        }
        Node::Number(_) | Node::Nothing => {}
    }
}

fn describe(node: &Node, extracted: &mut ExtractedText) {
    let Node::Object(fields) = node else { return };
    let text = |names: &[&str]| {
        names.iter().find_map(|name| {
            fields.iter().find_map(|(key, value)| match value {
                Node::Text(text) if key.eq_ignore_ascii_case(name) => Some(text.clone()),
                _ => None,
            })
        })
    };
    let labels = |names: &[&str]| -> Vec<String> {
        names
            .iter()
            .find_map(|name| {
                fields
                    .iter()
                    .find(|(key, _)| key.eq_ignore_ascii_case(name))
            })
            .map(|(_, value)| match value {
                Node::Text(text) => text.split(',').map(str::to_owned).collect(),
                Node::List(items) => items
                    .iter()
                    .filter_map(|item| match item {
                        Node::Text(text) => Some(text.clone()),
                        _ => None,
                    })
                    .collect(),
                _ => Vec::new(),
            })
            .unwrap_or_default()
    };
    extracted.title = text(&["title", "name", "headline"]);
    extracted.language = text(&["lang", "language", "inLanguage"]);
    extracted.tags = labels(&["tags", "keywords"]);
    extracted.categories = labels(&["categories", "category", "genres", "section"]);
    extracted.published_at_ms = text(&["published_at", "datePublished", "published", "date"])
        .and_then(|time| parse_published(&time));
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Leaves;
        impl<'de> Visitor<'de> for Leaves {
            type Value = Node;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON value")
            }
            fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
                Ok(Node::Nothing)
            }
            fn visit_i64<E>(self, number: i64) -> Result<Node, E> {
                Ok(Node::Number(number.to_string()))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Node, E> {
                Ok(Node::Number(number.to_string()))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Node, E> {
                Ok(Node::Number(number.to_string()))
            }
            fn visit_str<E>(self, text: &str) -> Result<Node, E> {
                Ok(Node::Text(text.to_owned()))
            }
            fn visit_string<E>(self, text: String) -> Result<Node, E> {
                Ok(Node::Text(text))
            }
            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Nothing)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Node::List(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
                let mut fields = Vec::new();
                while let Some(entry) = entries.next_entry()? {
                    fields.push(entry);
                }
                Ok(Node::Object(fields))
            }
        }
        deserializer.deserialize_any(Leaves)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_come_in_written_order_and_known_keys_describe() {
        let read = read(
            r#"{"title":"Heat","year":1995,"id":"x9","plot":"A thief.","cast":[{"name":"Al"},{"name":"Bob"}],
                "tags":["crime","la"],"genres":"Drama, Crime","published_at":"1995-12-15","ok":true}"#,
        )
        .unwrap();
        assert_eq!(read.title.as_deref(), Some("Heat"));
        assert_eq!(read.tags, ["crime", "la"]);
        assert_eq!(read.categories, ["Drama", " Crime"]);
        assert_eq!(read.published_at_ms, Some(818_985_600_000));
        assert!(
            read.text
                .starts_with("Heat\nyear: 1995\nA thief.\nAl\nBob\n"),
            "{}",
            read.text
        );
    }

    #[test]
    fn a_broken_line_is_named_by_number_and_not_quoted() {
        let error = read_lines("{\"a\":\"b\"}\n\n{\"secret\": oops}\n").unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains("JSONL") && message.contains("line 3"),
            "{message}"
        );
        assert!(!message.contains("secret"), "{message}");
        let deep = "[".repeat(100_000);
        assert_eq!(read(&deep).unwrap_err().error_type(), "malformed_document");
    }
}
