//! Producers against a broker: what is posted, listed or watched stands on the topics.

// A test that gets the wrong answer should stop there, and say what it got.
#![allow(clippy::unwrap_used)]

mod airec_tables;
mod behavior_files;
mod behavior_posts;
mod fixture;
mod folders;
mod listings;
mod posts;
