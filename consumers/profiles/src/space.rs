//! Profiles in the vector space of another model than the one they were made with.
//!
//! Vectors of two models have nothing in common, and feedback that is kept has those of its time. So
//! a profile is not made anew from `feedback` when the model changes, but from the items that it
//! keeps with weights, as the new model sees them: when the first feedback with the new model's
//! vectors comes, or, until then, whenever it is read.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use millrace_features::Profile;
use millrace_state::StateError;

/// What models made of items.
#[async_trait]
pub trait ItemVectors: Send + Sync {
    /// The vectors of this model, by item id; items of which it has none are left out.
    ///
    /// # Errors
    /// Where they are kept cannot be read.
    async fn vectors(
        &self,
        model_version: &str,
        item_ids: &[String],
    ) -> Result<HashMap<String, Vec<f32>>, StateError>;
}

/// The model whose vectors profiles are to be made of.
#[derive(Clone)]
pub(crate) struct Space {
    pub model_version: String,
    /// Without them a profile's vectors begin anew with the model.
    pub vectors: Option<Arc<dyn ItemVectors>>,
}

impl Space {
    /// The profile in this space.
    pub async fn take(&self, profile: &Profile) -> Result<Profile, StateError> {
        let heaviest = profile.heaviest().into_iter().map(|(item_id, _)| item_id);
        let recent = profile.recent().map(|item| item.item_id.as_str());
        let item_ids: BTreeSet<&str> = heaviest.chain(recent).collect();
        let item_ids: Vec<String> = item_ids.into_iter().map(str::to_owned).collect();
        let vectors = match &self.vectors {
            Some(vectors) => vectors.vectors(&self.model_version, &item_ids).await?,
            None => HashMap::new(),
        };
        tracing::debug!(
            from = profile.model_version(),
            to = self.model_version,
            items = item_ids.len(),
            with_vectors = vectors.len(),
            "a profile moves to another model's space"
        );
        Ok(profile.rebuilt(&self.model_version, |item_id| vectors.get(item_id).cloned()))
    }
}

impl fmt::Debug for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Space({})", self.model_version)
    }
}
