//! Reads and listings as their users see them: folders, and buckets over HTTP.

// A test that gets the wrong answer should stop there, and say what it got.
#![allow(clippy::unwrap_used)]

mod answers;
mod folders;
mod oss_v4;
