//! Who has logged in: in memory, for some hours, and gone with the process.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::token::random_token;

/// How long a login lasts.
pub const LIFETIME: Duration = Duration::from_secs(12 * 3_600);
/// Sessions that are kept; the oldest one makes room.
const MAX_SESSIONS: usize = 1_024;

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// See all pages.
    Reader,
    /// See them, and act.
    Operator,
}

/// Somebody at the console.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// What they may do.
    pub role: Role,
    /// How they call themselves, as the topic `audit` will: `name@console`. Believed.
    pub who: String,
    /// What each of their forms carries, which no other site knows.
    pub csrf: String,
}

/// The open sessions, by the cookie's value.
#[derive(Default)]
pub struct Sessions(Mutex<HashMap<String, Session>>);

struct Session {
    visitor: Visitor,
    began: Instant,
}

impl Sessions {
    /// Opens one; its id is the cookie's value.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn open(&self, role: Role, name: &str) -> anyhow::Result<(String, Visitor)> {
        let visitor = Visitor {
            role,
            who: format!("{name}@console"),
            csrf: random_token()?,
        };
        let id = random_token()?;
        let session = Session {
            visitor: visitor.clone(),
            began: Instant::now(),
        };
        let mut sessions = self.lock();
        sessions.retain(|_, session| session.began.elapsed() < LIFETIME);
        if sessions.len() >= MAX_SESSIONS {
            let oldest = sessions.iter().min_by_key(|(_, session)| session.began);
            let oldest = oldest.map(|(id, _)| id.clone());
            oldest.and_then(|id| sessions.remove(&id));
        }
        sessions.insert(id.clone(), session);
        Ok((id, visitor))
    }

    /// Whose session this is; nobody's where it is over.
    pub fn find(&self, id: &str) -> Option<Visitor> {
        let sessions = self.lock();
        let session = sessions.get(id)?;
        (session.began.elapsed() < LIFETIME).then(|| session.visitor.clone())
    }

    /// Ends one.
    pub fn close(&self, id: &str) {
        self.lock().remove(id);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_found_until_it_is_closed() {
        let sessions = Sessions::default();
        let (id, opened) = sessions.open(Role::Reader, "ada").unwrap();
        let found = sessions.find(&id).unwrap();
        assert_eq!(
            (found.role, found.who.as_str()),
            (Role::Reader, "ada@console")
        );
        assert_eq!(found.csrf, opened.csrf);
        assert_ne!(found.csrf, id, "who reads a form has no cookie");
        assert!(sessions.find("").is_none());
        sessions.close(&id);
        assert!(sessions.find(&id).is_none());
    }

    #[test]
    fn the_oldest_session_makes_room() {
        let sessions = Sessions::default();
        let (first, _) = sessions.open(Role::Reader, "first").unwrap();
        for _ in 0..MAX_SESSIONS {
            sessions.open(Role::Reader, "another").unwrap();
        }
        assert!(sessions.find(&first).is_none());
        assert_eq!(sessions.lock().len(), MAX_SESSIONS);
    }
}
