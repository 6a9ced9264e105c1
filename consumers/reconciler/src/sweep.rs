//! Removes tombstones that nothing can ask for any more.
//!
//! A tombstone keeps late older versions out. Once no topic can bring such a version back, it only
//! takes room.

use std::time::Duration;

use millrace_index::{IndexError, SearchIndex};
use millrace_kafka::{Admin, AdminError, KafkaConfig, topics};
use millrace_schemas::DocumentVersion;

/// Why there is no horizon.
#[derive(Debug, thiserror::Error)]
pub enum HorizonError {
    /// Tombstones would go while a replay could still bring the documents back.
    #[error(
        "reconciler.sweep.horizon is {} h, but {topic} keeps {setting} = {} h: a replay would bring removed \
         documents back; set the horizon to at least that, or leave it out",
        horizon_ms / HOUR_MS, floor_ms / HOUR_MS
    )]
    TooShort {
        /// What is configured.
        horizon_ms: i64,
        /// What the brokers keep.
        floor_ms: i64,
        /// The topic's full name.
        topic: String,
        /// Kafka's name of the setting.
        setting: &'static str,
    },
    /// The brokers can't be asked.
    #[error("cannot learn how long the topics can be replayed")]
    Topics(#[from] AdminError),
}

const HOUR_MS: i64 = 3_600_000;

/// How far back a topic can be replayed: its setting, and whether a horizon below it is refused.
/// Dead letters only raise the default: they are redriven by people, who see what they do.
const REPLAYED: [(&str, &str, bool); 3] = [
    (topics::SIGNALS, "delete.retention.ms", true),
    (topics::DOCUMENTS, "retention.ms", true),
    (topics::DOCUMENTS_DLQ, "retention.ms", false),
];

/// The age at which tombstones may go: `configured`, or the longest replay horizon of the topics as
/// the brokers have them. `None` where a topic is kept for ever: then nothing is ever swept.
///
/// # Errors
/// [`HorizonError::TooShort`] names both numbers.
pub async fn horizon(
    kafka: &KafkaConfig,
    configured: Option<Duration>,
) -> Result<Option<Duration>, HorizonError> {
    let admin = Admin::connect(kafka)?;
    let configured_ms = configured.map(|d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX));
    let mut longest_ms = 0;
    let mut forever = false;
    for (name, setting, is_floor) in REPLAYED {
        let topic = kafka.topic(name);
        let kept = admin.describe(&topic).await?.settings.remove(setting);
        let kept_ms = kept.and_then(|kept| kept.parse::<i64>().ok()).unwrap_or(0);
        // -1: without an end.
        forever |= kept_ms < 0 && is_floor;
        longest_ms = longest_ms.max(kept_ms);
        if let Some(horizon_ms) = configured_ms
            && is_floor
            && horizon_ms < kept_ms
        {
            return Err(HorizonError::TooShort {
                horizon_ms,
                floor_ms: kept_ms,
                topic,
                setting,
            });
        }
    }
    if forever {
        tracing::warn!("a topic keeps its records for ever: tombstones are never swept");
        return Ok(None);
    }
    let millis = configured_ms.unwrap_or(longest_ms);
    Ok(Some(Duration::from_millis(
        u64::try_from(millis).unwrap_or(0),
    )))
}

/// Removes the tombstones of removals that are older than `horizon`; tells how many.
///
/// # Errors
/// The index can't be written.
pub async fn sweep(index: &dyn SearchIndex, horizon: Duration) -> Result<u64, IndexError> {
    let horizon_ms = i64::try_from(horizon.as_millis()).unwrap_or(i64::MAX);
    let before_ms = crate::now_ms().saturating_sub(horizon_ms);
    let swept = index
        .sweep(DocumentVersion::new(before_ms, 0).get())
        .await?;
    if swept > 0 {
        tracing::info!(swept, "tombstones removed");
    }
    Ok(swept)
}
