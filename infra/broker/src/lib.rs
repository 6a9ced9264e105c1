//! A single-node, file-backed log that speaks the Kafka protocol, so that the pipeline has one code
//! path whether it runs embedded or on a cluster.
//!
//! # Promises
//! - What was acknowledged is there after `kill -9`: it is in the page cache before the answer. Power
//!   loss is a matter of [`FlushPolicy`].
//! - A batch is stored and served as the producer sent it; only its place (base offset, leader epoch)
//!   is written into it. Compaction copies whole batches or raw records.
//! - Opening checks every checksum. A torn tail is cut and logged; a hole stops the start with an
//!   error that names the file and the byte.
//! - Classic consumer groups (eager and cooperative, static members), idempotent producers and
//!   transactions behave as in Apache Kafka; one conformance suite runs against both.
//! - A full disk refuses writes (`KAFKA_STORAGE_ERROR`) and loses nothing; room that returns is used.
//! - It runs on its own thread and runtime: no client can starve it. It listens on loopback unless
//!   told otherwise.
//!
//! # Not here
//! Replication, authentication, TLS, quotas, tiered storage, KIP-848 groups. Codecs are
//! `kafka-protocol`'s.
//!
//! # Rooms
//! [`log`](self) holds one partition's segments, recovery, retention and compaction; `journal` and
//! `metadata` everything else that is durable; `topics`, `groups` and `transactions` the three
//! coordinators; `api` one file a family of requests; `server` sockets and dispatch.

mod api;
mod broker;
mod clock;
mod config;
mod data_dir;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod groups;
mod journal;
mod log;
mod maintenance;
mod metadata;
mod partition;
mod server;
mod service;
mod storage;
mod topic_config;
mod topics;
mod transactions;

pub use broker::{Broker, BrokerError};
pub use config::{BrokerConfig, FlushPolicy};
