//! How far consumer groups are behind, looked at on a schedule for whoever asks for metrics.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use millrace_kafka::{Admin, AdminError, Assessment, GroupLags, KafkaConfig, LagHistory};
use millrace_retry::error_chain;
use millrace_telemetry::Part;
use tokio::task::AbortHandle;

use crate::config::{Config, LagSection};

/// The last look at the groups. Cheap to clone.
#[derive(Clone, Default)]
pub struct LastLook {
    seen: Arc<Mutex<Option<Seen>>>,
}

/// What a look has seen.
#[derive(Clone)]
pub struct Seen {
    /// Groups and their partitions.
    pub lags: GroupLags,
    /// What each partition's looks so far come to, in the same order.
    pub assessments: Vec<Assessment>,
    /// When it ended.
    pub at: SystemTime,
    /// How long the last look took, whether it succeeded or not.
    pub took: Duration,
    /// Whether the last look succeeded; what is told is else that of the one before.
    pub succeeded: bool,
}

/// Looks on a schedule until it is dropped.
pub struct Lagging {
    /// What it has seen.
    pub last: LastLook,
    looking: AbortHandle,
}

impl Lagging {
    /// Begins to look; `part` tells whether the last look succeeded.
    ///
    /// # Errors
    /// The brokers' settings can't be used.
    pub fn start(
        config: &Config,
        kafka: &KafkaConfig,
        every: Duration,
        part: Option<Part>,
    ) -> anyhow::Result<Self> {
        let last = LastLook::default();
        let looker = Looker {
            admin: Admin::connect(kafka)?,
            prefix: kafka.topic_prefix.clone(),
            section: config.lag.clone(),
            history: LagHistory::default(),
            last: last.clone(),
            part,
        };
        let looking = tokio::spawn(looker.run(every)).abort_handle();
        Ok(Self { last, looking })
    }
}

impl Drop for Lagging {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

impl LastLook {
    /// What it has seen; `None` before the first look has succeeded.
    pub fn get(&self) -> Option<Seen> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Looker {
    admin: Admin,
    prefix: String,
    section: LagSection,
    history: LagHistory,
    last: LastLook,
    part: Option<Part>,
}

impl Looker {
    async fn run(mut self, every: Duration) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let began = Instant::now();
            let looked = self.look().await;
            let took = began.elapsed();
            if let Some(part) = &self.part {
                match &looked {
                    Ok(_) => part.ready(),
                    Err(error) => part.not_ready(error_chain(error)),
                }
            }
            let mut last = self.last.lock();
            match looked {
                Ok(lags) => {
                    self.history.observe(&lags.partitions);
                    let assess = lags.partitions.iter().map(|lag| self.history.assess(lag));
                    *last = Some(Seen {
                        assessments: assess.collect(),
                        lags,
                        at: SystemTime::now(),
                        took,
                        succeeded: true,
                    });
                }
                Err(error) => {
                    tracing::warn!(
                        error = error_chain(&error),
                        "the lag of the groups is unknown"
                    );
                    if let Some(seen) = &mut *last {
                        seen.succeeded = false;
                        seen.took = took;
                    }
                }
            }
        }
    }

    async fn look(&self) -> Result<GroupLags, AdminError> {
        let mut groups = self.admin.groups().await?;
        groups.retain(|group| self.section.all_groups || group.starts_with(&self.prefix));
        self.admin.group_lags(&groups).await
    }
}
