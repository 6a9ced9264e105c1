//! A model server's model in OpenSearch, so that its `neural` queries find by text: asked, deployed,
//! compared, and taken out again.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use millrace_index::Fusion;
use millrace_index::opensearch::ml_commons::{Deployed, MlCommons, RemoteModel};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::{Config, Profile};

/// What the server and OpenSearch are both asked to embed.
const PROBES: [&str; 2] = [
    "How soon is a document found by its meaning?",
    "\"Quotes\", a line break\nand ünïcode",
];
/// JSON keeps an f32 whole, so what differs by more was computed otherwise.
const MAX_DIFFERENCE: f32 = 1e-5;
const SERVER_TIMEOUT: Duration = Duration::from_secs(30);
/// What our server signs its answers with.
const FINGERPRINT: &str = "millrace-model-fingerprint";

/// What to deploy.
#[derive(Clone, Debug)]
pub struct Order {
    /// The model's name at the server.
    pub model: String,
    /// Its name in OpenSearch.
    pub name: String,
    /// The server's address, as the nodes of OpenSearch reach it.
    pub server: String,
    /// Change the cluster's settings so that it may call the server.
    pub trust: bool,
    /// Leave the searches of the index alone.
    pub without_pipeline: bool,
}

/// What was deployed, and how that was seen.
#[derive(Debug, Serialize)]
pub struct Neural {
    /// The model's name in OpenSearch.
    pub name: String,
    /// Its address.
    pub endpoint: String,
    /// Fingerprint of the model that the server computes.
    pub fingerprint: String,
    /// Length of its vectors.
    pub dimension: usize,
    /// What is there in OpenSearch.
    #[serde(flatten)]
    pub deployed: Deployed,
    /// The greatest difference of a component between OpenSearch's vectors and the server's.
    pub max_difference: Option<f32>,
    /// The search pipeline, where one was set.
    pub pipeline: Option<String>,
    /// The index whose searches go through it.
    pub index: Option<String>,
    /// Documents that a `neural` query by text found.
    pub neural_hits: Option<u64>,
}

/// What the model server says of a model.
struct Served {
    fingerprint: String,
    vectors: Vec<Vec<f32>>,
}

impl Order {
    /// As the configuration has it, where nothing else is asked for.
    pub fn new(
        config: &Config,
        model: Option<String>,
        server: Option<String>,
    ) -> anyhow::Result<Self> {
        ensure!(
            config.profile == Profile::Cluster,
            "the embedded index embeds queries by itself, with the model of model.name: nothing is to be \
             deployed; with an OpenSearch, use --profile cluster"
        );
        let remote = &config.model.remote;
        let model = model
            .or_else(|| remote.model.clone())
            .unwrap_or_else(|| config.model.name.clone());
        let server = server.or_else(|| remote.urls.first().cloned());
        let server = server.context("name the model server with --server")?;
        Ok(Self {
            name: model.clone(),
            model,
            server: server.trim_end_matches('/').to_owned(),
            trust: false,
            without_pipeline: false,
        })
    }

    fn endpoint(&self) -> String {
        format!("{}/v1/embeddings", self.server)
    }
}

/// What is there of a model, and what the server computes; changes nothing.
///
/// # Errors
/// The server or the cluster can't be asked.
pub async fn look(config: &Config, order: &Order) -> anyhow::Result<Neural> {
    let served = ask(config, order).await?;
    let found = cluster(config)?.find(&order.name).await?;
    Ok(order.report(&served, found))
}

/// Deploys the model and compares its vectors; what is done already is left as it is.
///
/// # Errors
/// The server does not serve the model, OpenSearch refuses, or its vectors are others.
pub async fn deploy(config: &Config, order: &Order) -> anyhow::Result<Neural> {
    let served = ask(config, order).await?;
    let cluster = cluster(config)?;
    let endpoint = order.endpoint();
    if order.trust {
        cluster.trust(&endpoint).await?;
    }
    let model = RemoteModel {
        name: order.name.clone(),
        endpoint: endpoint.clone(),
        served_as: order.model.clone(),
        token: config.model.remote.token.clone(),
        fingerprint: served.fingerprint.clone(),
    };
    let mut neural = order.report(&served, cluster.deploy(&model).await?);
    let model_id = neural.deployed.model_id.clone().unwrap_or_default();
    let predicted = cluster.predict(&model_id, &endpoint, &PROBES).await;
    let predicted = predicted.with_context(|| {
        format!("the model is deployed, but OpenSearch gets no vectors from {endpoint}")
    })?;
    let difference = difference(&served.vectors, &predicted);
    ensure!(
        difference <= MAX_DIFFERENCE,
        "OpenSearch's vectors of the model differ from the server's by up to {difference}: does {endpoint} \
         lead to the same server from its nodes?"
    );
    neural.max_difference = Some(difference);
    if !order.without_pipeline {
        let alias = &config.index.name;
        let fingerprint = &served.fingerprint;
        let fusion = Fusion::default();
        let set = cluster.answer_neural_queries(alias, &model_id, fingerprint, fusion);
        let (pipeline, index) = set.await?;
        neural.neural_hits = Some(cluster.try_neural_query(alias, PROBES[0]).await?);
        (neural.pipeline, neural.index) = (Some(pipeline), Some(index));
    }
    Ok(neural)
}

