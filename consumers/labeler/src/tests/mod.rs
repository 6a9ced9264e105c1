//! Tests that stop the labels between any two steps.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod gaps;
mod model;
mod play;
