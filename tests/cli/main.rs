//! The `millrace` binary from outside: embedded, and on a real Kafka and OpenSearch.
//!
//! Modules named `real` need the servers that `make test` starts.

mod alerts;
mod answers;
mod backfill;
mod bad_input;
mod behavior;
mod buckets;
mod canary;
mod console;
mod dashboards;
mod dead_letters;
mod encoders;
mod evaluation;
mod harness;
mod lag;
mod models;
mod neural;
mod notices;
mod peek;
mod pipeline;
mod rankers;
mod recommendations;
mod reconcile;
mod refusals;
mod replay;
mod replay_cut_off;
mod rollout;
mod running;
mod scenarios;
mod sweep;
mod traces;
mod traffic;
