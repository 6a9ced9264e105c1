//! The `millrace` binary from outside: embedded, and on a real Kafka and OpenSearch.
//!
//! Modules named `real` need the servers that `make test` starts.

mod alerts;
mod bad_input;
mod behavior;
mod buckets;
mod console;
mod dashboards;
mod dead_letters;
mod encoders;
mod evaluation;
mod harness;
mod lag;
mod models;
mod notices;
mod peek;
mod pipeline;
mod rankers;
mod recommendations;
mod reconcile;
mod refusals;
mod replay;
mod replay_cut_off;
mod running;
mod scenarios;
mod traces;
mod traffic;
