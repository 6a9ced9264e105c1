//! What the consumers of this process do with their partitions, which no broker knows.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use crate::stack::members::Members;

/// A partition that a consumer of this process has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldPartition {
    /// The consumer's group.
    pub group: String,
    /// The topic's full name.
    pub topic: String,
    /// The number.
    pub partition: i32,
    /// Whether nothing is fetched because the queue is full: what reads is slower than what comes.
    pub paused: bool,
}

/// `GET /v1/consumers`.
pub async fn list(State(members): State<Members>) -> Json<Vec<HeldPartition>> {
    Json(members.partitions().await)
}
