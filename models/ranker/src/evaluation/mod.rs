//! How good an order is, and how sure one can be that it is better than another.

mod bootstrap;
mod ndcg;

pub use bootstrap::{Bootstrap, BootstrapError, Interval};
pub use ndcg::ndcg;
