//! The index in an OpenSearch cluster, 2.19 or newer.
//!
//! ```text
//! {name}-000001          the index of a generation
//! {name}-000001-write    alias that its writes go through (require_alias)
//! {name}-000001-read     alias that its searches go through: chunks that are no tombstones
//! {name}                 alias of the generation that serves, with the same filter
//! ```

mod bulk;
mod classify;
mod client;
mod config;
mod documents;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod generations;
mod mapping;
pub mod ml_commons;
mod search;
mod version;

use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use opensearch::http::Method;
use serde_json::{Value, json};

use crate::{
    BulkAction, Hit, IndexCounts, IndexDescription, IndexError, IndexSpec, ItemOutcome,
    MAX_HEADERS, Record, SearchIndex, SearchRequest,
};
use client::Client;
pub use config::OpenSearchConfig;
use mapping::Stored;

/// Tombstones that one request of a sweep removes.
const SWEEP_ROUND: u64 = 10_000;

/// A generation of an index in a cluster.
#[derive(Debug)]
pub struct OpenSearchIndex {
    client: Arc<Client>,
    config: OpenSearchConfig,
    ensured: RwLock<Option<Arc<Ensured>>>,
}

/// What `ensure` settled.
#[derive(Debug)]
struct Ensured {
    spec: IndexSpec,
    stored: Stored,
    server_version: String,
}

impl OpenSearchIndex {
    /// Prepares connections; nothing is sent before `ensure`.
    ///
    /// # Errors
    /// [`IndexError::InvalidRequest`] for an address that is none, [`IndexError::Storage`] for a
    /// certificate that cannot be read.
    pub fn new(config: OpenSearchConfig) -> Result<Self, IndexError> {
        Ok(Self {
            client: Arc::new(Client::new(&config)?),
            config,
            ensured: RwLock::new(None),
        })
    }

    fn ensured(&self) -> Result<Arc<Ensured>, IndexError> {
        // Replaced whole, so a panic elsewhere leaves it sound.
        let ensured = self.ensured.read().unwrap_or_else(PoisonError::into_inner);
        ensured.clone().ok_or(IndexError::NotEnsured)
    }

    async fn get_json(&self, path: &str) -> Result<Option<Value>, IndexError> {
        let answer = self.client.json(Method::Get, path, &[], None).await?;
        if answer.status == 404 {
            return Ok(None);
        }
        answer.success().map(Some)
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value, IndexError> {
        self.client
            .json(Method::Post, path, &[], Some(body))
            .await?
            .success()
    }

    async fn create(&self, spec: &IndexSpec) -> Result<(), IndexError> {
        let path = format!("/{}", spec.index_name());
        let body = mapping::creation(spec, &self.config);
        let answer = self
            .client
            .json(Method::Put, &path, &[], Some(&body))
            .await?;
        // Another process was faster; what it made is verified like any other.
        let there = answer
            .engine_error()
            .is_some_and(|error| error.error_type == "resource_already_exists_exception");
        if there {
            Ok(())
        } else {
            answer.success().map(|_| ())
        }
    }

    /// The server's version, where it is new enough.
    async fn server_version(&self) -> Result<String, IndexError> {
        let root = self.client.json(Method::Get, "/", &[], None).await?;
        version::supported(&root.success()?)
    }

    async fn description(
        &self,
        spec: &IndexSpec,
        stored: &Stored,
        server_version: String,
    ) -> Result<IndexDescription, IndexError> {
        Ok(IndexDescription {
            adapter: "opensearch",
            engine_version: server_version,
            reads: self.read_indices(spec).await?.join(","),
            writes: spec.index_name(),
            dimension: stored.dimension,
            model_version: stored.model_version.clone(),
            model_fingerprint: stored.model_fingerprint.clone(),
        })
    }

    /// Generations that the read alias points at.
    async fn read_indices(&self, spec: &IndexSpec) -> Result<Vec<String>, IndexError> {
        let aliases = self.get_json(&format!("/_alias/{}", spec.name)).await?;
        let indices = aliases.as_ref().and_then(Value::as_object);
        Ok(indices
            .map(|map| map.keys().cloned().collect())
            .unwrap_or_default())
    }
}

#[async_trait]
impl SearchIndex for OpenSearchIndex {
    async fn ensure(&self, spec: &IndexSpec) -> Result<(), IndexError> {
        spec.validate()?;
        let server_version = self.server_version().await?;
        let index = spec.index_name();
        let mapping_path = format!("/{index}/_mapping");
        let mapping = match self.get_json(&mapping_path).await? {
            Some(mapping) => mapping,
            None => {
                self.create(spec).await?;
                let made = self.get_json(&mapping_path).await?;
                made.ok_or_else(|| IndexError::NoSuchGeneration {
                    name: index.clone(),
                })?
            }
        };
        let stored = mapping::verify(&mapping, spec)?;
        let searchable = mapping::searchable();
        let mut actions = vec![
            json!({"add": {"index": index, "alias": spec.write_alias()}}),
            json!({"add": {"index": index, "alias": spec.search_alias(), "filter": searchable}}),
        ];
        if self.read_indices(spec).await?.is_empty() {
            actions
                .push(json!({"add": {"index": index, "alias": spec.name, "filter": searchable}}));
        }
        self.post("/_aliases", &json!({"actions": actions})).await?;
        let ensured = Ensured {
            spec: spec.clone(),
            stored,
            server_version,
        };
        *self.ensured.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(ensured));
        Ok(())
    }

