//! States that are built anew while they serve, each by its consumer in this process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use millrace_joiner::JoinerHandle;
use millrace_profiles::ProfilesHandle;
use millrace_retry::error_chain;
use millrace_stateful::{Rebuild, RebuildError, RebuildProgress, Rebuilt};
use serde::{Deserialize, Serialize};

/// A consumer whose state is made of behavior.
#[derive(Clone)]
pub enum Stateful {
    /// Signals and counters of items.
    Joiner(Arc<JoinerHandle>),
    /// Profiles of users.
    Profiles(Arc<ProfilesHandle>),
}

impl Stateful {
    fn name(&self) -> &'static str {
        match self {
            Self::Joiner(_) => "joiner",
            Self::Profiles(_) => "profiles",
        }
    }

    fn rebuilds(&self) -> &dyn Rebuild {
        match self {
            Self::Joiner(joiner) => joiner.rebuilds(),
            Self::Profiles(profiles) => profiles.rebuilds(),
        }
    }
}

/// How the last rebuild of a state is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum RebuildStatus {
    /// There was none since the process started.
    #[default]
    Idle,
    /// It is built.
    Running(RebuildProgress),
    /// It serves.
    Done(Rebuilt),
    /// It was cut off; what served before its switch serves.
    Failed {
        /// Why.
        reason: String,
    },
}

/// The rebuilds of this process; cheap to clone.
#[derive(Clone, Default)]
pub struct Rebuilds {
    consumers: Arc<BTreeMap<&'static str, Entry>>,
}

struct Entry {
    consumer: Stateful,
    status: Mutex<RebuildStatus>,
}

impl Rebuilds {
    /// Of these consumers.
    pub fn new(consumers: impl IntoIterator<Item = Stateful>) -> Self {
        let entry = |consumer: Stateful| {
            let status = Mutex::default();
            (consumer.name(), Entry { consumer, status })
        };
        Self {
            consumers: Arc::new(consumers.into_iter().map(entry).collect()),
        }
    }

    /// How the last rebuild of `consumer` is; `None` where this process does not run it.
    pub fn status(&self, consumer: &str) -> Option<RebuildStatus> {
        Some(self.consumers.get(consumer)?.status().clone())
    }

    /// What a rebuild of `consumer` would read; `None` where this process does not run it.
    ///
    /// # Errors
    /// The brokers do not answer.
    pub async fn extent(&self, consumer: &str) -> Option<Result<Rebuilt, RebuildError>> {
        let entry = self.consumers.get(consumer)?;
        Some(entry.consumer.rebuilds().extent().await)
    }

    /// Begins a rebuild in the background; `None` where this process does not run `consumer`.
    ///
    /// # Errors
    /// One is running already, or records are gone and that is not accepted.
    pub async fn begin(
        &self,
        consumer: &str,
        accept_loss: bool,
    ) -> Option<Result<(), RebuildError>> {
        let (&name, entry) = self.consumers.get_key_value(consumer)?;
        let extent = match entry.consumer.rebuilds().extent().await {
            Ok(extent) => extent,
            Err(error) => return Some(Err(error)),
        };
        if extent.records_gone > 0 && !accept_loss {
            return Some(Err(RebuildError::RecordsGone {
                topic: extent.topic,
                records: extent.records_gone,
            }));
        }
        {
            let mut status = entry.status();
            if matches!(*status, RebuildStatus::Running(_)) {
                return Some(Err(RebuildError::Running { consumer: name }));
            }
            *status = RebuildStatus::Running(RebuildProgress {
                old: extent.old,
                total_records: extent.records,
                ..RebuildProgress::default()
            });
        }
        let rebuilds = self.clone();
        tokio::spawn(async move { rebuilds.run(name, accept_loss).await });
        Some(Ok(()))
    }

    async fn run(&self, name: &'static str, accept_loss: bool) {
        let Some(entry) = self.consumers.get(name) else {
            return;
        };
        let progress = |progress| *entry.status() = RebuildStatus::Running(progress);
        let rebuilt = entry
            .consumer
            .rebuilds()
            .rebuild(accept_loss, &progress)
            .await;
        *entry.status() = match rebuilt {
            Ok(rebuilt) => RebuildStatus::Done(rebuilt),
            Err(error) => {
                let reason = error_chain(&error);
                tracing::warn!(consumer = name, reason, "the state was not rebuilt");
                RebuildStatus::Failed { reason }
            }
        };
    }
}

impl Entry {
    fn status(&self) -> std::sync::MutexGuard<'_, RebuildStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
