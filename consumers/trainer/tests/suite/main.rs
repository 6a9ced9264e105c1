//! The trainer with the real LightGBM, whose official library the first run fetches, and on RankLens.
#![allow(clippy::unwrap_used)]

mod learning;
mod ranklens;