/// What is there of a model in OpenSearch.
///
/// # Errors
/// The cluster can't be asked, or what has the name was not made here.
pub async fn find(config: &Config, name: &str) -> anyhow::Result<Deployed> {
    Ok(cluster(config)?.find(name).await?)
}

/// Takes the model out of OpenSearch; returns what there was.
///
/// # Errors
/// The cluster refuses, or what has the name was not made here.
pub async fn undeploy(config: &Config, name: &str) -> anyhow::Result<Deployed> {
    Ok(cluster(config)?.undeploy(&config.index.name, name).await?)
}

fn cluster(config: &Config) -> anyhow::Result<MlCommons> {
    MlCommons::new(&config.index.opensearch).context("can't set up the OpenSearch client")
}

impl Order {
    fn report(&self, served: &Served, deployed: Deployed) -> Neural {
        Neural {
            name: self.name.clone(),
            endpoint: self.endpoint(),
            fingerprint: served.fingerprint.clone(),
            dimension: served.vectors.first().map_or(0, Vec::len),
            deployed,
            max_difference: None,
            pipeline: None,
            index: None,
            neural_hits: None,
        }
    }
}

async fn ask(config: &Config, order: &Order) -> anyhow::Result<Served> {
    #[derive(Deserialize)]
    struct Embedding {
        embedding: Vec<f32>,
    }
    #[derive(Deserialize)]
    struct Answer {
        data: Vec<Embedding>,
    }
    let endpoint = order.endpoint();
    let http = reqwest::Client::builder()
        .timeout(SERVER_TIMEOUT)
        .no_proxy()
        .build()?;
    let mut request = http
        .post(&endpoint)
        .json(&json!({"model": order.model, "input": PROBES}));
    if let Some(token) = &config.model.remote.token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.with_context(|| {
        format!(
            "the model server at {} does not answer; start it with `millrace run model-server`, or name \
             another with --server",
            order.server
        )
    })?;
    if !answer.status().is_success() {
        let (status, body) = (answer.status(), answer.text().await.unwrap_or_default());
        let body: Value = serde_json::from_str(&body).unwrap_or_default();
        let why = body["error"]["message"]
            .as_str()
            .unwrap_or("it does not say why");
        bail!(
            "the model server at {} refuses to embed with {:?}: {status}: {why}",
            order.server,
            order.model
        );
    }
    let fingerprint = answer.headers().get(FINGERPRINT);
    let fingerprint = fingerprint.and_then(|value| value.to_str().ok().map(str::to_owned));
    let fingerprint = fingerprint.with_context(|| {
        format!(
            "the server at {} does not say which model it computes (no header {FINGERPRINT}), so it can't \
             be compared with the index's; use `millrace run model-server`",
            order.server
        )
    })?;
    let answer: Answer = answer
        .json()
        .await
        .with_context(|| format!("{endpoint} does not answer as OpenAI's interface does"))?;
    Ok(Served {
        fingerprint,
        vectors: answer.data.into_iter().map(|data| data.embedding).collect(),
    })
}

/// The greatest difference of a component; infinite where the shapes differ.
fn difference(ours: &[Vec<f32>], theirs: &[Vec<f32>]) -> f32 {
    let same_shape = ours.len() == theirs.len()
        && ours
            .iter()
            .zip(theirs)
            .all(|(ours, theirs)| ours.len() == theirs.len());
    if !same_shape {
        return f32::INFINITY;
    }
    let pairs = ours.iter().flatten().zip(theirs.iter().flatten());
    pairs
        .map(|(ours, theirs)| (ours - theirs).abs())
        .fold(0.0, f32::max)
}
