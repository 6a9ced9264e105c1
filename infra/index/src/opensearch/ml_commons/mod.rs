//! A model server's model as one of OpenSearch's own: connector, registration, deployment, and the search
//! pipeline by which `neural` queries find by text.
//!
//! Each step finds what is there already and does only what is missing, so doing it all again changes
//! nothing, and what was cut off is finished by doing it again. What was not made here is not touched.

mod definition;

use std::time::{Duration, Instant};

use opensearch::http::Method;
use serde::Serialize;
use serde_json::{Value, json};

use self::definition::{MADE_HERE, connector_name, pipeline, pipeline_name};
use super::OpenSearchConfig;
use super::client::Client;
use crate::{Fusion, IndexError};
pub use definition::RemoteModel;

/// How long a model may take to be deployed: it is computed elsewhere, so nothing is loaded.
const DEPLOY_TIMEOUT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long ml-commons may take to have made its own indices, which its first request begins.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_PIPELINE: &str = "index.search.default_pipeline";

/// Why a model is not OpenSearch's now.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MlError {
    /// The cluster refused, or is away.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The plugin is not there.
    #[error(
        "the OpenSearch cluster has no ml-commons plugin (opensearch-ml), which calls models; install it"
    )]
    NoPlugin,
    /// The cluster's settings forbid to call the model server.
    #[error(
        "OpenSearch may not call {endpoint}: {reason}; let it with --trust, which adds the address to \
         {setting}, or change that setting yourself"
    )]
    NotTrusted {
        /// Where the model server is.
        endpoint: String,
        /// The engine's words.
        reason: String,
        /// The cluster setting that forbids it.
        setting: &'static str,
    },
    /// Something of that name is somebody else's.
    #[error("{what} is there already and was not made by millrace; {then}")]
    NotOurs {
        /// What it is.
        what: String,
        /// What to do.
        then: &'static str,
    },
    /// The index has vectors of another model.
    #[error(
        "the index {index} has vectors of the model with fingerprint {stored}, the server computes \
         {served}: a search by text would compare what can't be compared; deploy the index's model, or \
         build a new generation with this one"
    )]
    OtherModel {
        /// The index that the alias reads.
        index: String,
        /// Fingerprint in the index.
        stored: String,
        /// Fingerprint of the model.
        served: String,
    },
    /// It was not deployed in time.
    #[error(
        "the model {model_id} is {state} after {seconds} s; see the log of the cluster's nodes"
    )]
    NotDeployed {
        /// The model in OpenSearch.
        model_id: String,
        /// Its state.
        state: String,
        /// How long was waited.
        seconds: u64,
    },
    /// An answer that is not what the interface promises.
    #[error("OpenSearch answered without {what}: {answer}")]
    Answer {
        /// What is missing.
        what: &'static str,
        /// The answer's beginning.
        answer: String,
    },
}

/// What is there of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Deployed {
    /// The connector.
    pub connector_id: Option<String>,
    /// The model.
    pub model_id: Option<String>,
    /// Its state: `REGISTERED`, `DEPLOYED` and others.
    pub state: Option<String>,
}

/// The ml-commons plugin of a cluster.
#[derive(Debug)]
pub struct MlCommons {
    client: Client,
}

impl MlCommons {
    /// Prepares connections; nothing is sent yet.
    ///
    /// # Errors
    /// [`IndexError::InvalidRequest`] for an address that is none, [`IndexError::Storage`] for a
    /// certificate that cannot be read.
    pub fn new(config: &OpenSearchConfig) -> Result<Self, IndexError> {
        Ok(Self {
            client: Client::new(config)?,
        })
    }

    /// What is there under a model's name.
    ///
    /// # Errors
    /// [`MlError::NotOurs`], or the cluster can't be asked.
    pub async fn find(&self, name: &str) -> Result<Deployed, MlError> {
        let connector = self.named("connectors", &connector_name(name)).await?;
        let model = self.named("models", name).await?;
        let id = |hit: &Value| hit["_id"].as_str().map(str::to_owned);
        let state = |hit: &Value| hit["_source"]["model_state"].as_str().map(str::to_owned);
        Ok(Deployed {
            connector_id: connector.as_ref().and_then(id),
            model_id: model.as_ref().and_then(id),
            state: model.as_ref().and_then(state),
        })
    }

