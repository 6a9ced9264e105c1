//! Settings, mapping and aliases of an index, and whether one that is there fits.

use serde_json::{Value, json};

use super::OpenSearchConfig;
use crate::{FORMAT_VERSION, IndexError, IndexSpec, KnnEngine};

/// The body that creates the index of `spec` with its write alias.
pub(super) fn creation(spec: &IndexSpec, config: &OpenSearchConfig) -> Value {
    let engine = match spec.engine {
        KnnEngine::Lucene => "lucene",
        KnnEngine::Faiss => "faiss",
    };
    json!({
        "settings": {"index": {
            "knn": true,
            "number_of_shards": config.shards,
            "number_of_replicas": config.replicas,
            "refresh_interval": format!("{}ms", config.refresh_interval_ms),
        }},
        "aliases": {spec.write_alias(): {}},
        "mappings": {
            "dynamic": "strict",
            "_meta": {
                "format_version": FORMAT_VERSION,
                "dimension": spec.dimension,
                "model_version": spec.model_version,
                "model_fingerprint": spec.model_fingerprint,
            },
            // It is title and text once more.
            "_source": {"excludes": ["search_text"]},
            "properties": {
                "doc_id": {"type": "keyword"},
                "chunk": {"type": "integer"},
                "version": {"type": "long"},
                "uri": {"type": "keyword"},
                "title": {"type": "keyword", "index": false, "doc_values": false},
                "text": {"type": "keyword", "index": false, "doc_values": false},
                "search_text": {"type": "text", "analyzer": "english"},
                "vector": {
                    "type": "knn_vector",
                    "dimension": spec.dimension,
                    "method": {
                        "name": "hnsw",
                        "engine": engine,
                        "space_type": "cosinesimil",
                        "parameters": {"m": 16, "ef_construction": 128},
                    },
                },
                "media_type": {"type": "keyword"},
                "language": {"type": "keyword"},
                "categories": {"type": "keyword"},
                "tags": {"type": "keyword"},
                "published_at_ms": {"type": "long"},
                "model_version": {"type": "keyword"},
                "etag": {"type": "keyword", "index": false, "doc_values": false},
                "chunk_count": {"type": "integer"},
                "deleted": {"type": "boolean"},
            },
        },
    })
}

/// What the aliases for searching let through: chunks that are no tombstones.
pub(super) fn searchable() -> Value {
    json!({"bool": {"filter": [
        {"term": {"deleted": false}},
        {"exists": {"field": "chunk"}},
    ]}})
}

/// Model and layout of an index that is there.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) dimension: usize,
    pub(super) model_version: String,
    pub(super) model_fingerprint: String,
}

/// Reads what is under `mappings` of an index; what is not there is `none` and 0.
pub(super) fn stored(mappings: &Value) -> Stored {
    let meta = &mappings["_meta"];
    let word = |name: &str| meta[name].as_str().unwrap_or("none").to_owned();
    Stored {
        dimension: mappings["properties"]["vector"]["dimension"]
            .as_u64()
            .unwrap_or(0) as usize,
        model_version: word("model_version"),
        model_fingerprint: word("model_fingerprint"),
    }
}

/// Reads `mapping` (the answer of `GET /{index}/_mapping`) and compares it with `spec`.
pub(super) fn verify(mapping: &Value, spec: &IndexSpec) -> Result<Stored, IndexError> {
    let index = spec.index_name();
    let mappings = &mapping[&index]["mappings"];
    let meta = &mappings["_meta"];
    if meta["format_version"] != json!(FORMAT_VERSION) {
        return Err(IndexError::FormatMismatch {
            index,
            stored: meta["format_version"]
                .as_u64()
                .map_or("none".to_owned(), |v| v.to_string()),
            wanted: FORMAT_VERSION,
        });
    }
    let stored = stored(mappings);
    spec.accepts(stored.dimension, &stored.model_fingerprint)?;
    Ok(stored)
}
