//! The server over HTTP, on the real model, which the store fetches on the first run.
#![allow(clippy::unwrap_used)]

#[path = "../../../tests/fixture/cross_encoder.rs"]
mod cross_encoder;
mod fixture;
mod limits;
mod official_client;
mod openai;
mod overload;
mod remote;
mod reranking;
mod tei;
mod torchserve;