    /// Adds the server's address to those that connectors may call.
    ///
    /// # Errors
    /// The cluster's settings can't be changed.
    pub async fn trust(&self, endpoint: &str) -> Result<(), MlError> {
        let query = [
            ("include_defaults", "true"),
            ("flat_settings", "true"),
            (
                "filter_path",
                "*.plugins.ml_commons.trusted_connector_endpoints_regex",
            ),
        ];
        let settings = self
            .client
            .json(Method::Get, "/_cluster/settings", &query, None);
        let settings = settings.await?.success()?;
        let of = |scope: &str| settings[scope][TRUSTED].as_array().cloned();
        let trusted = of("transient")
            .or_else(|| of("persistent"))
            .or_else(|| of("defaults"));
        let mut trusted = trusted.unwrap_or_default();
        let wanted = Value::from(format!("^{}$", escaped(endpoint)));
        if !trusted.contains(&wanted) {
            trusted.push(wanted);
        }
        let body = json!({"persistent": {
            TRUSTED: trusted,
            PRIVATE: true,
        }});
        let put = self
            .client
            .json(Method::Put, "/_cluster/settings", &[], Some(&body));
        put.await?.success()?;
        Ok(())
    }

    /// Connects, registers and deploys the model, as far as that is not done already.
    ///
    /// # Errors
    /// See [`MlError`].
    pub async fn deploy(&self, model: &RemoteModel) -> Result<Deployed, MlError> {
        let connector_id = self.connect(model).await?;
        let model_id = self.register(model, &connector_id).await?;
        let state = self.start(&model_id).await?;
        Ok(Deployed {
            connector_id: Some(connector_id),
            model_id: Some(model_id),
            state: Some(state),
        })
    }

    async fn connect(&self, model: &RemoteModel) -> Result<String, MlError> {
        if let Some(found) = self.named("connectors", &model.connector_name()).await? {
            if model.is_connected_by(&found["_source"]) {
                return text(&found, "_id");
            }
            // It leads elsewhere, or to what was served before.
            self.remove(&model.name).await?;
        }
        let body = model.connector();
        let path = "/_plugins/_ml/connectors/_create";
        let created = self.post(path, Some(&body)).await;
        let created = created.map_err(|error| self.explained(error, &model.endpoint))?;
        text(&created, "connector_id")
    }

    async fn register(&self, model: &RemoteModel, connector_id: &str) -> Result<String, MlError> {
        if let Some(found) = self.named("models", &model.name).await? {
            if found["_source"]["connector_id"] == *connector_id {
                return text(&found, "_id");
            }
            self.remove_model(&found).await?;
        }
        let body = model.registration(connector_id);
        let registered = self
            .post("/_plugins/_ml/models/_register", Some(&body))
            .await?;
        text(&registered, "model_id")
    }

