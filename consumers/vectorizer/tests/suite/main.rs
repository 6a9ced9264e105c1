//! The vectorizer on an embedded broker, an embedded index and the real MiniLM model.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod cut_off;
mod extraction;
mod hostile;
mod order;
mod pipeline;
mod poison;
mod stack;
mod waiting;
