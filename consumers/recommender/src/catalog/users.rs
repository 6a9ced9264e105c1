//! What the upstream system says of users, the newest of each.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use millrace_schemas::User;

/// What an entry takes beside its texts.
const ENTRY_BYTES: usize = 150;

/// A user's fields.
pub(crate) type UserFields = Arc<BTreeMap<String, String>>;

#[derive(Debug)]
struct Known {
    updated_at_ms: i64,
    fields: UserFields,
    bytes: usize,
}

/// Users by id.
#[derive(Debug)]
pub(crate) struct Users {
    users: HashMap<String, Known>,
    bytes: usize,
    max_bytes: usize,
    is_full: bool,
}

impl Users {
    pub fn new(max_bytes: usize) -> Self {
        Self {
            users: HashMap::new(),
            bytes: 0,
            max_bytes,
            is_full: false,
        }
    }

    /// Takes a user, unless a newer row of them is there. Where there is no room, those that come are
    /// left out: they are users without fields, as most are.
    pub fn put(&mut self, user: User) {
        let known = self.users.get(&user.user_id);
        if known.is_some_and(|known| known.updated_at_ms > user.updated_at_ms) {
            return;
        }
        self.forget(&user.user_id);
        if user.deleted || user.fields.is_empty() {
            return;
        }
        let fields = user.fields.iter();
        let texts: usize = fields.map(|(key, value)| key.len() + value.len()).sum();
        let bytes = ENTRY_BYTES + user.user_id.len() + texts + 100 * user.fields.len();
        if self.bytes + bytes > self.max_bytes {
            if !self.is_full {
                tracing::warn!(
                    max_bytes = self.max_bytes,
                    "no room for more users' fields; raise recommender.catalog.max_user_bytes"
                );
            }
            self.is_full = true;
            return;
        }
        self.bytes += bytes;
        let known = Known {
            updated_at_ms: user.updated_at_ms,
            fields: Arc::new(user.fields),
            bytes,
        };
        self.users.insert(user.user_id, known);
    }

    /// Forgets a user whose record is gone from the topic.
    pub fn forget(&mut self, user_id: &str) {
        if let Some(known) = self.users.remove(user_id) {
            self.bytes -= known.bytes;
        }
    }

    /// The user's fields; empty where nothing is said of them.
    pub fn fields(&self, user_id: &str) -> UserFields {
        let known = self.users.get(user_id);
        known.map_or_else(Arc::default, |known| Arc::clone(&known.fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(user_id: &str, age: &str, updated_at_ms: i64) -> User {
        User {
            user_id: user_id.to_owned(),
            fields: BTreeMap::from([("age".to_owned(), age.to_owned())]),
            deleted: false,
            updated_at_ms,
            source: "airec".to_owned(),
        }
    }

    #[test]
    fn the_newest_row_holds_a_deleted_user_is_gone_and_room_is_bounded() {
        let mut users = Users::new(1_000);
        let age = |users: &Users, user_id: &str| users.fields(user_id).get("age").cloned();
        users.put(user("ada", "30", 2));
        users.put(user("ada", "29", 1));
        assert_eq!(age(&users, "ada").as_deref(), Some("30"));
        users.put(user("ada", "31", 2));
        assert_eq!(age(&users, "ada").as_deref(), Some("31"));
        let bytes = users.bytes;
        for n in 0..100 {
            users.put(user(&format!("user-{n}"), "20", 1));
        }
        assert!(users.bytes <= 1_000 && users.is_full);
        assert_eq!(age(&users, "user-0").as_deref(), Some("20"));
        assert_eq!(age(&users, "user-99"), None);
        let deleted = User {
            deleted: true,
            fields: BTreeMap::new(),
            ..user("ada", "", 3)
        };
        let before = users.bytes;
        users.put(deleted);
        assert_eq!(age(&users, "ada"), None);
        assert_eq!(users.bytes, before - bytes);
        users.forget("user-0");
        assert_eq!(age(&users, "user-0"), None);
    }
}
