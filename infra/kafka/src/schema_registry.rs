//! A Confluent-compatible schema registry over HTTP.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use millrace_schemas::{SchemaError, SchemaRegistry, WriterSchema};
use reqwest::{Response, StatusCode, Url};
use serde::Deserialize;

use crate::{ConfigError, KafkaConfig};

const TIMEOUT: Duration = Duration::from_secs(10);
const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";
const MAX_MESSAGE_BYTES: usize = 512;

/// The registry's client. Schemas are cached for good: an id never changes its schema.
pub struct HttpSchemaRegistry {
    client: reqwest::Client,
    url: Url,
    schemas: Mutex<HashMap<i32, WriterSchema>>,
}

#[derive(Deserialize)]
struct SchemaText {
    schema: String,
}

#[derive(Deserialize)]
struct SchemaId {
    id: i32,
}

impl HttpSchemaRegistry {
    /// The registry of this configuration, where it names one.
    ///
    /// # Errors
    /// Its URL is none.
    pub fn from_config(config: &KafkaConfig) -> Result<Option<Self>, ConfigError> {
        config
            .schema_registry_url
            .as_deref()
            .map(Self::new)
            .transpose()
    }

    /// The registry at `url`; a user and password in it are sent as basic authentication.
    ///
    /// # Errors
    /// The URL is none.
    pub fn new(url: &str) -> Result<Self, ConfigError> {
        let invalid = ConfigError::Invalid {
            setting: "schema_registry_url",
            rule: "must be an http or https URL, e.g. http://registry:8081",
        };
        let mut url = Url::parse(url).map_err(|_| invalid.clone())?;
        if !matches!(url.scheme(), "http" | "https") || url.cannot_be_a_base() {
            return Err(invalid);
        }
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        // Only a broken TLS installation fails here.
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .build()
            .map_err(|_| invalid)?;
        Ok(Self {
            client,
            url,
            schemas: Mutex::default(),
        })
    }

    fn endpoint(&self, segments: &[&str]) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            // A subject may hold a slash; as a segment it is escaped.
            path.pop_if_empty().extend(segments);
        }
        url
    }
}

fn unavailable(error: reqwest::Error) -> SchemaError {
    // The URL may hold a password.
    SchemaError::RegistryUnavailable {
        source: Box::new(error.without_url()),
    }
}

/// 5xx and 429 pass; other answers are a refusal.
async fn refused(request: &str, response: Response) -> SchemaError {
    let status = response.status();
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return SchemaError::RegistryUnavailable {
            source: format!("it answered {status}").into(),
        };
    }
    let body = response.text().await.unwrap_or_default();
    SchemaError::RegistryRefused {
        request: request.to_owned(),
        status: status.as_u16(),
        message: body[..body.floor_char_boundary(MAX_MESSAGE_BYTES)].to_owned(),
    }
}

/// The schema in a successful answer.
pub(crate) fn writer_schema(
    id: i32,
    status: u16,
    answer: &[u8],
) -> Result<WriterSchema, SchemaError> {
    // Not JSON: something else answers in the registry's place, as proxies do for a while.
    let answer: SchemaText =
        serde_json::from_slice(answer).map_err(|error| SchemaError::RegistryUnavailable {
            source: error.into(),
        })?;
    WriterSchema::parse(&answer.schema).map_err(|error| SchemaError::RegistryRefused {
        request: format!("schema {id}"),
        status,
        message: format!("not an Avro schema: {error}"),
    })
}

#[async_trait]
impl SchemaRegistry for HttpSchemaRegistry {
    async fn schema(&self, id: i32) -> Result<WriterSchema, SchemaError> {
        let cached = |schemas: &Mutex<HashMap<i32, WriterSchema>>| {
            schemas
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get(&id)
                .cloned()
        };
        if let Some(schema) = cached(&self.schemas) {
            return Ok(schema);
        }
        let url = self.endpoint(&["schemas", "ids", &id.to_string()]);
        let response = self.client.get(url).send().await.map_err(unavailable)?;
        if response.status() == StatusCode::NOT_FOUND {
            return Err(SchemaError::UnknownSchemaId { id });
        }
        if !response.status().is_success() {
            return Err(refused(&format!("schema {id}"), response).await);
        }
        let status = response.status().as_u16();
        let answer = response.bytes().await.map_err(unavailable)?;
        let schema = writer_schema(id, status, &answer)?;
        let mut schemas = self.schemas.lock().unwrap_or_else(PoisonError::into_inner);
        schemas.insert(id, schema.clone());
        Ok(schema)
    }

    async fn register(&self, subject: &str, schema: &str) -> Result<i32, SchemaError> {
        let url = self.endpoint(&["subjects", subject, "versions"]);
        let body = serde_json::json!({ "schema": schema, "schemaType": "AVRO" });
        let request = self
            .client
            .post(url)
            .header("content-type", CONTENT_TYPE)
            .body(body.to_string());
        let response = request.send().await.map_err(unavailable)?;
        if !response.status().is_success() {
            return Err(refused(&format!("subject {subject}"), response).await);
        }
        let answer: SchemaId = response.json().await.map_err(unavailable)?;
        Ok(answer.id)
    }
}
