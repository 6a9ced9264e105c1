//! How records lie in tantivy.
//!
//! The record itself is stored as JSON, its vector beside it as raw little-endian f32. Only what
//! a search asks for is indexed, and only for live chunks; a header, also one that is a tombstone,
//! has its URI in a field of its own, by which all documents can be walked in order.

use std::path::Path;

use tantivy::schema::{
    FAST, Field, INDEXED, IndexRecordOption, STORED, STRING, Schema, TextFieldIndexing,
    TextOptions, Value,
};
use tantivy::{TantivyDocument, Term};

use super::analyzer;
use super::storage_error;
use crate::{IndexError, Record};

/// The fields.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields {
    pub(super) id: Field,
    pub(super) text: Field,
    pub(super) doc_id: Field,
    pub(super) uri: Field,
    pub(super) header_uri: Field,
    pub(super) tags: Field,
    pub(super) categories: Field,
    pub(super) language: Field,
    pub(super) media_type: Field,
    pub(super) published_at_ms: Field,
    record: Field,
    vector: Field,
}

/// The schema with its fields.
pub(super) fn schema() -> (Schema, Fields) {
    let mut schema = Schema::builder();
    let english = TextFieldIndexing::default()
        .set_tokenizer(analyzer::NAME)
        .set_index_option(IndexRecordOption::WithFreqs);
    let fields = Fields {
        // Fast, so that the window's hits get their ids without reading the store.
        id: schema.add_text_field("id", STRING | FAST),
        text: schema.add_text_field("text", TextOptions::default().set_indexing_options(english)),
        doc_id: schema.add_text_field("doc_id", STRING),
        uri: schema.add_text_field("uri", STRING),
        header_uri: schema.add_text_field("header_uri", STRING),
        tags: schema.add_text_field("tags", STRING),
        categories: schema.add_text_field("categories", STRING),
        language: schema.add_text_field("language", STRING),
        media_type: schema.add_text_field("media_type", STRING),
        published_at_ms: schema.add_i64_field("published_at_ms", INDEXED | FAST),
        record: schema.add_bytes_field("record", STORED),
        vector: schema.add_bytes_field("vector", STORED),
    };
    (schema.build(), fields)
}

impl Fields {
    pub(super) fn id_term(&self, id: &str) -> Term {
        Term::from_field_text(self.id, id)
    }

    /// The document that stores `record`.
    pub(super) fn document(&self, record: &Record) -> Result<TantivyDocument, serde_json::Error> {
        let mut document = TantivyDocument::new();
        document.add_text(self.id, &record.id);
        if record.is_header() {
            document.add_text(self.header_uri, &record.uri);
        } else if !record.deleted {
            self.index_chunk(&mut document, record);
        }
        let bare = Record {
            vector: None,
            ..record.clone()
        };
        document.add_bytes(self.record, &serde_json::to_vec(&bare)?);
        if let Some(vector) = &record.vector {
            let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
            document.add_bytes(self.vector, &bytes);
        }
        Ok(document)
    }

    fn index_chunk(&self, document: &mut TantivyDocument, record: &Record) {
        if let Some(text) = record.searchable_text() {
            document.add_text(self.text, text);
        }
        document.add_text(self.doc_id, &record.doc_id);
        document.add_text(self.uri, &record.uri);
        for tag in &record.tags {
            document.add_text(self.tags, tag);
        }
        for category in &record.categories {
            document.add_text(self.categories, category);
        }
        if let Some(language) = &record.language {
            document.add_text(self.language, language);
        }
        if let Some(media_type) = &record.media_type {
            document.add_text(self.media_type, media_type);
        }
        if let Some(published) = record.published_at_ms {
            document.add_i64(self.published_at_ms, published);
        }
    }

    /// The record that `document` stores.
    pub(super) fn record(
        &self,
        document: &TantivyDocument,
        with_vector: bool,
        path: &Path,
    ) -> Result<Record, IndexError> {
        let bytes = |field| document.get_first(field).and_then(|value| value.as_bytes());
        let json = bytes(self.record).unwrap_or_default();
        let mut record: Record = serde_json::from_slice(json)
            .map_err(|error| storage_error(path, "a stored record is unreadable", error))?;
        if with_vector && let Some(raw) = bytes(self.vector) {
            let floats = raw.as_chunks::<4>().0.iter();
            record.vector = Some(floats.map(|bytes| f32::from_le_bytes(*bytes)).collect());
        }
        Ok(record)
    }
}
