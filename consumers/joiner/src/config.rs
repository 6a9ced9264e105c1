//! Settings of the joiner, with units and defaults, and the rules they must keep.

use serde::{Deserialize, Serialize};

/// Settings of the joiner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JoinerConfig {
    /// How long a behavior event waits for its item's signal, ms of event time. Default: 600,000.
    pub grace_ms: i64,
    /// After how long without behavior a partition's watermark goes on with the clock, ms of wall
    /// time. Default: 30,000.
    pub idle_ms: u64,
    /// How far an event's time may be ahead of its record's timestamp, ms: beyond it is a dead
    /// letter, since a bad clock must not move the watermark. Default: 300,000.
    pub max_skew_ms: i64,
    /// How long an event id is remembered, hours of event time after the event or the watermark at
    /// which it came, whichever is later. Default: 168.
    pub deduplication_hours: i64,
    /// The model whose signals are joined, where an item has signals of several. Default: the one
    /// that the process itself loads; without one, the signal with the greatest document version.
    pub model_version: Option<String>,
    /// Most records that one write to the state covers. Default: 2,000.
    pub batch_records: usize,
    /// Most bytes of records that one write to the state covers. Default: 4 MiB.
    pub batch_bytes: usize,
    /// Items of each partition kept in memory. Default: 4,096.
    pub cached_items: usize,
}

impl Default for JoinerConfig {
    fn default() -> Self {
        Self {
            grace_ms: 600_000,
            idle_ms: 30_000,
            max_skew_ms: 300_000,
            deduplication_hours: 168,
            model_version: None,
            batch_records: 2_000,
            batch_bytes: 4 << 20,
            cached_items: 4_096,
        }
    }
}

/// A setting that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("joiner.{setting} is {found}; {rule}")]
pub struct InvalidConfig {
    /// Name of the setting.
    pub setting: &'static str,
    /// Its value.
    pub found: i64,
    /// What it must be.
    pub rule: &'static str,
}

/// A year: beyond it sums of times could leave what a time can be.
const LONGEST_MS: i64 = 366 * 24 * 3_600_000;

impl JoinerConfig {
    /// Checks every rule that the types do not keep.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let within = |setting, found: i64, least: i64, most: i64, rule| {
            if (least..=most).contains(&found) {
                Ok(())
            } else {
                Err(InvalidConfig {
                    setting,
                    found,
                    rule,
                })
            }
        };
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let year = "it must be from 0 to a year (31622400000)";
        within("grace_ms", self.grace_ms, 0, LONGEST_MS, year)?;
        within("max_skew_ms", self.max_skew_ms, 0, LONGEST_MS, year)?;
        within(
            "idle_ms",
            i64::try_from(self.idle_ms).unwrap_or(i64::MAX),
            1,
            LONGEST_MS,
            "it must be from 1 to a year (31622400000)",
        )?;
        within(
            "deduplication_hours",
            self.deduplication_hours,
            self.grace_ms / 3_600_000 + 1,
            LONGEST_MS / 3_600_000,
            "it must be longer than joiner.grace_ms, or an event that waits would be forgotten, and at most a year",
        )?;
        let batch = "it must be from 1 to 100000";
        within(
            "batch_records",
            count(self.batch_records),
            1,
            100_000,
            batch,
        )?;
        within(
            "batch_bytes",
            count(self.batch_bytes),
            1,
            1 << 30,
            "it must be from 1 to 1073741824",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_a_broken_rule_names_its_setting() {
        assert_eq!(JoinerConfig::default().validate(), Ok(()));
        let config = JoinerConfig {
            deduplication_hours: 0,
            ..JoinerConfig::default()
        };
        let error = config.validate().unwrap_err().to_string();
        assert!(error.contains("joiner.deduplication_hours is 0"), "{error}");
    }
}
