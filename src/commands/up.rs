//! `millrace up`: everything in one process, until it is told to stop.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use serde::Serialize;

use super::ingest::{ingest, source_uri};
use super::search::text;
use crate::api::search::SearchQuery;
use crate::config::Config;
use crate::output::Output;
use crate::session::Session;
use crate::stack::address::RunningAddress;
use crate::stack::{Needs, reach, states, stop};

/// Start the pipeline: topics, vectorizer, joiner, profiles, recommender, index and API in one process.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Watch this folder: its files become documents, their removal removes them.
    #[arg(long, value_name = "DIR")]
    watch: Vec<PathBuf>,
    /// Once ready, ingest what the index lacks of this file, folder or corpus.
    #[arg(long, value_name = "PATH")]
    load: Vec<String>,
    /// After loading, search for this and print the answer.
    #[arg(long, value_name = "QUERY")]
    ask: Vec<String>,
    /// Stop after loading and asking instead of staying up.
    #[arg(long)]
    once: bool,
}

#[derive(Debug, Serialize)]
struct Ready {
    pid: u32,
    api: String,
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
        kafka: stack.address().kafka.clone(),
        data: config.data_dir.clone(),
        ready_seconds: started.elapsed().as_secs_f64(),
    };
    output.result(&ready, || {
        format!(
            "millrace is up after {:.1} s\n  API    {}  (POST /v1/search, POST /v1/notices, GET /v1/openapi.json, GET /metrics)\n  Kafka  {}\n  data   {}",
            ready.ready_seconds,
            ready.api,
            ready.kafka,
            ready.data.display()
        )
    })?;
    let loaded = tokio::select! {
        loaded = load_and_ask(&args.load, &args.ask, &config, output) => Some(loaded),
        () = stop.first() => None,
    };
    let failed = stack.failed();
    let outcome = match loaded {
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

async fn load_and_ask(
    load: &[String],
    ask: &[String],
    config: &Config,
    output: Output,
) -> anyhow::Result<()> {
    if load.is_empty() && ask.is_empty() {
        return Ok(());
    }
    // Through its own address, as any other process would: one way in.
    let session = Session::attach_or_start(config, Needs::INGEST).await?;
    for path in load {
        let uri = source_uri(path)?;
        let (summary, _) = ingest(&session, &config.objects, &uri, true, output).await?;
        if !output.is_json() {
            output.line(&summary.text())?;
        }
    }
    for question in ask {
        let query = SearchQuery {
            k: 3,
            ..SearchQuery::new(question)
        };
        let answer = session.api.search(&query).await?;
        output.result(&answer, || {
            format!("\n\u{201c}{question}\u{201d}\n{}", text(&answer))
        })?;
    }
    session.close().await;
    Ok(())
}
