//! The schema registry's client against an HTTP server that answers as Confluent's registry does.

use std::sync::{Arc, Mutex};

use anyhow::{Result, ensure};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use millrace_kafka::HttpSchemaRegistry;
use millrace_schemas::{DocumentOutcome, Message, SchemaError, SchemaRegistry};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

#[derive(Default)]
struct Stored {
    schemas: Vec<(String, String)>,
    registrations: usize,
    reads: usize,
}

/// Keeps schemas in memory; ids from 1; the same subject and schema give the same id.
pub struct FakeRegistry {
    address: std::net::SocketAddr,
    stored: Arc<Mutex<Stored>>,
    server: JoinHandle<()>,
}

impl FakeRegistry {
    pub async fn start() -> Result<Self> {
        let stored = Arc::new(Mutex::new(Stored::default()));
        let router = Router::new()
            .route("/registry/subjects/{subject}/versions", post(register))
            .route("/registry/schemas/ids/{id}", get(schema))
            .with_state(Arc::clone(&stored));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Ok(Self {
            address,
            stored,
            server,
        })
    }

    pub fn url(&self) -> String {
        format!("http://{}/registry", self.address)
    }

    pub fn registrations(&self) -> usize {
        self.stored.lock().unwrap().registrations
    }

    pub fn reads(&self) -> usize {
        self.stored.lock().unwrap().reads
    }

    pub async fn stop(&self) {
        self.server.abort();
        while !self.server.is_finished() {
            tokio::task::yield_now().await;
        }
    }
}

async fn register(
    State(stored): State<Arc<Mutex<Stored>>>,
    Path(subject): Path<String>,
    body: String,
) -> (StatusCode, Json<Value>) {
    let body: Value = serde_json::from_str(&body).unwrap();
    if subject.contains("incompatible") {
        return (
            StatusCode::CONFLICT,
            Json(json!({"error_code": 409, "message": "incompatible"})),
        );
    }
    let mut stored = stored.lock().unwrap();
    stored.registrations += 1;
    let entry = (subject, body["schema"].as_str().unwrap().to_owned());
    let known = stored.schemas.iter().position(|known| *known == entry);
    let index = known.unwrap_or_else(|| {
        stored.schemas.push(entry);
        stored.schemas.len() - 1
    });
    (StatusCode::OK, Json(json!({"id": index + 1})))
}

async fn schema(
    State(stored): State<Arc<Mutex<Stored>>>,
    Path(id): Path<usize>,
) -> (StatusCode, Json<Value>) {
    let mut stored = stored.lock().unwrap();
    stored.reads += 1;
    match id
        .checked_sub(1)
        .and_then(|index| stored.schemas.get(index))
    {
        Some((_, schema)) => (StatusCode::OK, Json(json!({"schema": schema}))),
        None => (
            StatusCode::NOT_FOUND,
            Json(json!({"error_code": 40403, "message": "Schema not found"})),
        ),
    }
}

#[tokio::test]
async fn schemas_are_registered_read_and_kept() -> Result<()> {
    let registry = FakeRegistry::start().await?;
    let client = HttpSchemaRegistry::new(&registry.url())?;
    let id = client
        .register("a/b-value", DocumentOutcome::SCHEMA)
        .await?;
    ensure!(
        client
            .register("a/b-value", DocumentOutcome::SCHEMA)
            .await?
            == id
    );
    for _ in 0..3 {
        client.schema(id).await?;
    }
    ensure!(registry.reads() == 1, "an id never changes its schema");

    let unknown = client.schema(99).await.unwrap_err();
    ensure!(
        matches!(unknown, SchemaError::UnknownSchemaId { id: 99 }),
        "{unknown:?}"
    );
    let refused = client
        .register("incompatible-value", DocumentOutcome::SCHEMA)
        .await
        .unwrap_err();
    ensure!(
        matches!(refused, SchemaError::RegistryRefused { status: 409, .. }),
        "{refused:?}"
    );
    ensure!(!refused.is_retryable());

    registry.stop().await;
    client.schema(id).await?;
    let down = client.schema(7).await.unwrap_err();
    ensure!(
        matches!(down, SchemaError::RegistryUnavailable { .. }) && down.is_retryable(),
        "{down:?}"
    );
    Ok(())
}

#[test]
fn a_url_that_is_none_is_refused() {
    for url in ["", "registry:8081", "ftp://registry", "mailto:a@b"] {
        assert!(HttpSchemaRegistry::new(url).is_err(), "{url}");
    }
}
