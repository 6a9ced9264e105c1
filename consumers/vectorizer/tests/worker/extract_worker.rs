//! The extraction worker as a program of its own, for the tests of this crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    let media_type = std::env::args().nth(1).unwrap_or_default();
    millrace_vectorizer::extract_worker_main(&media_type)
}
