//! Generations of an index side by side: which one serves, and how another one takes its place.
//!
//! A generation is one build of an index by one model. Each is written and searched through a handle
//! of its own; the read alias only says which of them serves. So whoever resolves the alias once, and
//! then asks that generation's handle with a vector of that generation's model, gets an answer of one
//! model, however the alias moves meanwhile.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{IndexDescription, IndexError, IndexSpec, SearchIndex};

/// A generation that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Its number, from 1.
    pub generation: u32,
    /// Its name: `"{name}-000001"`.
    pub index: String,
    /// Length of its vectors.
    pub dimension: usize,
    /// Version of the model that makes them.
    pub model_version: String,
    /// Fingerprint of that model.
    pub model_fingerprint: String,
}

/// All generations of the indexes that a folder or a cluster holds.
#[async_trait]
pub trait Generations: Send + Sync + 'static {
    /// What the read alias `name` points at now; `None` where there is no such alias.
    ///
    /// # Errors
    /// [`IndexError::AliasMoved`] where it points at no generation, or at several; when the index
    /// cannot be reached.
    async fn resolve(&self, name: &str) -> Result<Option<Generation>, IndexError>;

    /// The generations of `name` that are there, by number.
    ///
    /// # Errors
    /// When the index cannot be reached.
    async fn list(&self, name: &str) -> Result<Vec<Generation>, IndexError>;

    /// A handle to one generation, beside those that are open; created, or verified.
    ///
    /// # Errors
    /// As [`SearchIndex::ensure`].
    async fn open(&self, spec: &IndexSpec) -> Result<Arc<dyn SearchIndex>, IndexError>;

    /// What the generation of `spec` is, where it is there and fits. As [`open`](Self::open), and makes nothing:
    /// `None` where `open` would create it.
    ///
    /// # Errors
    /// As [`SearchIndex::ensure`].
    async fn look(&self, spec: &IndexSpec) -> Result<Option<IndexDescription>, IndexError>;

    /// Points the read alias `name` at `to`, in one step, if it points at `from` (`None`: at nothing).
    ///
    /// # Errors
    /// [`IndexError::NoSuchGeneration`] when `to` is not there, [`IndexError::AliasMoved`] when the
    /// alias is elsewhere. Nothing was changed then.
    async fn swap_alias(&self, name: &str, from: Option<u32>, to: u32) -> Result<(), IndexError>;

    /// Removes a generation for good; `false` where there is none. Handles to it are of no use then.
    ///
    /// # Errors
    /// [`IndexError::Serves`] for the one that the read alias points at; when the index cannot be
    /// reached or written.
    async fn delete(&self, name: &str, generation: u32) -> Result<bool, IndexError>;
}

/// The number in the name of a generation of `name`; `None` for other names.
pub(crate) fn generation_number(name: &str, index: &str) -> Option<u32> {
    let digits = index.strip_prefix(name)?.strip_prefix('-')?;
    let is_number = digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use super::generation_number;

    #[test]
    fn only_generations_of_the_name_have_a_number() {
        assert_eq!(generation_number("docs", "docs-000012"), Some(12));
        assert_eq!(generation_number("docs", "docs"), None);
        assert_eq!(generation_number("docs", "docs-000012-write"), None);
        assert_eq!(generation_number("docs", "docs-v2-000012"), None);
        assert_eq!(generation_number("docs", "docs-+00012"), None);
    }
}
