//! The command line: global flags, the list of subcommands, exit codes.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use millrace_telemetry::LogFormat;

use crate::allocator;
use crate::commands;
use crate::config::{Config, Overrides, Profile};
use crate::output::Output;

/// What was asked for cannot be done, whatever the state of things: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Upload to searchable in one pipeline: object storage, topics, vectorizer, index.
#[derive(Debug, Parser)]
#[command(name = "millrace", version, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.")]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Args)]
struct Global {
    /// Configuration file (TOML). Default: `millrace.toml` where it exists.
    #[arg(long, global = true, value_name = "FILE", env = "MILLRACE_CONFIG")]
    config: Option<PathBuf>,
    /// Folder of the embedded topics and index, and of a running `up`'s address.
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Embedded broker and index, or a real Kafka and OpenSearch.
    #[arg(long, global = true, value_enum)]
    profile: Option<Profile>,
    /// Print one JSON object on standard output.
    #[arg(long, global = true)]
    json: bool,
    /// Log filter, such as `info` or `millrace=debug`.
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
    /// Log lines as text or JSON, on standard error.
    #[arg(long, global = true, value_name = "text|json", value_parser = parse_log_format)]
    log_format: Option<LogFormat>,
}

fn parse_log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("expected text or json".to_owned()),
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(commands::up::Args),
    Run(commands::run::Args),
    Ingest(commands::ingest::Args),
    Publish(commands::publish::Args),
    Reconcile(commands::reconcile::Args),
    Rebuild(commands::rebuild::Args),
    Rollout(commands::rollout::Args),
    Backfill(commands::backfill::Args),
    Search(commands::search::Args),
    Recommend(commands::recommend::Args),
    Deploy(commands::deploy::Args),
    Undeploy(commands::undeploy::Args),
    Eval(commands::eval::Args),
    Sweep(commands::sweep::Args),
    Dataset(commands::dataset::Args),
    Train(commands::train::Args),
    Status(commands::status::Args),
    Stats(commands::stats::Args),
    Profile(commands::profile::Args),
    Lag(commands::lag::Args),
    Peek(commands::peek::Args),
    Topics(commands::topics::Args),
    Dlq(commands::dlq::Args),
    Replay(commands::replay::Args),
    Model(commands::model::Args),
    Check(commands::check::Args),
    Completions(commands::completions::Args),
    #[command(hide = true)]
    ExtractWorker(commands::extract_worker::Args),
}

impl Cli {
    /// Runs the subcommand and turns its result into the process's exit code.
    pub fn run(self) -> ExitCode {
        let output = Output::new(self.global.json);
        match self.dispatch(output) {
            Ok(code) => code,
            Err(error) => {
                output.error(&error);
                let usage = error.is::<UsageError>() || error.is::<crate::config::ConfigError>();
                ExitCode::from(if usage { 2 } else { 1 })
            }
        }
    }

    fn dispatch(self, output: Output) -> anyhow::Result<ExitCode> {
        // These two touch neither configuration nor logs: the worker's standard
        // streams carry the document, and completions must work anywhere.
        match self.command {
            Command::ExtractWorker(args) => return Ok(commands::extract_worker::run(&args)),
            Command::Completions(args) => return commands::completions::run(&args),
            _ => {}
        }
        // What serves tells what it does; what answers tells only what went wrong.
        let serves = matches!(self.command, Command::Up(_) | Command::Run(_));
        let config = Config::load(
            self.global.config.as_deref(),
            Overrides {
                default_log: if serves { "warn,millrace=info" } else { "warn" },
                data_dir: self.global.data,
                profile: self.global.profile,
                log: self.global.log,
                log_format: self.global.log_format,
            },
        )?;
        let _telemetry = millrace_telemetry::init(&config.telemetry)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        let code = runtime.block_on(async {
            if serves {
                tokio::spawn(allocator::give_back_regularly());
            }
            match self.command {
                Command::Up(args) => commands::up::run(args, config, output).await,
                Command::Run(args) => commands::run::run(args, config, output).await,
                Command::Ingest(args) => commands::ingest::run(args, config, output).await,
                Command::Publish(args) => commands::publish::run(args, config, output).await,
                Command::Reconcile(args) => commands::reconcile::run(args, config, output).await,
                Command::Rebuild(args) => commands::rebuild::run(args, config, output).await,
                Command::Rollout(args) => commands::rollout::run(args, config, output).await,
                Command::Backfill(args) => commands::backfill::run(args, config, output).await,
                Command::Search(args) => commands::search::run(args, config, output).await,
                Command::Recommend(args) => commands::recommend::run(args, config, output).await,
                Command::Deploy(args) => commands::deploy::run(args, config, output).await,
                Command::Undeploy(args) => commands::undeploy::run(args, config, output).await,
                Command::Eval(args) => commands::eval::run(args, config, output).await,
                Command::Sweep(args) => commands::sweep::run(args, config, output).await,
                Command::Dataset(args) => commands::dataset::run(args, output).await,
                Command::Train(args) => commands::train::run(args, config, output).await,
                Command::Status(args) => commands::status::run(args, config, output).await,
                Command::Stats(args) => commands::stats::run(args, config, output).await,
                Command::Profile(args) => commands::profile::run(args, config, output).await,
                Command::Lag(args) => commands::lag::run(args, config, output).await,
                Command::Peek(args) => commands::peek::run(args, config, output).await,
                Command::Topics(args) => commands::topics::run(args, config, output).await,
                Command::Dlq(args) => commands::dlq::run(args, config, output).await,
                Command::Replay(args) => commands::replay::run(args, config, output).await,
                Command::Model(args) => commands::model::run(args, config, output).await,
                Command::Check(args) => commands::check::run(args, config, output).await,
                Command::Completions(_) | Command::ExtractWorker(_) => {
                    unreachable!("handled before the configuration is read")
                }
            }
        });
        // A request to brokers that do not answer must not hold up a process that was told to stop.
        runtime.shutdown_timeout(Duration::from_millis(500));
        code
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
