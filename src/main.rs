//! `millrace`: one binary, one file a subcommand.
//!
//! The dataflow and the room of each behaviour are drawn in `ARCHITECTURE.md`.

mod api;
mod audit;
mod cli;
mod commands;
mod config;
mod evaluation;
mod histogram;
mod html;
mod keys;
mod neural;
mod output;
mod rate;
mod recordings;
mod refusals;
mod rollout;
mod session;
mod stack;
mod when;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    cli::Cli::parse().run()
}
