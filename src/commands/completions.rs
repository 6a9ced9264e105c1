//! `millrace completions SHELL`: completion scripts.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

/// Print a completion script for a shell.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which shell.
    #[arg(value_enum)]
    shell: Shell,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(
        args.shell,
        &mut crate::cli::Cli::command(),
        "millrace",
        &mut script,
    );
    crate::output::Output::new(false).line(String::from_utf8(script)?.trim_end())?;
    Ok(ExitCode::SUCCESS)
}
