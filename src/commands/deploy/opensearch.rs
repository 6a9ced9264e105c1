//! `millrace deploy opensearch`: a model server's model as one of OpenSearch's own.

use std::process::ExitCode;

use millrace_kafka::{Admin, KafkaConfig, Producer, topics};
use millrace_retry::error_chain;

use crate::audit::{self, Audit, Counts};
use crate::config::Config;
use crate::neural::{self, Neural, Order};
use crate::output::Output;

/// Deploy a model of a model server to OpenSearch (ml-commons): create the connector, register and deploy
/// the model, compare its vectors with the server's, and let `neural` queries by text find with it.
///
/// Done again it changes nothing; what was cut off is finished. What it makes `undeploy opensearch` removes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model, as the server names it: NAME or NAME:VERSION. Default: `model.remote.model`, else
    /// `model.name`.
    #[arg(long)]
    model: Option<String>,
    /// Its name in OpenSearch. Default: the same.
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
    /// The model server, as the nodes of OpenSearch reach it. Default: the first of `model.remote.urls`.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Change the cluster's settings so that connectors may call this server.
    #[arg(long)]
    trust: bool,
    /// Leave the searches of the index alone: no search pipeline.
    #[arg(long)]
    no_pipeline: bool,
    /// Say what is there, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(args: Args, config: Config, output: Output) -> anyhow::Result<ExitCode> {
    let mut order = Order::new(&config, args.model, args.server)?;
    order.trust = args.trust;
    order.without_pipeline = args.no_pipeline;
    if let Some(name) = args.name {
        order.name = name;
    }
    if args.dry_run {
        let found = neural::look(&config, &order).await?;
        output.result(&found, || planned(&found, &order))?;
        return Ok(ExitCode::SUCCESS);
    }
    let audit = begin(
        &config.kafka,
        "deploy.opensearch",
        &order.name,
        &order.server,
    )
    .await?;
    match neural::deploy(&config, &order).await {
        Ok(neural) => {
            audit.done(Counts::new()).await?;
            output.result(&neural, || text(&neural, &config))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            audit
                .failed(Counts::new(), &error_chain(error.as_ref()))
                .await?;
            Err(error)
        }
    }
}

/// Tells that a model is about to be deployed or taken out.
pub async fn begin(
    kafka: &KafkaConfig,
    action: &str,
    model: &str,
    server: &str,
) -> anyhow::Result<Audit> {
    Admin::connect(kafka)?
        .create_named(&[topics::AUDIT])
        .await?;
    let producer = Producer::connect(kafka)?;
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let arguments = audit::arguments([("model", given(model)), ("server", given(server))]);
    Audit::begin(&producer, audit::operator(), action, arguments).await
}

fn planned(found: &Neural, order: &Order) -> String {
    let there = |id: &Option<String>| id.clone().unwrap_or_else(|| "to be created".to_owned());
    let state = found.deployed.state.as_deref().unwrap_or("not there");
    format!(
        "{}: {} dimensions, fingerprint {}\n  connector to {}: {}\n  model: {} ({state})\n  search pipeline: {}\nnothing was changed",
        found.name,
        found.dimension,
        found.fingerprint,
        found.endpoint,
        there(&found.deployed.connector_id),
        there(&found.deployed.model_id),
        if order.without_pipeline {
            "left alone"
        } else {
            "to be set"
        }
    )
}

fn text(neural: &Neural, config: &Config) -> String {
    let id = |id: &Option<String>| id.clone().unwrap_or_default();
    let mut lines = vec![format!(
        "{} is deployed: model {}, connector {}\n  {} dimensions; vectors differ from the server's by at most {:.1e}",
        neural.name,
        id(&neural.deployed.model_id),
        id(&neural.deployed.connector_id),
        neural.dimension,
        neural.max_difference.unwrap_or_default()
    )];
    if let (Some(pipeline), Some(index)) = (&neural.pipeline, &neural.index) {
        lines.push(format!(
            "  searches of {index} go through the pipeline {pipeline}; a neural query found {} documents:\n  \
             curl '{}/{}/_search' -H content-type:application/json -d '{{\"query\": {{\"neural\": {{\"vector\": \
             {{\"query_text\": \"a text\", \"k\": 10}}}}}}, \"_source\": [\"uri\", \"text\"]}}'",
            neural.neural_hits.unwrap_or(0),
            config.index.opensearch.nodes.first().map_or("", String::as_str),
            config.index.name,
        ));
    }
    lines.join("\n")
}