    async fn start(&self, model_id: &str) -> Result<String, MlError> {
        let path = format!("/_plugins/_ml/models/{model_id}");
        let began = Instant::now();
        let mut asked = false;
        loop {
            let model = self.get(&path).await?.unwrap_or_default();
            let state = model["model_state"]
                .as_str()
                .unwrap_or("UNKNOWN")
                .to_owned();
            if state == "DEPLOYED" {
                return Ok(state);
            }
            if !asked {
                self.post(&format!("{path}/_deploy"), None).await?;
                asked = true;
            }
            if began.elapsed() > DEPLOY_TIMEOUT {
                return Err(MlError::NotDeployed {
                    model_id: model_id.to_owned(),
                    state,
                    seconds: DEPLOY_TIMEOUT.as_secs(),
                });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The vectors that OpenSearch gets for texts.
    ///
    /// # Errors
    /// The server can't be called from the cluster, or answers otherwise.
    pub async fn predict(
        &self,
        model_id: &str,
        endpoint: &str,
        texts: &[&str],
    ) -> Result<Vec<Vec<f32>>, MlError> {
        let body = json!({"parameters": {"input": texts}});
        let path = format!("/_plugins/_ml/models/{model_id}/_predict");
        let answer = self.post(&path, Some(&body)).await;
        let answer = answer.map_err(|error| self.explained(error, endpoint))?;
        let outputs = answer["inference_results"][0]["output"].as_array();
        let vectors: Option<Vec<Vec<f32>>> = outputs.and_then(|outputs| {
            let vector = |output: &Value| serde_json::from_value(output["data"].clone()).ok();
            outputs.iter().map(vector).collect()
        });
        vectors
            .filter(|vectors| vectors.len() == texts.len())
            .ok_or_else(|| {
                let answer = answer.to_string();
                MlError::Answer {
                    what: "a vector a text",
                    answer: answer.chars().take(300).collect(),
                }
            })
    }

    /// Makes `neural` queries to what `alias` reads embed their text by the model, where a query names no
    /// pipeline of its own. Returns the pipeline's name and the index.
    ///
    /// # Errors
    /// [`MlError::OtherModel`]; [`MlError::NotOurs`] where the index has another default pipeline.
    pub async fn answer_neural_queries(
        &self,
        alias: &str,
        model_id: &str,
        fingerprint: &str,
        fusion: Fusion,
    ) -> Result<(String, String), MlError> {
        let mapping = self.get(&format!("/{alias}/_mapping")).await?;
        let mapping = mapping.unwrap_or_default();
        let (index, mapping) = only_index(alias, &mapping)?;
        let stored = mapping["mappings"]["_meta"]["model_fingerprint"].as_str();
        let stored = stored.unwrap_or("none");
        if stored != fingerprint {
            return Err(MlError::OtherModel {
                index,
                stored: stored.to_owned(),
                served: fingerprint.to_owned(),
            });
        }
        let name = pipeline_name(alias);
        if let Some(set) = self.default_pipeline(&index).await?
            && set != name
        {
            return Err(MlError::NotOurs {
                what: format!("the search pipeline {set} of the index {index}"),
                then: "remove the setting index.search.default_pipeline there, or leave searches to it with \
                       --no-pipeline",
            });
        }
        let path = format!("/_search/pipeline/{name}");
        let body = pipeline(model_id, fusion);
        let put = self
            .client
            .json(Method::Put, &path, &[], Some(&body))
            .await?;
        put.success()?;
        self.set_default_pipeline(&index, Some(&name)).await?;
        Ok((name, index))
    }

    /// How many documents a `neural` query by text finds: that it is answered at all is what counts.
    ///
    /// # Errors
    /// The query is refused.
    pub async fn try_neural_query(&self, alias: &str, text: &str) -> Result<u64, MlError> {
        let body = json!({
            "size": 0,
            "query": {"neural": {"vector": {"query_text": text, "k": 10}}},
        });
        let answer = self.post(&format!("/{alias}/_search"), Some(&body)).await?;
        Ok(answer["hits"]["total"]["value"].as_u64().unwrap_or(0))
    }

    /// Takes a model out again: its search pipeline, its deployment, the model and its connector.
    /// Returns what there was.
    ///
    /// # Errors
    /// [`MlError::NotOurs`], or the cluster can't be asked.
    pub async fn undeploy(&self, alias: &str, name: &str) -> Result<Deployed, MlError> {
        let found = self.find(name).await?;
        self.forget_pipeline(alias, found.model_id.as_deref())
            .await?;
        self.remove(name).await?;
        Ok(found)
    }

    /// Removes the pipeline of an alias, where it is this model's.
    async fn forget_pipeline(&self, alias: &str, model_id: Option<&str>) -> Result<(), MlError> {
        let name = pipeline_name(alias);
        let path = format!("/_search/pipeline/{name}");
        let Some(stored) = self.get(&path).await? else {
            return Ok(());
        };
        let enricher = &stored[&name]["request_processors"][0]["neural_query_enricher"];
        if enricher["default_model_id"].as_str() != model_id {
            return Ok(());
        }
        // Also from generations that the alias has left: they would name what is gone.
        let settings = self
            .get(&format!("/{alias}-*/_settings/{DEFAULT_PIPELINE}"))
            .await?;
        let settings = settings.unwrap_or_default();
        for (index, of) in settings.as_object().into_iter().flatten() {
            if of["settings"]["index"]["search"]["default_pipeline"] == *name {
                self.set_default_pipeline(index, None).await?;
            }
        }
        self.delete(&path).await
    }

    async fn remove(&self, name: &str) -> Result<(), MlError> {
        if let Some(model) = self.named("models", name).await? {
            self.remove_model(&model).await?;
        }
        if let Some(connector) = self.named("connectors", &connector_name(name)).await? {
            let id = text(&connector, "_id")?;
            self.delete(&format!("/_plugins/_ml/connectors/{id}"))
                .await?;
        }
        Ok(())
    }

    async fn remove_model(&self, found: &Value) -> Result<(), MlError> {
        let path = format!("/_plugins/_ml/models/{}", text(found, "_id")?);
        self.post(&format!("{path}/_undeploy"), None).await?;
        self.delete(&path).await
    }

    async fn default_pipeline(&self, index: &str) -> Result<Option<String>, MlError> {
        let settings = self
            .get(&format!("/{index}/_settings/{DEFAULT_PIPELINE}"))
            .await?;
        let settings = settings.unwrap_or_default();
        let set = &settings[index]["settings"]["index"]["search"]["default_pipeline"];
        Ok(set
            .as_str()
            .filter(|name| *name != "_none")
            .map(str::to_owned))
    }

    async fn set_default_pipeline(&self, index: &str, name: Option<&str>) -> Result<(), MlError> {
        let body = json!({ DEFAULT_PIPELINE: name });
        let path = format!("/{index}/_settings");
        let put = self
            .client
            .json(Method::Put, &path, &[], Some(&body))
            .await?;
        put.success()?;
        Ok(())
    }

    /// What of a kind has a name and was made here; ml-commons lets several have it.
    async fn named(&self, kind: &str, name: &str) -> Result<Option<Value>, MlError> {
        let body = json!({"size": 100, "query": {"term": {"name.keyword": name}}});
        let path = format!("/_plugins/_ml/{kind}/_search");
        let began = Instant::now();
        let answer = loop {
            match self.post(&path, Some(&body)).await {
                // Its own index is being made and has no shard yet.
                Err(MlError::Index(error))
                    if error.is_transient() && began.elapsed() < SETTLE_TIMEOUT =>
                {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                answer => break answer?,
            }
        };
        let hits = answer["hits"]["hits"].as_array();
        let hits = hits.map(Vec::as_slice).unwrap_or_default();
        let is_ours = |hit: &&Value| {
            let description = hit["_source"]["description"].as_str();
            description.is_some_and(|text| text.starts_with(MADE_HERE))
        };
        match (hits.iter().find(is_ours), hits.first()) {
            (Some(ours), _) => Ok(Some(ours.clone())),
            (None, Some(_)) => Err(MlError::NotOurs {
                what: format!("one of the {kind} named {name:?}"),
                then: "remove it, or deploy under another name with --as",
            }),
            (None, None) => Ok(None),
        }
    }

    async fn get(&self, path: &str) -> Result<Option<Value>, MlError> {
        let answer = self.client.json(Method::Get, path, &[], None).await?;
        if answer.status == 404 {
            return Ok(None);
        }
        Ok(Some(answer.success()?))
    }

    async fn post(&self, path: &str, body: Option<&Value>) -> Result<Value, MlError> {
        let answer = self.client.json(Method::Post, path, &[], body).await?;
        // A path that no plugin has taken.
        if answer.status == 400
            && answer
                .text()
                .contains("no handler found for uri [/_plugins/_ml")
        {
            return Err(MlError::NoPlugin);
        }
        Ok(answer.success()?)
    }

    async fn delete(&self, path: &str) -> Result<(), MlError> {
        let answer = self.client.json(Method::Delete, path, &[], None).await?;
        if answer.status != 404 {
            answer.success()?;
        }
        Ok(())
    }

    /// The cluster's refusal to call a server, with the setting that it comes from.
    fn explained(&self, error: MlError, endpoint: &str) -> MlError {
        let MlError::Index(IndexError::Refused { reason, .. }) = &error else {
            return error;
        };
        let setting = if reason.contains("trusted connector endpoint") {
            TRUSTED
        } else if reason.contains("private ip address") {
            PRIVATE
        } else {
            return error;
        };
        MlError::NotTrusted {
            endpoint: endpoint.to_owned(),
            reason: reason.clone(),
            setting,
        }
    }
}

const TRUSTED: &str = "plugins.ml_commons.trusted_connector_endpoints_regex";
const PRIVATE: &str = "plugins.ml_commons.connector.private_ip_enabled";

/// The one index that an alias reads, and what is said of it.
fn only_index<'a>(alias: &str, answer: &'a Value) -> Result<(String, &'a Value), MlError> {
    let mut indices = answer.as_object().into_iter().flatten();
    match (indices.next(), indices.next()) {
        (Some((index, of)), None) => Ok((index.clone(), of)),
        (None, _) => Err(IndexError::NoSuchGeneration {
            name: alias.to_owned(),
        }
        .into()),
        (Some(_), Some(_)) => Err(MlError::Answer {
            what: "one index behind the alias",
            answer: alias.to_owned(),
        }),
    }
}

fn text(answer: &Value, what: &'static str) -> Result<String, MlError> {
    answer[what].as_str().map(str::to_owned).ok_or_else(|| {
        let answer = answer.to_string();
        MlError::Answer {
            what,
            answer: answer.chars().take(300).collect(),
        }
    })
}

/// A text as a regular expression that matches it alone.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if !character.is_ascii_alphanumeric() && !"/:-_%".contains(character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_trusted_as_it_is_and_no_other() {
        assert_eq!(
            escaped("http://10.0.0.7:7080/v1/embeddings"),
            r"http://10\.0\.0\.7:7080/v1/embeddings"
        );
    }
}
