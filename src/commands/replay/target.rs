//! Where records go.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use millrace_kafka::{Admin, KafkaConfig, topics};

use super::survey::Survey;
use crate::cli::UsageError;
use crate::topic_name::full_name;

/// Flags that say where to.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(multiple = false)]
#[allow(clippy::struct_field_names, reason = "they are the flags' names")]
pub struct TargetArgs {
    /// To another topic: key, value, headers and timestamp stay byte for byte.
    #[arg(long, value_name = "TOPIC")]
    to_topic: Option<String>,
    /// To a file of JSON lines, each decoded and raw in base64; compressed where it ends in `.gz`. `-` is
    /// standard output.
    #[arg(long, value_name = "FILE|-")]
    to_file: Option<PathBuf>,
    /// Of `documents`: publish its notices again, so that the pipeline works them off into the present
    /// index. A document of which the index has a newer version stays as it is; `millrace backfill`
    /// makes the index anew.
    #[arg(long)]
    to_index: bool,
}

/// Where records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To the topic with this full name.
    Topic(String),
    /// To a file.
    File(PathBuf),
    /// To standard output.
    Stdout,
    /// Through the pipeline into the index.
    Index,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(topic) => write!(f, "topic {topic}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Stdout => f.write_str("standard output"),
            Self::Index => f.write_str("index"),
        }
    }
}

impl TargetArgs {
    /// Whether the pipeline is needed.
    pub fn is_index(&self) -> bool {
        self.to_index
    }

    /// Where records of `topic` (full name) go; nowhere where nothing was said.
    ///
    /// # Errors
    /// The other topic is not there, is the same one, or records of `topic` are no documents.
    pub async fn target(
        &self,
        topic: &str,
        kafka: &KafkaConfig,
        admin: &Admin,
    ) -> anyhow::Result<Option<Target>> {
        Ok(match self {
            Self {
                to_topic: Some(name),
                ..
            } => {
                let target = present(name, kafka, admin).await?;
                if target == topic {
                    let refusal = format!(
                        "{topic} can't be replayed to itself: its readers would have each record again, and the next replay twice as many"
                    );
                    return Err(UsageError(refusal).into());
                }
                Some(Target::Topic(target))
            }
            Self {
                to_file: Some(path),
                ..
            } if path == Path::new("-") => Some(Target::Stdout),
            Self {
                to_file: Some(path),
                ..
            } => {
                // Whole, so that the same file has the same name wherever the command is run again.
                let path = std::path::absolute(path)
                    .with_context(|| format!("can't write to {}", path.display()))?;
                Some(Target::File(path))
            }
            Self { to_index: true, .. } => {
                let documents = kafka.topic(topics::DOCUMENTS);
                if topic != documents {
                    let refusal =
                        format!("--to-index takes the notices of {documents}; {topic} has none");
                    return Err(UsageError(refusal).into());
                }
                Some(Target::Index)
            }
            Self { .. } => None,
        })
    }
}

/// The full name of a topic that is there: as it is declared, or any full name.
///
/// # Errors
/// There is no such topic.
pub async fn present(name: &str, kafka: &KafkaConfig, admin: &Admin) -> anyhow::Result<String> {
    match full_name(name, kafka) {
        Ok(topic) => {
            admin.partitions(&topic).await?;
            Ok(topic)
        }
        // One that somebody else made has neither our prefix nor a declaration.
        Err(undeclared) => match admin.partitions(name).await {
            Ok(_) => Ok(name.to_owned()),
            Err(_) => Err(undeclared),
        },
    }
}

/// What is to be told where records are older than the topic keeps any: they have their own times there,
/// so its next clean-up removes them.
pub async fn expiring(admin: &Admin, topic: &str, survey: &Survey) -> Option<String> {
    // Without an answer nothing is known, and nothing else depends on it.
    let described = admin.describe(topic).await.ok()?;
    let policy = described.settings.get("cleanup.policy")?;
    let kept_ms: i64 = described.settings.get("retention.ms")?.parse().ok()?;
    if kept_ms < 0 || !policy.contains("delete") {
        return None;
    }
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let old = survey.before(now_ms.saturating_sub(kept_ms));
    (old > 0).then(|| {
        let hours = kept_ms / 3_600_000;
        format!("{topic} keeps records for {hours} h: {old} are older, and go from it soon")
    })
}

/// Who of ours reads the topic with this full name.
pub fn readers(topic: &str, kafka: &KafkaConfig) -> Vec<&'static str> {
    let Some(declared) = topic.strip_prefix(&kafka.topic_prefix) else {
        return Vec::new();
    };
    match declared {
        topics::DOCUMENTS => vec!["the vectorizer"],
        topics::OUTCOMES => vec!["`millrace ingest` and `status`"],
        topics::SIGNALS => vec!["the joiner", "the recommender", "the reconciler"],
        topics::BEHAVIOR => vec!["the joiner"],
        topics::BEHAVIOR_BY_ITEM => vec!["the joiner"],
        topics::BEHAVIOR_BY_REQUEST | topics::IMPRESSIONS => vec!["the labeler"],
        topics::FEEDBACK | topics::USERS => vec!["the profiles"],
        topics::ITEM_STATS => vec!["the recommender"],
        topics::TRAINING => vec!["the training of rankers"],
        topics::DLQ_RESOLVED => vec!["`millrace dlq`"],
        topics::ROLLOUTS => vec!["whoever writes or searches the index"],
        other if other.ends_with(".dlq") => vec!["`millrace dlq`"],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_consumers_are_known() {
        let kafka = KafkaConfig::default();
        assert_eq!(
            readers(&kafka.topic("documents"), &kafka),
            ["the vectorizer"]
        );
        assert_eq!(
            readers(&kafka.topic("behavior.dlq"), &kafka),
            ["`millrace dlq`"]
        );
        assert!(readers(&kafka.topic("backfill"), &kafka).is_empty());
        assert!(readers("documents", &kafka).is_empty(), "somebody else's");
    }
}
