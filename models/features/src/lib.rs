//! What is known of items, as numbers: how often they were shown and clicked, and what that means at
//! a moment.
//!
//! ```text
//! behavior ─► counters (integers in buckets of event time) ─► rates (decayed, smoothed, corrected)
//! ```
//!
//! Promises:
//! - The same events leave the same [`counters`], in whatever order and batches they come; the same
//!   counters give the same [`rates`] at the same moment, bit for bit.
//! - Nothing here reads a clock, a file or the network: the moment is an argument.
//!
//! Left to others: which events count and how often (the joiner), and where counters are kept.

pub mod counters;
pub mod rates;
