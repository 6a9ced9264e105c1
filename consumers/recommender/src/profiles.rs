//! Profiles as the recommender reads them.

use std::sync::Arc;

use async_trait::async_trait;
use millrace_features::Profile;
use millrace_schemas::ReadUpTo;

/// An error below, kept for the chain.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A profile, and what it was made of.
#[derive(Clone, Debug)]
pub struct KnownProfile {
    /// The user.
    pub profile: Arc<Profile>,
    /// Up to where `feedback` was read, where that is known: impressions say so.
    pub read_up_to: Vec<ReadUpTo>,
}

/// Where profiles are read from.
#[async_trait]
pub trait Profiles: Send + Sync + 'static {
    /// The user's profile as it is now; `None` where nothing is known of them.
    ///
    /// # Errors
    /// The feature store does not answer, or holds what can't be read.
    async fn get(&self, user_id: &str) -> Result<Option<KnownProfile>, BoxError>;
}
