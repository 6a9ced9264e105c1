//! What the consumers of this process do with their partitions, which no broker knows.

use axum::Json;
use axum::extract::State;

use crate::stack::members::{HeldPartition, Members};

/// `GET /v1/consumers`.
pub async fn list(State(members): State<Members>) -> Json<Vec<HeldPartition>> {
    Json(members.partitions())
}
