//! Judged retrieval: reading queries, judgements and writing runs; the measures.

pub mod judgements;
pub mod measures;
pub mod run;
