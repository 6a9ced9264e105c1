//! Readiness of each part of a process.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use serde::Serialize;

/// Shared readiness: each part sets its own line, `/readyz` reads them all.
#[derive(Clone, Debug, Default)]
pub struct Health {
    parts: Arc<RwLock<BTreeMap<String, Option<String>>>>,
}

/// One part's handle on its own readiness. A new part is not ready yet.
#[derive(Clone, Debug)]
pub struct Part {
    name: String,
    health: Health,
}

/// What `/readyz` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HealthReport {
    /// Whether every part is ready.
    pub ready: bool,
    /// The reason of each part that is not ready.
    pub waiting: BTreeMap<String, String>,
}

impl Health {
    /// Adds a part that is not ready until it says so.
    pub fn part(&self, name: &str) -> Part {
        let part = Part {
            name: name.to_owned(),
            health: self.clone(),
        };
        part.not_ready("starting");
        part
    }

    /// The state of all parts now.
    pub fn report(&self) -> HealthReport {
        // A panic while the lock was held leaves the map itself valid.
        let parts = self
            .parts
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let waiting: BTreeMap<String, String> = parts
            .iter()
            .filter_map(|(name, reason)| Some((name.clone(), reason.clone()?)))
            .collect();
        HealthReport {
            ready: waiting.is_empty(),
            waiting,
        }
    }

    /// Every part, and whether it is ready.
    pub fn parts(&self) -> Vec<(String, bool)> {
        let parts = self
            .parts
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        parts
            .iter()
            .map(|(name, reason)| (name.clone(), reason.is_none()))
            .collect()
    }

    fn set(&self, name: &str, reason: Option<String>) {
        let mut parts = self
            .parts
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        parts.insert(name.to_owned(), reason);
    }
}

impl Part {
    /// This part can do its work.
    pub fn ready(&self) {
        self.health.set(&self.name, None);
    }

    /// This part can't do its work, for the reason given.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.health.set(&self.name, Some(reason.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_when_every_part_is() {
        let health = Health::default();
        let index = health.part("index");
        let consumer = health.part("consumer");
        index.ready();
        assert_eq!(health.report().waiting["consumer"], "starting");
        let parts = [("consumer".to_owned(), false), ("index".to_owned(), true)];
        assert_eq!(health.parts(), parts);
        consumer.ready();
        assert!(health.report().ready);
        index.not_ready("read-only");
        assert_eq!(health.report().waiting.len(), 1);
    }
}
