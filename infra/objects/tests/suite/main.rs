//! Reads and listings as their users see them: folders, and buckets over HTTP; `real::…` against a
//! real S3 endpoint.

// A test that gets the wrong answer should stop there, and say what it got.
#![allow(clippy::unwrap_used)]

mod answers;
mod folders;
mod oss_v4;
mod real;
