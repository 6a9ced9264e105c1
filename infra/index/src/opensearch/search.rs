//! Searching through a generation's search alias.
//!
//! The server fuses; it answers fused scores alone. The BM25 and the cosine of the hits come from
//! one `_msearch` restricted to their ids: `explain` would cost every hit of the window, and
//! scores of the sub-queries' own windows would lack those of a hit that only the other found.

use std::collections::{HashMap, HashSet};

use opensearch::http::Method;
use serde_json::{Value, json};

use super::client::Client;
use super::documents::record;
use super::version::pipeline;
use crate::{Filter, Hit, IndexError, MAX_WINDOW, Mode, Record, SearchRequest};

/// HNSW explores at least this many candidates: with few it misses near neighbours.
const LEAST_EF_SEARCH: usize = 200;

/// A chunk found: its score as the server gives it, and its record.
type Found = (f32, Record);

/// Finds at most `request.k` documents. The request is valid.
pub(super) async fn search(
    client: &Client,
    alias: &str,
    request: &SearchRequest,
) -> Result<Vec<Hit>, IndexError> {
    let path = format!("/{alias}/_search");
    let answer = client
        .json(Method::Post, &path, &[], Some(&body(request)))
        .await?;
    if answer.status == 404 {
        let name = alias.to_owned();
        return Err(IndexError::NoSuchGeneration { name });
    }
    let answer = answer.success()?;
    if answer["timed_out"] == true || answer["_shards"]["failed"].as_u64().unwrap_or(0) > 0 {
        let what = "some shards did not answer the search".to_owned();
        return Err(IndexError::Unavailable { what, source: None });
    }
    let best = best_chunks(found(&answer)?, request.k);
    let mut parts = match request.mode {
        Mode::Hybrid if !best.is_empty() => parts(client, alias, request, &best).await?,
        _ => Parts::default(),
    };
    let hits = best.into_iter().map(|(score, record)| {
        let (score, text_score, vector_score) = match request.mode {
            Mode::Text => (score, Some(score), None),
            Mode::Vector => (cosine(score), None, Some(cosine(score))),
            Mode::Hybrid => (
                score,
                parts.text.remove(&record.id),
                parts.vector.remove(&record.id).map(cosine),
            ),
        };
        Hit {
            doc_id: record.doc_id,
            uri: record.uri,
            title: record.title,
            score,
            text_score,
            vector_score,
            text: record.text.unwrap_or_default(),
            chunk: record.chunk.unwrap_or_default(),
            version: record.version,
        }
    });
    Ok(hits.collect())
}

/// The engine's score under `cosinesimil` is (1 + cosine) / 2.
fn cosine(score: f32) -> f32 {
    2.0 * score - 1.0
}

fn body(request: &SearchRequest) -> Value {
    let filters = filters(&request.filter);
    let window = request.window;
    let (query, size) = match request.mode {
        Mode::Text => (text_query(request, &filters), window),
        Mode::Vector => (vector_query(request, window, &filters), window),
        Mode::Hybrid => {
            let queries = [
                text_query(request, &filters),
                vector_query(request, window, &filters),
            ];
            let query = json!({"hybrid": {"pagination_depth": window, "queries": queries}});
            // Two windows that share nothing.
            (query, (2 * window).min(MAX_WINDOW))
        }
    };
    let mut body = json!({
        "size": size,
        "query": query,
        "_source": {"excludes": ["vector"]},
        "track_total_hits": false,
    });
    if request.mode == Mode::Hybrid {
        body["search_pipeline"] = pipeline(request.fusion);
    }
    body
}

fn text_query(request: &SearchRequest, filters: &[Value]) -> Value {
    let words = json!({"match": {"search_text": request.text}});
    if filters.is_empty() {
        return words;
    }
    json!({"bool": {"must": [words], "filter": filters}})
}

