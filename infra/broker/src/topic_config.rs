//! Topic settings under Kafka's names.

use std::collections::BTreeMap;

use thiserror::Error;

/// How a setting's value is checked and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Numbers in Kafka's `ConfigDef.Type`: what DescribeConfigs calls the type.
    Boolean,
    Text,
    Int,
    Long,
    Double,
    List,
}

/// One topic setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub name: &'static str,
    pub default: &'static str,
    pub kind: Kind,
}

const fn setting(name: &'static str, default: &'static str, kind: Kind) -> Setting {
    Setting {
        name,
        default,
        kind,
    }
}

/// All settings that a topic takes. Those of replication, and of files that this broker does not
/// have, are accepted and shown so that declarations written for a cluster apply unchanged.
pub const SETTINGS: &[Setting] = &[
    setting("cleanup.policy", "delete", Kind::List),
    setting("compression.type", "producer", Kind::Text),
    setting("delete.retention.ms", "86400000", Kind::Long),
    setting("file.delete.delay.ms", "60000", Kind::Long),
    setting("flush.messages", "9223372036854775807", Kind::Long),
    setting("flush.ms", "9223372036854775807", Kind::Long),
    setting("index.interval.bytes", "4096", Kind::Int),
    setting("max.compaction.lag.ms", "9223372036854775807", Kind::Long),
    setting("max.message.bytes", "1048588", Kind::Int),
    setting(
        "message.timestamp.after.max.ms",
        "9223372036854775807",
        Kind::Long,
    ),
    setting(
        "message.timestamp.before.max.ms",
        "9223372036854775807",
        Kind::Long,
    ),
    setting("message.timestamp.type", "CreateTime", Kind::Text),
    setting("min.cleanable.dirty.ratio", "0.5", Kind::Double),
    setting("min.compaction.lag.ms", "0", Kind::Long),
    setting("min.insync.replicas", "1", Kind::Int),
    setting("preallocate", "false", Kind::Boolean),
    setting("retention.bytes", "-1", Kind::Long),
    setting("retention.ms", "604800000", Kind::Long),
    setting("segment.bytes", "1073741824", Kind::Int),
    setting("segment.index.bytes", "10485760", Kind::Int),
    setting("segment.jitter.ms", "0", Kind::Long),
    setting("segment.ms", "604800000", Kind::Long),
    setting("unclean.leader.election.enable", "false", Kind::Boolean),
];

/// A setting that was refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    #[error("unknown topic setting {0}")]
    Unknown(String),
    #[error("{name} = {value}: {why}")]
    Value {
        name: String,
        value: String,
        why: &'static str,
    },
}

/// Valid settings of one topic. Times in milliseconds; `None` means no limit.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfig {
    /// What was set, as text; the rest has its default.
    pub overrides: BTreeMap<String, String>,
    pub delete: bool,
    pub compact: bool,
    pub retention_ms: Option<i64>,
    pub retention_bytes: Option<u64>,
    pub segment_bytes: u64,
    pub segment_ms: i64,
    pub max_message_bytes: usize,
    pub delete_retention_ms: i64,
    pub min_cleanable_dirty_ratio: f64,
    pub min_compaction_lag_ms: i64,
    pub max_compaction_lag_ms: i64,
    pub flush_messages: i64,
    pub flush_ms: i64,
}

