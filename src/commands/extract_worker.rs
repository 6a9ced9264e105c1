//! `millrace extract-worker`: the child process that reads one hostile document.

use std::process::ExitCode;

/// Read one document on standard input, write its text on standard output.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Media type of the document.
    media_type: String,
}

pub fn run(args: &Args) -> ExitCode {
    millrace_vectorizer::extract_worker_main(&args.media_type)
}