    async fn bulk(&self, actions: Vec<BulkAction>) -> Result<Vec<ItemOutcome>, IndexError> {
        if actions.is_empty() {
            return Ok(Vec::new());
        }
        let ensured = self.ensured()?;
        let alias = ensured.spec.write_alias();
        bulk::bulk(&self.client, &alias, ensured.spec.dimension, actions).await
    }

    async fn fetch(
        &self,
        ids: &[String],
        with_vectors: bool,
    ) -> Result<Vec<Option<Record>>, IndexError> {
        let ensured = self.ensured()?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let path = format!("/{}/_mget", ensured.spec.write_alias());
        let excluded = if with_vectors { "" } else { "vector" };
        let query = [("_source_excludes", excluded), ("realtime", "true")];
        let body = json!({"ids": ids});
        let answer = self
            .client
            .json(Method::Post, &path, &query, Some(&body))
            .await?
            .success()?;
        let documents = answer["docs"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        if documents.len() != ids.len() {
            let what = format!("{} answers for {} ids", documents.len(), ids.len());
            return Err(IndexError::Unavailable { what, source: None });
        }
        let read = |document: &Value| {
            if let Some(error) = document["error"]["type"].as_str() {
                let what = format!("reading {}: {error}", document["_id"]);
                return Err(IndexError::Unavailable { what, source: None });
            }
            let found = document["found"] == true;
            found.then(|| documents::record(document)).transpose()
        };
        documents.iter().map(read).collect()
    }

    async fn search(&self, request: &SearchRequest) -> Result<Vec<Hit>, IndexError> {
        let ensured = self.ensured()?;
        request.validate(ensured.spec.dimension)?;
        search::search(&self.client, &ensured.spec.search_alias(), request).await
    }

    async fn count(&self) -> Result<IndexCounts, IndexError> {
        let ensured = self.ensured()?;
        let live = |header: bool| {
            let kind = if header { "must_not" } else { "must" };
            json!({"bool": {
                "filter": [{"term": {"deleted": false}}],
                kind: [{"exists": {"field": "chunk"}}],
            }})
        };
        let body = json!({
            "size": 0,
            "aggs": {"kinds": {"filters": {"filters": {
                "documents": live(true),
                "chunks": live(false),
                "tombstones": {"term": {"deleted": true}},
            }}}},
        });
        let path = format!("/{}/_search", ensured.spec.write_alias());
        let answer = self.post(&path, &body).await?;
        let buckets = &answer["aggregations"]["kinds"]["buckets"];
        let count = |kind: &str| buckets[kind]["doc_count"].as_u64().unwrap_or(0);
        Ok(IndexCounts {
            documents: count("documents"),
            chunks: count("chunks"),
            tombstones: count("tombstones"),
        })
    }

    async fn headers(
        &self,
        uri_prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Record>, IndexError> {
        let ensured = self.ensured()?;
        let mut filters = vec![json!({"prefix": {"uri": {"value": uri_prefix}}})];
        if let Some(after) = after {
            filters.push(json!({"range": {"uri": {"gt": after}}}));
        }
        let body = json!({
            "size": limit.min(MAX_HEADERS),
            "sort": [{"uri": "asc"}],
            "track_total_hits": false,
            "query": {"bool": {"filter": filters, "must_not": [{"exists": {"field": "chunk"}}]}},
        });
        let path = format!("/{}/_search", ensured.spec.write_alias());
        let answer = self.post(&path, &body).await?;
        let hits = answer["hits"]["hits"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        hits.iter().map(documents::record).collect()
    }

    async fn warm_up(&self) -> Result<(), IndexError> {
        let ensured = self.ensured()?;
        let path = format!("/_plugins/_knn/warmup/{}", ensured.spec.index_name());
        let answer = self.client.json(Method::Get, &path, &[], None).await?;
        answer.success().map(|_| ())?;
        // The plugin loads native indexes only; a search touches Lucene's.
        let request = SearchRequest {
            text: Some("warm up".to_owned()),
            vector: Some(vec![1.0; ensured.spec.dimension]),
            ..SearchRequest::default()
        };
        self.search(&request).await.map(|_| ())
    }

    async fn refresh(&self) -> Result<(), IndexError> {
        let path = format!("/{}/_refresh", self.ensured()?.spec.write_alias());
        let answer = self.client.json(Method::Post, &path, &[], None).await?;
        answer.success().map(|_| ())
    }

    async fn sweep(&self, older_than_version: i64) -> Result<u64, IndexError> {
        let path = format!("/{}/_delete_by_query", self.ensured()?.spec.write_alias());
        // A tombstone that is overwritten meanwhile is no longer one: pass over it.
        let query = [("conflicts", "proceed"), ("refresh", "true")];
        // In rounds, so that none outlasts the timeout of a request.
        let body = json!({"max_docs": SWEEP_ROUND, "query": {"bool": {"filter": [
            {"term": {"deleted": true}},
            {"range": {"version": {"lt": older_than_version}}},
        ]}}});
        let mut swept = 0;
        loop {
            let answer = self
                .client
                .json(Method::Post, &path, &query, Some(&body))
                .await?
                .success()?;
            let deleted = answer["deleted"].as_u64().unwrap_or(0);
            swept += deleted;
            if deleted == 0 {
                return Ok(swept);
            }
        }
    }

    async fn describe(&self) -> Result<IndexDescription, IndexError> {
        let ensured = self.ensured()?;
        let version = ensured.server_version.clone();
        self.description(&ensured.spec, &ensured.stored, version)
            .await
    }
}
