//! The search index: one port, two adapters.
//!
//! [`SearchIndex`] is what the rest of Millrace knows: one generation, written and searched.
//! [`Generations`] opens them side by side and says which one serves. `EmbeddedIndex`
//! keeps everything in a folder and needs no server; the OpenSearch adapter speaks to a cluster.
//! `BulkSink` stands above either: it batches, retries, halts and resumes.
//!
//! Promises, the same from both adapters:
//! - An item reported `Indexed` survives a crash; text, vector and version become visible together.
//! - Writers are ordered by version alone (`external_gte`): any interleaving, duplication and
//!   replay of the same writes ends in the same index. A tombstone keeps its version.
//! - A search shows a document once, by its best chunk. Hybrid scores mean the same number.
//! - Vectors of another dimension or another model are refused before the first write.
//!
//! Left to others: reading and chunking documents, making vectors, deciding what a stale outcome
//! means (the vectorizer compares the object with the header), offsets, dead letters.

mod admission;
pub mod embedded;
mod fusion;
mod generations;
pub mod opensearch;
mod outcome;
mod port;
mod query;
mod record;
pub mod sink;

pub use embedded::EmbeddedIndex;
pub use fusion::fuse;
pub use generations::{Generation, Generations};
pub use opensearch::{OpenSearchConfig, OpenSearchIndex};
pub use outcome::{FinalOutcome, ItemOutcome, Obstacle, Rejection};
pub use port::{
    BoxError, FORMAT_VERSION, IndexCounts, IndexDescription, IndexError, IndexSpec, KnnEngine,
    MAX_HEADERS, SearchIndex, generation_name,
};
pub use query::{
    DEFAULT_BM25_WEIGHT, DEFAULT_K, DEFAULT_RANK_CONSTANT, DEFAULT_VECTOR_WEIGHT, DEFAULT_WINDOW,
    Filter, Fusion, Hit, MAX_WINDOW, Mode, SearchRequest,
};
pub use record::{BulkAction, Record};
pub use sink::{BulkSink, SinkClosed, SinkConfig, SinkState};
