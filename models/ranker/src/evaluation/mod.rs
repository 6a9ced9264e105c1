//! How good an order is, and how sure one can be that it is better than another.

mod bootstrap;
mod ndcg;
mod snips;

pub use bootstrap::{Bootstrap, BootstrapError, Interval, Weighted};
pub use ndcg::ndcg;
pub use snips::{ArmEstimate, LoggedPlay, MIN_EFFECTIVE_SAMPLE_SIZE, snips};
