//! A model server's model as one of OpenSearch's own: connector, registration, deployment, and the search
//! pipeline by which `neural` queries find by text.
//!
//! Each step finds what is there already and does only what is missing, so doing it all again changes
//! nothing, and what was cut off is finished by doing it again. What was not made here is not touched.

mod definition;
mod error;
mod search_pipeline;

use std::time::{Duration, Instant};

use opensearch::http::Method;
use serde::Serialize;
use serde_json::{Value, json};

use self::definition::{MADE_HERE, connector_name};
pub use self::error::MlError;
use super::OpenSearchConfig;
use super::client::Client;
use crate::IndexError;
pub use definition::RemoteModel;

/// How long a model may take to be deployed: it is computed elsewhere, so nothing is loaded.
const DEPLOY_TIMEOUT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long ml-commons may take to have made its own indices, which its first request begins.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);

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

    /// Takes a model out again: its search pipeline, its deployment, the model and its connector.
    /// Returns what there was.
    ///
    /// # Errors
    /// [`MlError::NotOurs`], or the cluster can't be asked.
    pub async fn undeploy(&self, alias: &str, name: &str) -> Result<Deployed, MlError> {
        let found = self.find(name).await?;
        self.forget_pipelines(alias, found.model_id.as_deref())
            .await?;
        self.remove(name).await?;
        Ok(found)
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