impl TopicConfig {
    /// Checks settings. `message_max_bytes` is the broker's default of `max.message.bytes`.
    pub fn new(
        overrides: BTreeMap<String, String>,
        message_max_bytes: usize,
    ) -> Result<TopicConfig, ConfigError> {
        if let Some(unknown) = overrides.keys().find(|name| find(name).is_none()) {
            return Err(ConfigError::Unknown(unknown.clone()));
        }
        let values = Values {
            overrides: &overrides,
        };
        let policies: Vec<&str> = values
            .text("cleanup.policy")
            .split(',')
            .map(str::trim)
            .collect();
        if policies
            .iter()
            .any(|policy| !matches!(*policy, "delete" | "compact"))
        {
            return Err(values.refuse("cleanup.policy", "only delete, compact, or both"));
        }
        if values.text("message.timestamp.type") != "CreateTime" {
            return Err(values.refuse(
                "message.timestamp.type",
                "batches are stored as sent, so only CreateTime",
            ));
        }
        if values.text("compression.type") != "producer" {
            return Err(values.refuse(
                "compression.type",
                "batches are stored as sent, so only producer",
            ));
        }
        if values.whole("min.insync.replicas", 1)? > 1 {
            return Err(values.refuse("min.insync.replicas", "there is one broker"));
        }
        let message_bytes = match overrides.contains_key("max.message.bytes") {
            true => usize::try_from(values.whole("max.message.bytes", 0)?).unwrap_or(usize::MAX),
            false => message_max_bytes,
        };
        let config = TopicConfig {
            delete: policies.contains(&"delete"),
            compact: policies.contains(&"compact"),
            retention_ms: Some(values.whole("retention.ms", -1)?).filter(|ms| *ms >= 0),
            retention_bytes: u64::try_from(values.whole("retention.bytes", -1)?).ok(),
            segment_bytes: u64::try_from(values.whole("segment.bytes", 1024)?).unwrap_or(u64::MAX),
            segment_ms: values.whole("segment.ms", 1)?,
            max_message_bytes: message_bytes,
            delete_retention_ms: values.whole("delete.retention.ms", 0)?,
            min_cleanable_dirty_ratio: values.ratio("min.cleanable.dirty.ratio")?,
            min_compaction_lag_ms: values.whole("min.compaction.lag.ms", 0)?,
            max_compaction_lag_ms: values.whole("max.compaction.lag.ms", 1)?,
            flush_messages: values.whole("flush.messages", 1)?,
            flush_ms: values.whole("flush.ms", 0)?,
            overrides: BTreeMap::new(),
        };
        for setting in SETTINGS {
            match setting.kind {
                Kind::Int | Kind::Long => drop(values.whole(setting.name, i64::MIN)?),
                Kind::Boolean if !matches!(values.text(setting.name), "true" | "false") => {
                    return Err(values.refuse(setting.name, "only true or false"));
                }
                Kind::Boolean | Kind::Text | Kind::Double | Kind::List => {}
            }
        }
        Ok(TopicConfig {
            overrides,
            ..config
        })
    }

    /// The value in force, as text.
    pub fn value<'a>(&'a self, setting: &'a Setting, message_max_bytes: usize) -> String {
        match self.overrides.get(setting.name) {
            Some(value) => value.clone(),
            None if setting.name == "max.message.bytes" => message_max_bytes.to_string(),
            None => setting.default.to_owned(),
        }
    }
}

/// The setting of a name.
pub fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

struct Values<'a> {
    overrides: &'a BTreeMap<String, String>,
}

impl<'a> Values<'a> {
    fn text(&self, name: &str) -> &'a str {
        let default = find(name).map_or("", |setting| setting.default);
        self.overrides.get(name).map_or(default, String::as_str)
    }

    fn refuse(&self, name: &str, why: &'static str) -> ConfigError {
        ConfigError::Value {
            name: name.to_owned(),
            value: self.text(name).to_owned(),
            why,
        }
    }

    fn whole(&self, name: &str, least: i64) -> Result<i64, ConfigError> {
        match self.text(name).trim().parse::<i64>() {
            Ok(value) if value >= least => Ok(value),
            Ok(_) => Err(self.refuse(name, "too small")),
            Err(_) => Err(self.refuse(name, "not a whole number")),
        }
    }

    fn ratio(&self, name: &str) -> Result<f64, ConfigError> {
        match self.text(name).trim().parse::<f64>() {
            Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
            _ => Err(self.refuse(name, "not a number from 0 to 1")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Result<TopicConfig, ConfigError> {
        let overrides = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        TopicConfig::new(overrides, 1_048_588)
    }

    #[test]
    fn defaults_are_kafkas() {
        let config = config(&[]).expect("valid");
        assert!(config.delete && !config.compact);
        assert_eq!(config.retention_ms, Some(604_800_000));
        assert_eq!(config.retention_bytes, None);
        assert_eq!(config.max_message_bytes, 1_048_588);
    }

    #[test]
    fn wrong_settings_are_refused_by_name() {
        assert_eq!(
            config(&[("retention", "1")]),
            Err(ConfigError::Unknown("retention".into()))
        );
        for (name, value) in [
            ("cleanup.policy", "shrink"),
            ("retention.ms", "soon"),
            ("segment.bytes", "0"),
            ("min.cleanable.dirty.ratio", "1.5"),
            ("message.timestamp.type", "LogAppendTime"),
            ("preallocate", "maybe"),
        ] {
            let error = config(&[(name, value)]).expect_err(name);
            assert!(
                error.to_string().starts_with(&format!("{name} = {value}")),
                "{error}"
            );
        }
    }
}
