//! `millrace`: one binary, one file a subcommand.
//!
//! The dataflow and the room of each behaviour are drawn in `ARCHITECTURE.md`.

mod allocator;
mod api;
mod audit;
mod cli;
mod commands;
mod config;
mod console;
mod dead_letters;
mod evaluation;
mod histogram;
mod html;
mod keys;
mod lag;
mod neural;
mod output;
mod rate;
mod recordings;
mod records;
mod refusals;
mod reset_offsets;
mod rollout;
mod session;
mod shared_store;
mod stack;
mod token;
mod topic_name;
mod when;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    allocator::one_arena_a_core();
    cli::Cli::parse().run()
}
