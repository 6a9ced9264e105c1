//! `millrace run ROLE`: one role of the pipeline, for the cluster profile.

use std::process::ExitCode;

use anyhow::bail;
use clap::ValueEnum;
use millrace_reconciler::DEFAULT_EVERY;
use millrace_vectorizer::Outsiders;
use serde_json::json;

use crate::cli::UsageError;
use crate::config::{Config, Profile};
use crate::output::Output;
use crate::stack::serving::Serving;
use crate::stack::stop::StopSignals;
use crate::stack::{Needs, reach, states, stop};

/// Run one role; members of a role share the work.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which role.
    #[arg(value_enum)]
    role: Role,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Role {
    /// Documents topic to index.
    Vectorizer,
    /// Behavior and signals to feedback and item stats; the state in Valkey.
    Joiner,
    /// Answers and the clicks on them to training examples; the state in Valkey.
    Labeler,
    /// Feedback to profiles of users; the state in Valkey.
    Profiles,
    /// Watched folders and `POST /v1/notices` to the documents topic.
    Uploads,
    /// Store, index and signals compared on a schedule; tombstones swept.
    Reconciler,
    /// Recommendations over HTTP; profiles from Valkey.
    Recommender,
    /// `POST /v1/events` and AIRec's tables to their topics.
    Collector,
    /// Metrics of how far consumer groups are behind, under the names of klag-exporter.
    LagExporter,
    /// A document uploaded on a schedule and searched for, and how long that took, as metrics.
    Canary,
    /// Pages over topics, groups, dead letters, search and, with state.valkey.url, recommendations.
    Console,
    /// Sentence encoders over HTTP, as OpenAI's, TEI's and TorchServe's servers; on either profile.
    ModelServer,
}

pub async fn run(args: Args, mut config: Config, output: Output) -> anyhow::Result<ExitCode> {
    if let Role::ModelServer = args.role {
        return serve_models(&config, output).await;
    }
    if config.profile == Profile::Embedded {
        bail!(
            "the embedded broker and index have one process: use `millrace up`, or a Kafka and an OpenSearch with --profile cluster"
        );
    }
    // Who starts the role wants it to compare.
    config.reconciler.every.get_or_insert(DEFAULT_EVERY);
    if let Role::LagExporter = args.role
        && config.lag.every().is_none()
    {
        let refusal = "lag.every_seconds is 0, so there would be nothing to export";
        return Err(UsageError(refusal.to_owned()).into());
    }
    if let Role::Canary = args.role
        && config.canary.every().is_none()
    {
        let refusal =
            "canary.every_seconds is 0, so nothing would be uploaded; 60 is a document a minute";
        return Err(UsageError(refusal.to_owned()).into());
    }
    let role = Needs {
        topics: true,
        ..Needs::NOTHING
    };
    let needs = match args.role {
        Role::Vectorizer => Needs {
            search: true,
            pipeline: true,
            outsiders: Outsiders::DeadLetter,
            ..role
        },
        // Of the model these two need the name alone: their vectors are of the index's model.
        Role::Joiner => Needs {
            joiner: true,
            ..role
        },
        Role::Labeler => Needs {
            labeler: true,
            ..role
        },
        Role::Profiles => Needs {
            profiles: true,
            ..role
        },
        Role::Uploads => Needs {
            search: true,
            uploads: true,
            ..role
        },
        Role::Reconciler => Needs {
            search: true,
            reconciler: true,
            ..role
        },
        Role::Recommender => Needs {
            search: true,
            profile_reader: true,
            recommender: true,
            ..role
        },
        // Neither index nor model: a click is taken whatever state they are in.
        Role::Collector => Needs {
            collector: true,
            ..role
        },
        // It makes no topics, so that it serves whatever state the brokers are in: that is its news.
        Role::LagExporter => Needs {
            lag: true,
            ..Needs::NOTHING
        },
        Role::Canary => Needs {
            search: true,
            canary: true,
            ..role
        },
        Role::Console => Needs {
            search: true,
            profile_reader: states::are_configured(&config),
            recommender: states::are_configured(&config),
            console: true,
            ..role
        },
        Role::ModelServer => unreachable!("it is no part of a stack and was served above"),
    };
    let is_console = needs.console;
    let mut stop = stop::signals()?;
    let Some(stack) = reach::start(&config, needs, &mut stop).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    tokio::select! {
        () = stack.ready() => {}
        () = stop.first() => return Ok(stop::drain(stack, stop, ExitCode::SUCCESS).await),
    }
    let api = stack.address().api.clone();
    output.result(&json!({ "pid": std::process::id(), "api": api }), || {
        let console = match is_console {
            true => format!("the console at {api}/console/, "),
            false => String::new(),
        };
        format!("running; {console}health and metrics at {api}")
    })?;
    let failed = stack.failed();
    let code = tokio::select! {
        () = stop.first() => ExitCode::SUCCESS,
        () = failed.cancelled() => ExitCode::FAILURE,
    };
    Ok(stop::drain(stack, stop, code).await)
}

/// Neither topics nor index, and no data folder: it may run beside an `up` of the same one.
async fn serve_models(config: &Config, output: Output) -> anyhow::Result<ExitCode> {
    let mut stop = stop::signals()?;
    let serving = Serving::start(config).await?;
    tokio::select! {
        loaded = serving.load(config) => loaded?,
        () = stop.first() => return Ok(drain_models(serving, stop).await),
    }
    let url = serving.url();
    output.result(&json!({ "pid": std::process::id(), "api": url }), || {
        format!("running; models, health and metrics at {url}")
    })?;
    stop.first().await;
    Ok(drain_models(serving, stop).await)
}

/// Stops the model server, whether its models are loaded or not: within its deadline, or at once at a
/// second signal.
async fn drain_models(serving: Serving, mut stop: StopSignals) -> ExitCode {
    tokio::select! {
        () = serving.stop() => ExitCode::SUCCESS,
        () = stop.nth(2) => {
            tracing::warn!("stopped at once; what was not answered was cut off");
            ExitCode::from(130)
        }
    }
}
