//! What the index holds, by document.

use axum::Json;
use axum::extract::State;
use millrace_index::{IndexCounts, IndexDescription, MAX_HEADERS, Record};
use serde::{Deserialize, Serialize};

use super::{ApiError, ApiState, Body};

/// Most documents one call may ask for.
pub const MAX_IDS: usize = 1_000;

/// Which documents to look up.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordsQuery {
    /// Ids of at most 1,000 documents.
    pub doc_ids: Vec<String>,
}

/// The header record of a document.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DocumentHeader {
    /// Stable hash of the URI.
    pub doc_id: String,
    /// Where the document is.
    pub uri: String,
    /// Version of the event that was indexed.
    pub version: i64,
    /// Number of chunks.
    pub chunks: u32,
    /// The object's eTag when it was read.
    pub etag: Option<String>,
    /// Model of its vectors.
    pub model_version: String,
    /// Whether the document was removed.
    pub deleted: bool,
}

/// Which part of all documents to list.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadersQuery {
    /// URIs that begin with this.
    pub uri_prefix: String,
    /// And are greater than this, bytewise.
    #[serde(default)]
    pub after: Option<String>,
    /// At most this many, up to 10,000.
    pub limit: usize,
}

impl From<Record> for DocumentHeader {
    fn from(record: Record) -> Self {
        Self {
            doc_id: record.doc_id,
            uri: record.uri,
            version: record.version,
            chunks: record.chunk_count.unwrap_or(0),
            etag: record.etag,
            model_version: record.model_version,
            deleted: record.deleted,
        }
    }
}

/// What the index is and how much it holds.
#[derive(Debug, Serialize, Deserialize)]
pub struct Info {
    /// Adapter, engine, generations, model.
    pub index: serde_json::Value,
    /// Counts of documents, chunks and tombstones.
    pub counts: serde_json::Value,
}

pub async fn records(
    State(state): State<ApiState>,
    Body(query): Body<RecordsQuery>,
) -> Result<Json<Vec<Option<DocumentHeader>>>, ApiError> {
    if query.doc_ids.len() > MAX_IDS {
        return Err(ApiError::invalid(format!(
            "{} ids; at most {MAX_IDS} are looked up at once",
            query.doc_ids.len()
        )));
    }
    let records = state
        .serving()
        .await?
        .index
        .get(&query.doc_ids)
        .await
        .map_err(|error| ApiError::unavailable(&error))?;
    let headers = records.into_iter().map(|r| r.map(DocumentHeader::from));
    Ok(Json(headers.collect()))
}

/// One page of all documents by URI, removed ones included.
pub async fn headers(
    State(state): State<ApiState>,
    Json(query): Json<HeadersQuery>,
) -> Result<Json<Vec<DocumentHeader>>, ApiError> {
    if query.limit == 0 || query.limit > MAX_HEADERS {
        return Err(ApiError::invalid(format!(
            "limit is {}; give 1 to {MAX_HEADERS}",
            query.limit
        )));
    }
    let records = state
        .serving()
        .await?
        .index
        .headers(&query.uri_prefix, query.after.as_deref(), query.limit)
        .await
        .map_err(|error| ApiError::unavailable(&error))?;
    Ok(Json(
        records.into_iter().map(DocumentHeader::from).collect(),
    ))
}

pub async fn info(State(state): State<ApiState>) -> Result<Json<Info>, ApiError> {
    let serving = state.serving().await?;
    let index: IndexDescription = serving
        .index
        .describe()
        .await
        .map_err(|error| ApiError::unavailable(&error))?;
    let counts: IndexCounts = serving
        .index
        .count()
        .await
        .map_err(|error| ApiError::unavailable(&error))?;
    let json = |value: serde_json::Result<serde_json::Value>| {
        value.map_err(|error| ApiError::unavailable(&error))
    };
    Ok(Json(Info {
        index: json(serde_json::to_value(index))?,
        counts: json(serde_json::to_value(counts))?,
    }))
}
