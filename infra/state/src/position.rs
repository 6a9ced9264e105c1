//! How far the sources of a shard were read.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The next offset of each source; a source of which nothing was read yet is absent. Sources are
/// named by their user, after the topics usually.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(BTreeMap<String, i64>);

impl Position {
    /// The next offset of `source`.
    #[must_use]
    pub fn get(&self, source: &str) -> Option<i64> {
        self.0.get(source).copied()
    }

    /// The same with another next offset of `source`.
    #[must_use]
    pub fn with(mut self, source: &str, next: impl Into<Option<i64>>) -> Self {
        match next.into() {
            Some(next) => self.0.insert(source.to_owned(), next),
            None => self.0.remove(source),
        };
        self
    }

    /// One text for each position, for stores that compare texts.
    pub(crate) fn to_text(&self) -> String {
        serde_json::to_string(self)
            .unwrap_or_else(|_| unreachable!("texts and integers are always encodable"))
    }

    pub(crate) fn from_text(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("the beginning");
        }
        for (index, (source, next)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{source}@{next}")?;
        }
        Ok(())
    }
}
