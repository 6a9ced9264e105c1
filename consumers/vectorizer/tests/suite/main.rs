//! The vectorizer with the real MiniLM model, on an embedded broker and index, and where that may make
//! a difference also on the real Kafka and OpenSearch (modules `real`).

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod cut_off;
mod extraction;
mod faults;
mod faulty;
mod hostile;
mod model_server;
mod order;
mod pipeline;
mod poison;
mod replay;
mod stack;
mod waiting;