fn vector_query(request: &SearchRequest, k: usize, filters: &[Value]) -> Value {
    let mut nearest = json!({
        "vector": request.vector,
        "k": k,
        "method_parameters": {"ef_search": k.max(LEAST_EF_SEARCH)},
    });
    if !filters.is_empty() {
        // Inside, so that k neighbours pass the filter; around it, fewer would be left.
        nearest["filter"] = json!({"bool": {"filter": filters}});
    }
    json!({"knn": {"vector": nearest}})
}

fn filters(filter: &Filter) -> Vec<Value> {
    let mut all = Vec::new();
    for tag in &filter.tags {
        all.push(json!({"term": {"tags": tag}}));
    }
    if !filter.categories.is_empty() {
        all.push(json!({"terms": {"categories": filter.categories}}));
    }
    if let Some(language) = &filter.language {
        all.push(json!({"term": {"language": language}}));
    }
    if let Some(media_type) = &filter.media_type {
        all.push(json!({"term": {"media_type": media_type}}));
    }
    if let Some(prefix) = &filter.uri_prefix {
        all.push(json!({"prefix": {"uri": {"value": prefix}}}));
    }
    if filter.published_from_ms.is_some() || filter.published_before_ms.is_some() {
        let mut range = json!({});
        if let Some(from) = filter.published_from_ms {
            range["gte"] = json!(from);
        }
        if let Some(before) = filter.published_before_ms {
            range["lt"] = json!(before);
        }
        all.push(json!({"range": {"published_at_ms": range}}));
    }
    if !filter.exclude_doc_ids.is_empty() {
        all.push(json!({"bool": {"must_not": [{"terms": {"doc_id": filter.exclude_doc_ids}}]}}));
    }
    all
}

/// Chunks in an answer, best first, ties by id as in the embedded index.
fn found(answer: &Value) -> Result<Vec<Found>, IndexError> {
    let hits = answer["hits"]["hits"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let mut found = hits
        .iter()
        .map(|hit| Ok((score(hit), record(hit)?)))
        .collect::<Result<Vec<Found>, IndexError>>()?;
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.id.cmp(&b.1.id)));
    Ok(found)
}

fn score(hit: &Value) -> f32 {
    hit["_score"].as_f64().unwrap_or(0.0) as f32
}

/// The first chunk of each document, at most `k`.
fn best_chunks(found: Vec<Found>, k: usize) -> Vec<Found> {
    let mut seen = HashSet::new();
    let mut best = found;
    best.retain(|(_, record)| seen.insert(record.doc_id.clone()));
    best.truncate(k);
    best
}

/// Scores of the sub-queries by chunk id.
#[derive(Default)]
struct Parts {
    text: HashMap<String, f32>,
    vector: HashMap<String, f32>,
}

async fn parts(
    client: &Client,
    alias: &str,
    request: &SearchRequest,
    best: &[Found],
) -> Result<Parts, IndexError> {
    let ids: Vec<&str> = best.iter().map(|(_, record)| record.id.as_str()).collect();
    let these = [json!({"ids": {"values": ids}})];
    let mut body = Vec::new();
    // With as few candidates as these the engine compares them all, exactly.
    for query in [
        text_query(request, &these),
        vector_query(request, ids.len(), &these),
    ] {
        let search = json!({"size": ids.len(), "query": query, "_source": false});
        for line in [json!({}), search] {
            body.extend_from_slice(line.to_string().as_bytes());
            body.push(b'\n');
        }
    }
    let path = format!("/{alias}/_msearch");
    let answer = client
        .send(Method::Post, &path, &[], Some(body), "application/x-ndjson")
        .await?
        .success()?;
    let scores = |part: &Value| -> Result<HashMap<String, f32>, IndexError> {
        let Some(hits) = part["hits"]["hits"].as_array() else {
            let what = format!("a part of the search failed: {}", part["error"]["type"]);
            return Err(IndexError::Unavailable { what, source: None });
        };
        let id = |hit: &Value| hit["_id"].as_str().unwrap_or_default().to_owned();
        Ok(hits.iter().map(|hit| (id(hit), score(hit))).collect())
    };
    Ok(Parts {
        text: scores(&answer["responses"][0])?,
        vector: scores(&answer["responses"][1])?,
    })
}
