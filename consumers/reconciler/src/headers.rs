//! What the index holds: its header records, walked in the order of their URIs.

use std::sync::Arc;

use async_trait::async_trait;
use millrace_index::{BoxError, MAX_HEADERS, Record, SearchIndex};
use millrace_objects::{Location, ObjectUri};
use serde::{Deserialize, Serialize};

use crate::runs::Keyed;

/// Headers of one request.
pub(crate) const PAGE: usize = 1_000;
const _: () = assert!(PAGE <= MAX_HEADERS);

/// A header record, as far as it is compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Where the document is.
    pub uri: String,
    /// Version that was written.
    pub version: i64,
    /// Tag of the object that was read.
    pub etag: Option<String>,
    /// A tombstone.
    pub deleted: bool,
}

impl Keyed for Header {
    fn key(&self) -> &str {
        &self.uri
    }

    fn order(&self) -> i64 {
        self.version
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.uri.len() + self.etag.as_deref().map_or(0, str::len)
    }
}

impl From<Record> for Header {
    fn from(record: Record) -> Self {
        Self {
            uri: record.uri,
            version: record.version,
            etag: record.etag,
            deleted: record.deleted,
        }
    }
}

/// Where headers are read from: the index itself, or the API of the process that has it.
#[async_trait]
pub trait Headers: Send + Sync {
    /// Makes all writes so far visible to [`Headers::page`].
    ///
    /// # Errors
    /// The index cannot be reached.
    async fn refresh(&self) -> Result<(), BoxError>;

    /// As [`SearchIndex::headers`].
    ///
    /// # Errors
    /// The index cannot be read.
    async fn page(
        &self,
        uri_prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Header>, BoxError>;

    /// As [`SearchIndex::get`], by document ids.
    ///
    /// # Errors
    /// The index cannot be read.
    async fn get(&self, doc_ids: &[String]) -> Result<Vec<Option<Header>>, BoxError>;
}

/// The index of this process.
pub struct IndexHeaders(pub Arc<dyn SearchIndex>);

#[async_trait]
impl Headers for IndexHeaders {
    async fn refresh(&self) -> Result<(), BoxError> {
        Ok(self.0.refresh().await?)
    }

    async fn page(
        &self,
        uri_prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Header>, BoxError> {
        let records = self.0.headers(uri_prefix, after, limit).await?;
        Ok(records.into_iter().map(Header::from).collect())
    }

    async fn get(&self, doc_ids: &[String]) -> Result<Vec<Option<Header>>, BoxError> {
        let records = self.0.get(doc_ids).await?;
        Ok(records.into_iter().map(|r| r.map(Header::from)).collect())
    }
}

/// Which URIs belong to what is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    /// The root itself, where it can name an object; not the prefix of a bucket.
    exact: Option<String>,
    /// In byte order.
    prefixes: Vec<String>,
}

impl Scope {
    /// Of `root`. `is_object`: it names one object, so that nothing lies below it but its records.
    pub fn of(root: &ObjectUri, is_object: bool) -> Self {
        let text = root.to_string();
        match root.location() {
            Location::Bucket { key, .. } if key.is_empty() || key.ends_with('/') => Self {
                exact: None,
                prefixes: vec![text],
            },
            Location::File(_) | Location::Bucket { .. } => {
                let records = format!("{text}#");
                let below = format!("{}/", text.trim_end_matches('/'));
                Self {
                    prefixes: if is_object {
                        vec![records]
                    } else {
                        vec![records, below]
                    },
                    exact: Some(text),
                }
            }
        }
    }

    pub fn holds(&self, uri: &str) -> bool {
        self.exact.as_deref() == Some(uri) || self.prefixes.iter().any(|p| uri.starts_with(p))
    }

    /// What to walk, in byte order of what it gives: a prefix, and whether only that very URI.
    pub fn walks(&self) -> impl Iterator<Item = (&str, bool)> {
        let exact = self.exact.as_deref().map(|exact| (exact, true));
        let prefixes = self.prefixes.iter().map(|prefix| (prefix.as_str(), false));
        exact.into_iter().chain(prefixes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(root: &str, is_object: bool) -> Scope {
        Scope::of(&ObjectUri::parse(root).unwrap(), is_object)
    }

    #[test]
    fn a_scope_ends_where_its_root_ends() {
        let folder = scope("file:///data/notes", false);
        for (uri, held) in [
            ("file:///data/notes", true),
            ("file:///data/notes#7", true),
            ("file:///data/notes/a", true),
            ("file:///data/notes.bak/a", false),
            ("file:///data/notes-2", false),
        ] {
            assert_eq!(folder.holds(uri), held, "{uri}");
        }
        let corpus = scope("file:///data/c.jsonl", true);
        assert!(corpus.holds("file:///data/c.jsonl#1") && !corpus.holds("file:///data/c.jsonl/x"));
        let bucket = scope("s3://docs", false);
        assert!(bucket.holds("s3://docs/a") && !bucket.holds("s3://docs-2/a"));
        let prefix = scope("s3://docs/a/", false);
        assert!(prefix.holds("s3://docs/a/b") && !prefix.holds("s3://docs/a#1"));
        let root = scope("file:///", false);
        assert!(root.holds("file:///etc/a"));
    }
}
