//! Profiles as others read them: from the live state, by whoever reaches it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use millrace_features::Profile;
use millrace_kafka::{Admin, AdminError, KafkaConfig, java_partition, topics};
use millrace_state::{LIVE_FOR, Shard, StateError, StateStore};
use millrace_stateful::BrokenValue;

use crate::space::{ItemVectors, Space};
use crate::values::{PROFILES, read_profile};

/// Reads profiles; cheap to clone. Sees what is written at once, and a new generation of the state
/// within a second.
#[derive(Clone)]
pub struct ProfileReader {
    inner: Arc<Inner>,
}

struct Inner {
    state: Arc<dyn StateStore>,
    /// Of `feedback`, by which users are partitioned.
    partition_count: i32,
    live: Mutex<Option<(u32, Instant)>>,
    /// The space that profiles are wanted in; as they are stored where there is none.
    space: Option<Space>,
}

/// A profile cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store does not answer.
    #[error(transparent)]
    State(#[from] StateError),
    /// A value is not what this version writes.
    #[error("the state holds a profile of another version of millrace")]
    Broken(#[from] BrokenValue),
}

impl ProfileReader {
    /// A reader of this state, which a consumer of these brokers' `feedback` writes.
    ///
    /// # Errors
    /// The brokers cannot be asked how many partitions `feedback` has.
    pub async fn connect(
        kafka: &KafkaConfig,
        state: Arc<dyn StateStore>,
    ) -> Result<Self, AdminError> {
        let admin = Admin::connect(kafka)?;
        let partitions = admin.partitions(&kafka.topic(topics::FEEDBACK)).await?;
        let partition_count = i32::try_from(partitions.len()).unwrap_or(i32::MAX);
        Ok(Self::new(state, partition_count))
    }

    /// A reader of this state, for whoever knows how many partitions `feedback` has.
    #[must_use]
    pub fn new(state: Arc<dyn StateStore>, partition_count: i32) -> Self {
        Self::within(None, state, partition_count)
    }

    pub(crate) fn within(
        space: Option<Space>,
        state: Arc<dyn StateStore>,
        partition_count: i32,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                state,
                partition_count,
                live: Mutex::default(),
                space,
            }),
        }
    }

    /// The same, with all profiles in the space of this model: one that was stored in another's is
    /// read as the model sees its items.
    #[must_use]
    pub fn in_space(&self, model_version: &str, vectors: Arc<dyn ItemVectors>) -> Self {
        let space = Space {
            model_version: model_version.to_owned(),
            vectors: Some(vectors),
        };
        let Inner {
            state,
            partition_count,
            ..
        } = &*self.inner;
        Self::within(Some(space), Arc::clone(state), *partition_count)
    }

    /// The user's profile; `None` where nothing is known of them.
    ///
    /// # Errors
    /// The store does not answer, or holds what this version does not write.
    pub async fn get(&self, user_id: &str) -> Result<Option<Profile>, ReadError> {
        let shard = Shard {
            generation: self.live_generation().await?,
            partition: java_partition(user_id.as_bytes(), self.inner.partition_count),
        };
        let key = (PROFILES, user_id.as_bytes().to_vec());
        let found = self.inner.state.get(shard, vec![key]).await?;
        let Some(value) = found.into_iter().next().flatten() else {
            return Ok(None);
        };
        let profile = read_profile(&value)?;
        Ok(Some(match &self.inner.space {
            Some(space) if space.model_version != profile.model_version() => {
                space.take(&profile).await?
            }
            _ => profile,
        }))
    }

    async fn live_generation(&self) -> Result<u32, StateError> {
        let live = &self.inner.live;
        let known = *live.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((generation, asked)) = known
            && asked.elapsed() < LIVE_FOR
        {
            return Ok(generation);
        }
        let generation = self.inner.state.live_generation().await?;
        *live.lock().unwrap_or_else(PoisonError::into_inner) = Some((generation, Instant::now()));
        Ok(generation)
    }
}
