//! The server over HTTP, on the real model, which the store fetches on the first run.
#![allow(clippy::unwrap_used)]

mod fixture;
mod limits;
mod official_client;
mod openai;
mod overload;
mod remote;
mod tei;
mod torchserve;
