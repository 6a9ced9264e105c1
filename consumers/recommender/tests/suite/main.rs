//! The recommender on the embedded broker and index: signals and counters are published for real,
//! profiles are given.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod catalog;
mod deploying;
mod fallbacks;
mod impressions;
mod personal;
mod replay;
mod reranking;
mod scenes;
mod stack;
