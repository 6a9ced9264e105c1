//! What ml-commons is told: the connector to the model server, the model, the search pipeline.
//!
//! <https://docs.opensearch.org/2.19/ml-commons-plugin/remote-models/blueprints/>

use serde_json::{Value, json};

use crate::Fusion;
use crate::opensearch::version;

/// A model that a server computes, as OpenSearch shall know it.
#[derive(Clone, PartialEq, Eq)]
pub struct RemoteModel {
    /// Its name in OpenSearch.
    pub name: String,
    /// Address of the server's OpenAI interface, such as `http://10.0.0.7:7080/v1/embeddings`; what
    /// OpenSearch's nodes connect to.
    pub endpoint: String,
    /// Its name at the server.
    pub served_as: String,
    /// Bearer token that the server wants.
    pub token: Option<String>,
    /// Fingerprint of the model: that of the index whose texts it shall embed.
    pub fingerprint: String,
}

impl std::fmt::Debug for RemoteModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteModel")
            .field("name", &self.name)
            .field("endpoint", &self.endpoint)
            .field("served_as", &self.served_as)
            .finish_non_exhaustive()
    }
}

impl RemoteModel {
    /// Name of its connector.
    pub(super) fn connector_name(&self) -> String {
        connector_name(&self.name)
    }

    /// Stands in connector and model: whether they are of this very model is read from it.
    pub(super) fn description(&self) -> String {
        format!("{MADE_HERE}, fingerprint {}", self.fingerprint)
    }

    /// The connector's definition.
    pub(super) fn connector(&self) -> Value {
        let mut headers = json!({"content-type": "application/json"});
        // ml-commons takes no connector without a credential.
        let mut credential = json!({"unused": "none"});
        if let Some(token) = &self.token {
            headers["authorization"] = "Bearer ${credential.token}".into();
            credential = json!({"token": token});
        }
        json!({
            "name": self.connector_name(),
            "description": self.description(),
            "version": 1,
            "protocol": "http",
            "parameters": {"model": self.served_as},
            "credential": credential,
            "actions": [{
                "action_type": "predict",
                "method": "POST",
                "url": self.endpoint,
                "headers": headers,
                "request_body":
                    r#"{ "input": ${parameters.input}, "model": "${parameters.model}" }"#,
                "pre_process_function": "connector.pre_process.openai.embedding",
                "post_process_function": "connector.post_process.openai.embedding",
            }],
        })
    }

    /// Whether a connector that is there (its `_source`) does what this one's would. Its token is not
    /// told, so it is taken for the same.
    pub(super) fn is_connected_by(&self, source: &Value) -> bool {
        let action = &source["actions"][0];
        source["parameters"]["model"] == *self.served_as
            && source["description"] == self.description()
            && action["url"] == *self.endpoint
            && action["headers"]["authorization"].is_null() == self.token.is_none()
    }

    /// The registration.
    pub(super) fn registration(&self, connector_id: &str) -> Value {
        json!({
            "name": self.name,
            "function_name": "remote",
            "description": self.description(),
            "connector_id": connector_id,
        })
    }
}

/// How a description begins of what was made here: nothing else is changed or removed.
pub(super) const MADE_HERE: &str = "Made by millrace deploy opensearch";

pub(super) fn connector_name(model: &str) -> String {
    format!("millrace {model}")
}

/// Name of the search pipeline of an index: a generation has its own, as it has its own model.
pub(super) fn pipeline_name(index: &str) -> String {
    format!("{index}-neural")
}

/// Embeds the text of `neural` queries by the model, and fuses the scores of `hybrid` ones.
pub(super) fn pipeline(model_id: &str, fusion: Fusion) -> Value {
    let mut pipeline = version::pipeline(fusion);
    pipeline["description"] = MADE_HERE.into();
    pipeline["request_processors"] =
        json!([{"neural_query_enricher": {"default_model_id": model_id}}]);
    pipeline
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(token: Option<&str>) -> RemoteModel {
        RemoteModel {
            name: "custom-emb-v1".to_owned(),
            endpoint: "http://127.0.0.1:7080/v1/embeddings".to_owned(),
            served_as: "custom-emb:v1".to_owned(),
            token: token.map(str::to_owned),
            fingerprint: "0123".to_owned(),
        }
    }

    #[test]
    fn a_connector_that_does_the_same_is_taken_and_any_other_is_not() {
        let stored = |model: &RemoteModel| {
            // As the cluster tells it: without the credential.
            let mut connector = model.connector();
            connector.as_object_mut().unwrap().remove("credential");
            connector
        };
        let wanted = model(None);
        assert!(wanted.is_connected_by(&stored(&wanted)));
        let changed: [fn(&mut RemoteModel); 4] = [
            |model| model.endpoint = "http://127.0.0.1:7081/v1/embeddings".to_owned(),
            |model| model.served_as = "custom-emb:v2".to_owned(),
            |model| model.fingerprint = "4567".to_owned(),
            |model| model.token = Some("secret".to_owned()),
        ];
        for change in changed {
            let mut other = model(None);
            change(&mut other);
            assert!(!wanted.is_connected_by(&stored(&other)), "{other:?}");
        }
    }

    #[test]
    fn a_token_is_a_credential_and_is_not_told() {
        let model = model(Some("secret"));
        let connector = model.connector();
        assert_eq!(connector["credential"]["token"], "secret");
        let header = &connector["actions"][0]["headers"]["authorization"];
        assert_eq!(header, "Bearer ${credential.token}");
        assert!(!format!("{model:?}").contains("secret"));
    }
}
