//! The consumer of `documents`: it makes uploaded objects searchable.
//!
//! The folder listing is the dataflow:
//! `decode` (what does the notice say) → `admission` (one document at a time
//! of each URI) → `fetch` (the object as it is now) → [`extract`] (bytes to text) →
//! [`chunk`] (text to passages) → [`embed`] (passages to vectors) → `index` (header, chunks,
//! tombstones) → `signal` (what a recommender needs) → acknowledgement.
//! `document` takes one notice through these, `pipeline` many at a time. `refill` makes a document of
//! one index generation from what another has of it.
//!
//! Promises:
//! - A notice is acknowledged only after its effect is in the index and its signal and outcome are
//!   on their topics, or after its dead letter is. Delivered again, it ends the same.
//! - The object is the truth: late, doubled, disordered and lying notices end in what is there.
//! - No document stops the others: bad input becomes a dead letter with its reason, and what comes
//!   back by itself (a store, a broker, an index) is waited for and never dead-lettered.
//! - Memory is bounded by documents and bytes in flight, however fast the producer is.
//! - An index of another dimension or model is refused before the first write.
//!
//! Left to others: offsets (`millrace-kafka`), bulk requests and their retries (`millrace-index`),
//! what a model computes (`millrace-models`), what may be read (`millrace-objects`).

mod admission;
pub mod chunk;
mod config;
mod decode;
mod document;
pub mod embed;
pub mod extract;
mod failure;
mod fetch;
mod index;
mod passage;
mod pipeline;
mod publish;
mod refill;
mod signal;
mod stats;
mod vectorizer;

pub use config::{ChunkConfig, EmbedConfig, ExtractConfig, InvalidConfig, VectorizerConfig};
pub use extract::{ExtractorCommand, extract_worker_main};
pub use failure::Stage;
pub use passage::{Passage, PassageError};
pub use refill::{Prepared, Refill, RefillError, Refilled};
pub use stats::VectorizerStats;
pub use vectorizer::{
    Outsiders, StartError, Tells, Vectorizer, VectorizerDeps, VectorizerHandle, VectorizerState,
};
