//! A server on a free port, with three models in a store of its own: `all-MiniLM-L6-v2`, and two
//! versions of `emb`, which cut texts earlier; the second has prompts.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use millrace_model_server::{ModelServer, ModelServerConfig};
use millrace_models::{Encoder, EncoderOptions, ModelStore};
use millrace_telemetry::prometheus_client::encoding::text::encode;
use millrace_telemetry::prometheus_client::registry::Registry;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cross_encoder;

pub const MODEL: &str = "all-MiniLM-L6-v2";

pub struct Fixture {
    pub url: String,
    pub server: Arc<ModelServer>,
    pub client: Client,
    pub root: TempDir,
    metrics: Registry,
}

impl Fixture {
    /// Serves these models of the store; the first is the default.
    pub async fn start(models: &[&str], config: ModelServerConfig) -> Result<Self> {
        let fixture = Self::cold(config).await?;
        for model in models {
            let (server, model) = (Arc::clone(&fixture.server), (*model).to_owned());
            tokio::task::spawn_blocking(move || server.load(&model)).await??;
        }
        fixture.server.loaded();
        Ok(fixture)
    }

    /// Has no model yet.
    pub async fn cold(config: ModelServerConfig) -> Result<Self> {
        let root = tempfile::tempdir()?;
        let real = ModelStore::from_env()?
            .pull(MODEL, &mut |_, _| {})
            .await
            .context("these tests need the real model")?;
        copy(&real, &root.path().join(MODEL))?;
        for (version, tokens) in [("v1", 128), ("v2", 64)] {
            let folder = root.path().join(format!("emb:{version}"));
            copy(&real, &folder)?;
            // Not written through the link.
            std::fs::remove_file(folder.join("sentence_bert_config.json"))?;
            let limit = json!({ "max_seq_length": tokens });
            std::fs::write(folder.join("sentence_bert_config.json"), limit.to_string())?;
        }
        let prompts = root.path().join("emb:v2/config_sentence_transformers.json");
        std::fs::remove_file(&prompts)?;
        std::fs::write(&prompts, r#"{"prompts": {"query": "query: "}}"#)?;
        let store = ModelStore::at(root.path());
        let server = Arc::new(ModelServer::start(config, store, None)?);
        let mut metrics = Registry::default();
        server.register_metrics(&mut metrics);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let routes = server.routes();
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let client = Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(60))
            .build()?;
        Ok(Self {
            url,
            server,
            client,
            root,
            metrics,
        })
    }

    pub fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.url)).json(body)
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.url))
    }

    /// Serves `emb:v2`, and `pairs:v1` ranks.
    pub async fn ranking(config: ModelServerConfig) -> Result<Self> {
        let fixture = Self::start(&["emb:v2"], config).await?;
        let store = fixture.root.path();
        cross_encoder::build(&store.join(MODEL), &store.join("pairs:v1"))?;
        let server = Arc::clone(&fixture.server);
        tokio::task::spawn_blocking(move || server.load_reranker("pairs")).await??;
        Ok(fixture)
    }

    /// The encoder of a stored model, in this process.
    pub fn encoder(&self, name: &str) -> Result<Encoder> {
        let folder = self.root.path().join(name);
        Ok(Encoder::load(&folder, EncoderOptions::default())?)
    }

    /// The samples of a metric whose line contains `part`.
    pub fn metric(&self, part: &str) -> Result<Option<f64>> {
        let mut text = String::new();
        encode(&mut text, &self.metrics)?;
        let line = text
            .lines()
            .find(|line| line.contains(part) && !line.starts_with('#'));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        Ok(value)
    }

    pub fn metrics_text(&self) -> Result<String> {
        let mut text = String::new();
        encode(&mut text, &self.metrics)?;
        Ok(text)
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::os::unix::fs::symlink(entry.path(), target)?;
        }
    }
    Ok(())
}

/// The status and the JSON of an answer.
pub async fn answer(request: RequestBuilder) -> Result<(StatusCode, Value)> {
    let response = request.send().await?;
    let status = response.status();
    let text = response.text().await?;
    let json = serde_json::from_str(&text).with_context(|| format!("{status}: {text}"))?;
    Ok((status, json))
}

pub fn vector(json: &Value) -> Result<Vec<f32>> {
    Ok(serde_json::from_value(json.clone())?)
}

/// Each component within 1e-6.
pub fn assert_same(found: &[f32], wanted: &[f32]) {
    assert_eq!(found.len(), wanted.len());
    let furthest = found
        .iter()
        .zip(wanted)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(furthest < 1e-6, "{furthest}");
}
