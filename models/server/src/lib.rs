//! Sentence encoders, and a cross-encoder that ranks, over HTTP, in the interfaces that OpenAI, text-embeddings-inference (TEI) and
//! TorchServe have made known.
//!
//! The dataflow of a request:
//! [`dialects`] (what is asked, in whose words) → `admission` (can it be done in its time?) →
//! `prepare` (texts to token sequences, within the limits) → `queue` (rows of all requests) → `compute`
//! (batches by a budget of tokens, on threads of their own) → `answer` (normalised, cut to the
//! dimensions) → the dialect's words again. `registry` holds the models and versions that serve,
//! `reranker` the cross-encoder, both of the `source`; to the queue each is a `model`. `ranking` makes
//! pairs of a query and its texts, which go the same way.
//!
//! Promises:
//! - A vector is the one that the encoder gives in this process, to rounding, whatever it was
//!   batched with.
//! - A request is answered within its time: with vectors, or with 429 and when to come back where
//!   that could be told at once, or with 503 where it could not.
//! - What nobody waits for any more, and what is too late, is not computed.
//! - A model answers only once it is warm, and goes on answering what it was given when it is
//!   unregistered or the process is told to stop.
//!
//! Left to others: listening, signals and the process's health (the binary), which models there are
//! (`millrace-models`' store) and where else they come from ([`Fetch`]), TLS (a proxy).

mod admission;
mod answer;
mod compute;
mod config;
pub mod dialects;
mod error;
mod inputs;
mod metrics;
mod model;
mod prepare;
mod queue;
mod ranking;
mod rate;
mod registry;
mod reranker;
mod server;
mod service;
mod source;

pub use config::{InvalidConfig, ModelServerConfig};
pub use registry::RegisterError;
pub use server::{ModelServer, StartError};
pub use source::{Fetch, FetchError, ModelSource};
