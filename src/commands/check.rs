//! `millrace check`: can everything work as configured, and if not, what to do?

use std::process::ExitCode;

use anyhow::{Context, bail};
use millrace_kafka::{Admin, Created};
use millrace_models::Encoder;
use millrace_objects::ObjectStores;
use millrace_retry::error_chain;
use millrace_state::ValkeyState;
use serde::Serialize;

use crate::api::client::ApiClient;
use crate::config::{Config, Profile};
use crate::output::Output;
use crate::session::TopicsSession;
use crate::stack::address::RunningAddress;
use crate::stack::{index, model};

/// Test configuration, connections, topics, model and index; say what to do.
#[derive(Debug, clap::Args)]
pub struct Args {}

#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    checks: Vec<Check>,
}

#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    detail: String,
    /// What works as configured, and looks forgotten all the same.
    warnings: Vec<String>,
}

pub async fn run(_args: Args, config: Config, output: Output) -> anyhow::Result<ExitCode> {
    // Loading the configuration was the first check: a wrong one ended the command with code 2.
    let mut checks = vec![Check {
        name: "config",
        ok: true,
        detail: format!(
            "profile {:?}, data in {}",
            config.profile,
            config.data_dir.display()
        )
        .to_lowercase(),
        warnings: Vec::new(),
    }];
    checks.push(Check {
        warnings: config.objects.doubts(),
        ..check("objects", objects(&config))
    });
    checks.push(check("kafka", kafka(&config).await));
    checks.push(check("state", state(&config).await));
    match model::load(&config).await {
        Ok(encoder) => {
            let (version, dimension) = (encoder.version(), encoder.dimension());
            checks.push(check(
                "model",
                Ok(format!("{version}, dimension {dimension}")),
            ));
            checks.push(check("index", index_fits(&config, &encoder).await));
        }
        Err(error) => checks.push(check("model", Err(error))),
    }
    let report = Report {
        ok: checks.iter().all(|check| check.ok),
        checks,
    };
    output.result(&report, || {
        let line = |check: &Check| {
            let verdict = if check.ok { "ok    " } else { "FAILED" };
            let warnings = check
                .warnings
                .iter()
                .map(|warning| format!("\nwarning           {warning}"));
            let warnings: String = warnings.collect();
            format!("{verdict}  {:8}  {}{warnings}", check.name, check.detail)
        };
        report
            .checks
            .iter()
            .map(line)
            .collect::<Vec<_>>()
            .join("\n")
    })?;
    Ok(if report.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn check(name: &'static str, found: anyhow::Result<String>) -> Check {
    match found {
        Ok(detail) => Check {
            name,
            ok: true,
            detail,
            warnings: Vec::new(),
        },
        Err(error) => Check {
            name,
            ok: false,
            detail: error_chain(error.as_ref()),
            warnings: Vec::new(),
        },
    }
}

fn objects(config: &Config) -> anyhow::Result<String> {
    ObjectStores::new(&config.objects)?;
    Ok(format!(
        "{} roots and {} buckets may be read",
        config.objects.allowed_roots.len(),
        config.objects.allowed_buckets.len()
    ))
}

async fn state(config: &Config) -> anyhow::Result<String> {
    config.joiner.validate()?;
    config.profiles.validate()?;
    match (config.profile, &config.state.valkey) {
        (Profile::Embedded, _) => Ok("state in the data folder".to_owned()),
        (Profile::Cluster, None) => Ok(
            "behavior is not joined, and no profiles are kept: state.valkey.url is not set"
                .to_owned(),
        ),
        (Profile::Cluster, Some(valkey)) => {
            ValkeyState::ping(valkey)
                .await
                .context("no answer from Valkey; is it running, and is state.valkey.url right?")?;
            Ok("Valkey answers".to_owned())
        }
    }
}

/// Looks without creating anything on a cluster: a check must not change what it checks.
async fn kafka(config: &Config) -> anyhow::Result<String> {
    let session = TopicsSession::attach_or_make(config)?;
    let found = async {
        let admin = Admin::connect(&session.kafka)?;
        let bootstrap = &session.kafka.bootstrap;
        let reports = admin.compare_declared().await.with_context(|| {
            format!(
                "no answer from Kafka at {bootstrap}; is it running, and is kafka.bootstrap right?"
            )
        })?;
        let mut missing = 0;
        for report in reports {
            match report.result {
                Created::Existing => {}
                Created::Created => missing += 1,
                Created::Differs { differences } => {
                    bail!(
                        "{} differs from its declaration: {}",
                        report.topic,
                        differences.join("; ")
                    )
                }
            }
        }
        Ok(if missing == 0 {
            format!("{bootstrap}, all topics as declared")
        } else {
            format!(
                "{bootstrap}, {missing} topics still to be made by `millrace topics create` or `up`"
            )
        })
    }
    .await;
    session.close().await;
    found
}

/// Looks without creating: a check must not change what it checks.
async fn index_fits(config: &Config, encoder: &Encoder) -> anyhow::Result<String> {
    if config.profile == Profile::Embedded
        && let Some(running) = RunningAddress::read(&config.data_dir)?
    {
        // Its process verified it at the start and holds its lock.
        let info = ApiClient::new(&running)?.info().await?;
        let (writes, model) = (&info.index["writes"], &info.index["model_version"]);
        return Ok(format!(
            "in use by process {}: {writes} embedded by {model}",
            running.pid
        ));
    }
    let name = &config.index.name;
    let to_be_made = || format!("{name} is still to be made, by `up` or a vectorizer");
    if config.profile == Profile::Embedded && !index::folder(config).is_dir() {
        return Ok(to_be_made());
    }
    let generations = index::connect(config).await?;
    let listed = generations.list(name).await?;
    let serving = generations.resolve(name).await?;
    // As a start does: once there were two, the configuration does not say which model serves.
    let spec = match serving.as_ref().or(listed.first()) {
        Some(found) if found.generation > index::FIRST_GENERATION || listed.len() > 1 => {
            let encoder = model::of_generation(config, found).await?;
            index::spec(config, found.generation, &encoder)
        }
        _ => index::spec(config, index::FIRST_GENERATION, encoder),
    };
    let found = generations.look(&spec).await?;
    Ok(found.map_or_else(to_be_made, |found| {
        format!(
            "{} {}, {} embedded by {}",
            found.adapter, found.engine_version, found.writes, found.model_version
        )
    }))
}
