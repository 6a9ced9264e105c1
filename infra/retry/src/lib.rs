//! Waiting for what comes back by itself (a broker, a store, an index, a registry), and saying why.
//!
//! - [`FullJitter`] gives the delays between attempts, without end.
//! - [`while_unavailable`] tries until it works; whoever must stop drops the future.
//! - [`Patience`] tries until it works or a stop lets go of everything that waits.
//! - [`error_chain`] is an error with its causes, for the line that says why; [`error_causes`] has them
//!   one by one.
//!
//! There is no limit on attempts: who waits keeps its offset where it is, so waiting loses nothing,
//! and giving up would. Which errors are worth waiting for is the caller's to know.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod error_chain;
mod full_jitter;
mod patience;
mod while_unavailable;

use std::time::Duration;

pub use error_chain::{error_causes, error_chain};
pub use full_jitter::FullJitter;
pub use patience::{OutOfPatience, Patience};
pub use while_unavailable::while_unavailable;

const FIRST: Duration = Duration::from_millis(100);
const LIMIT: Duration = Duration::from_secs(30);
