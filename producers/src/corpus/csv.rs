//! Records of CSV (RFC 4180) with a header.

use super::{Document, LineError};
use crate::rows::CsvFields;

/// Whether a header is one of documents.
pub(super) fn is_corpus(header: &[String]) -> bool {
    let has = |names: &[&str]| header.iter().any(|h| names.contains(&h.as_str()));
    has(&["_id", "id"]) && has(&["text", "title"])
}

pub(super) fn document(fields: &CsvFields<'_>) -> Result<Document, LineError> {
    let mut document = Document::default();
    for (name, value) in fields.iter() {
        match name {
            "_id" => document.id = value.to_owned(),
            "id" if document.id.is_empty() && !fields.has("_id") => {
                document.id = value.to_owned();
            }
            "title" => document.title = Some(value.to_owned()),
            "text" => document.text = value.to_owned(),
            _ if value.is_empty() => {}
            _ => {
                document.metadata.insert(name.to_owned(), value.to_owned());
            }
        }
    }
    if document.id.is_empty() {
        return Err(LineError::Shape("has no id"));
    }
    Ok(document)
}
