//! Rankings with their clicks: where they come from, how well an order does on them, and how a ranker
//! is trained on them.
//!
//! ```text
//! recording ──► replay: the join, offline ──────────────┐
//!               baselines beside it                      ├─► rankings with features and clicks
//! [training]: answers and the clicks on them ────────────┘        │            │
//!                                                              training    evaluation
//! [training] ──► clicked: answers that were clicked, for whoever orders them anew
//! [training] ──► drawn: answers whose weights were left to chance, and whether they were clicked
//! ```
//!
//! Promises:
//! - A recording's ranking is looked at with what was known before it, and nothing of it or after it.
//! - A recording's click counts for the list whose request it names, within half an hour of event time.
//! - Of an answer that is told several times the last revision counts.
//! - The same input gives the same rankings, scores and intervals.
//!
//! Left to others: what features are (`millrace-features`), how trees are grown and served
//! (`millrace-ranker`), the join (`millrace-joiner`), which clicks an answer has (`millrace-labeler`).

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod answers;
pub mod baselines;
pub mod clicked;
pub mod drawn;
pub mod evaluation;
pub mod examples;
pub mod learning;
mod ranking;
pub mod replay;
#[cfg(test)]
mod samples;
pub mod vectors;

pub use answers::Span;
pub use ranking::{CLICK_WINDOW_MS, ClickCounts, ClickJoin, Ranking};
