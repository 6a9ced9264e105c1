//! The topic `users`: what the upstream system tells of users.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::codec::message;

/// A user, as told last. The record's key is the `user_id`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// As behavior names the user.
    pub user_id: String,
    /// AIRec's user table without its id: `gender`, `age`, `city` and so on. Numbers as texts, lists
    /// and objects as JSON.
    #[serde(default)]
    pub fields: BTreeMap<String, String>,
    /// The user is gone; `fields` is empty.
    #[serde(default)]
    pub deleted: bool,
    /// When it was told, ms since 1970.
    pub updated_at_ms: i64,
    /// Who told it: `airec`.
    #[serde(default)]
    pub source: String,
}

message!(User, "users", older: [], newest: "v1");
