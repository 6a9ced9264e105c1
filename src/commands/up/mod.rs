//! `millrace up`: everything in one process, until it is told to stop.

mod opening;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use serde::Serialize;

use self::opening::Opening;
use crate::config::Config;
use crate::output::Output;
use crate::stack::address::RunningAddress;
use crate::stack::{Needs, reach, states, stop};

/// Start the pipeline: topics, vectorizer, joiner, profiles, recommender, index and API in one process.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Watch this folder: its files become documents, their removal removes them.
    #[arg(long, value_name = "DIR")]
    watch: Vec<PathBuf>,
    #[command(flatten)]
    opening: Opening,
    /// Stop after that instead of staying up.
    #[arg(long)]
    once: bool,
}

#[derive(Debug, Serialize)]
struct Ready {
    pid: u32,
    api: String,
    console: String,
    kafka: String,
    data: PathBuf,
    ready_seconds: f64,
}

pub async fn run(args: Args, mut config: Config, output: Output) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    config.uploads.folders.extend(args.watch);
    let mut stop = stop::signals()?;
    let needs = Needs {
        joiner: states::are_configured(&config),
        labeler: states::are_configured(&config),
        profiles: states::are_configured(&config),
        recommender: states::are_configured(&config),
        ..Needs::UP
    };
    if !needs.joiner {
        tracing::info!(
            "behavior is not joined here, no profiles are kept and nothing is recommended: \
             state.valkey.url is not set"
        );
    }
    let Some(stack) = reach::start(&config, needs, &mut stop).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    stack.address().write(&config.data_dir)?;
    tokio::select! {
        () = stack.ready() => {}
        () = stop.first() => {
            RunningAddress::remove(&config.data_dir);
            return Ok(stop::drain(stack, stop, ExitCode::SUCCESS).await);
        }
    }
    let ready = Ready {
        pid: std::process::id(),
        api: stack.address().api.clone(),
        console: format!("{}{}/", stack.address().api, crate::console::ROOT),
        kafka: stack.address().kafka.clone(),
        data: config.data_dir.clone(),
        ready_seconds: started.elapsed().as_secs_f64(),
    };
    output.result(&ready, || {
        format!(
            "millrace is up after {:.1} s\n  API     {}  (POST /v1/search, POST /v1/notices, GET /v1/openapi.json, GET /metrics)\n  console {}\n  Kafka   {}\n  data    {}",
            ready.ready_seconds,
            ready.api,
            ready.console,
            ready.kafka,
            ready.data.display()
        )
    })?;
    let opened = tokio::select! {
        opened = args.opening.run(&config, output) => Some(opened),
        () = stop.first() => None,
    };
    let failed = stack.failed();
    let outcome = match opened {
        Some(Ok(())) if !args.once => tokio::select! {
            () = stop.first() => Ok(ExitCode::SUCCESS),
            () = failed.cancelled() => Ok(ExitCode::FAILURE),
        },
        Some(Err(error)) => Err(error),
        Some(Ok(())) | None => Ok(ExitCode::SUCCESS),
    };
    RunningAddress::remove(&config.data_dir);
    match outcome {
        Ok(code) => Ok(stop::drain(stack, stop, code).await),
        Err(error) => {
            stop::drain(stack, stop, ExitCode::FAILURE).await;
            Err(error)
        }
    }
}
