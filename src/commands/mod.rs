//! One file a subcommand.

pub mod check;
pub mod completions;
pub mod dataset;
pub mod deploy;
pub mod dlq;
pub mod eval;
pub mod extract_worker;
pub mod ingest;
pub mod lag;
pub mod model;
pub mod peek;
pub mod profile;
pub mod publish;
pub mod rebuild;
pub mod recommend;
pub mod reconcile;
pub mod replay;
pub mod rollout;
pub mod run;
pub mod search;
pub mod stats;
pub mod status;
pub mod topics;
pub mod train;
pub mod up;
