//! Settings of the labeler, with units and defaults, and the rules they must keep.

use serde::{Deserialize, Serialize};

/// Settings of the consumer that joins answers with clicks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LabelerConfig {
    /// How long after an answer a click on it counts, ms of event time. Default: 1,800,000.
    pub window_ms: i64,
    /// How long after its window an answer is remembered, so that a click that comes late corrects its
    /// record, hours of event time. Default: 24.
    pub correction_hours: i64,
    /// After how long without answers, or without clicks, their watermark goes on with the clock, ms of
    /// wall time. Default: 30,000.
    pub idle_ms: u64,
    /// How far an answer's or click's time may be ahead of its record's timestamp, ms: beyond it is a
    /// dead letter, since a bad clock must not move the watermark. Default: 300,000.
    pub max_skew_ms: i64,
    /// Most records that one write to the state covers. Default: 1,000.
    pub batch_records: usize,
    /// Most bytes of records that one write to the state covers. Default: 4 MiB.
    pub batch_bytes: usize,
}

impl Default for LabelerConfig {
    fn default() -> Self {
        Self {
            window_ms: 1_800_000,
            correction_hours: 24,
            idle_ms: 30_000,
            max_skew_ms: 300_000,
            batch_records: 1_000,
            batch_bytes: 4 << 20,
        }
    }
}

/// A setting that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("labeler.{setting} is {found}; it must be from {least} to {most}")]
pub struct InvalidConfig {
    /// Name of the setting.
    pub setting: &'static str,
    /// Its value.
    pub found: i64,
    /// What it must not be below.
    pub least: i64,
    /// What it must not be above.
    pub most: i64,
}

/// A year: beyond it sums of times could leave what a time can be.
const LONGEST_MS: i64 = 366 * 24 * 3_600_000;

impl LabelerConfig {
    /// Checks every rule that the types do not keep.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let number = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let idle_ms = i64::try_from(self.idle_ms).unwrap_or(i64::MAX);
        let rules = [
            ("window_ms", self.window_ms, 1, LONGEST_MS),
            ("correction_hours", self.correction_hours, 0, 8_784),
            ("idle_ms", idle_ms, 1, LONGEST_MS),
            ("max_skew_ms", self.max_skew_ms, 0, LONGEST_MS),
            ("batch_records", number(self.batch_records), 1, 100_000),
            ("batch_bytes", number(self.batch_bytes), 1, 1 << 30),
        ];
        for (setting, found, least, most) in rules {
            if !(least..=most).contains(&found) {
                return Err(InvalidConfig {
                    setting,
                    found,
                    least,
                    most,
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_a_broken_rule_names_its_setting() {
        assert_eq!(LabelerConfig::default().validate(), Ok(()));
        let config = LabelerConfig {
            window_ms: 0,
            ..LabelerConfig::default()
        };
        let error = config.validate().unwrap_err().to_string();
        assert!(error.contains("labeler.window_ms is 0"), "{error}");
    }
}
