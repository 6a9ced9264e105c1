//! Judged retrieval: reading queries, judgements and runs; the measures; how sure a difference is.

pub mod choice;
pub mod comparison;
pub mod judgements;
pub mod measures;
pub mod per_query;
pub mod run;
