//! Profiles as the recommender reads them.

use std::sync::Arc;

use async_trait::async_trait;
use millrace_features::Profile;

/// An error below, kept for the chain.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Where profiles are read from.
#[async_trait]
pub trait Profiles: Send + Sync + 'static {
    /// The user's profile as it is now, with its position in `feedback`, which impressions log;
    /// `None` where nothing is known of them.
    ///
    /// # Errors
    /// The feature store does not answer, or holds what can't be read.
    async fn get(&self, user_id: &str) -> Result<Option<Arc<Profile>>, BoxError>;
}
