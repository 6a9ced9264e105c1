//! What the crate's tests share, and the test of the whole join against its model.

#![allow(clippy::unwrap_used)]

mod model;
pub(crate) mod samples;
