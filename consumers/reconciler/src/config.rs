//! `[reconciler]`: what is compared when, and when tombstones go.

use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer};

/// When nothing else is configured and somebody runs the role.
pub const DEFAULT_EVERY: Duration = Duration::from_secs(6 * 3600);

/// The role `reconciler`, also inside `up`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReconcilerConfig {
    /// Time between two comparisons, such as `"6h"` or `"90m"`; default none: `up` compares only
    /// watched folders when it starts, and `run reconciler` every six hours.
    #[serde(deserialize_with = "optional_duration")]
    pub every: Option<Duration>,
    /// What is compared: folders, `oss://bucket[/prefix]`, `s3://bucket[/prefix]`. Default none:
    /// all that may be read.
    pub uris: Vec<String>,
    /// Whether differences are repaired; default false: they are counted and logged.
    pub repair: bool,
    /// Removals are withheld when they would take more than this share of the documents that the
    /// index holds, in percent; default 50.
    pub max_delete_percent: u8,
    /// When tombstones go.
    pub sweep: SweepConfig,
}

/// The sweep of tombstones.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SweepConfig {
    /// Time between two sweeps; default 24 h.
    #[serde(deserialize_with = "duration")]
    pub every: Duration,
    /// Age at which a tombstone goes; default none: the longest replay horizon, which is the
    /// longest retention of the topics that notices can be replayed from.
    #[serde(deserialize_with = "optional_duration")]
    pub horizon: Option<Duration>,
}

impl Default for ReconcilerConfig {
    fn default() -> Self {
        Self {
            every: None,
            uris: Vec::new(),
            repair: false,
            max_delete_percent: 50,
            sweep: SweepConfig::default(),
        }
    }
}

impl Default for SweepConfig {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(24 * 3600),
            horizon: None,
        }
    }
}

impl ReconcilerConfig {
    /// # Errors
    /// What is wrong, in words.
    pub fn validate(&self) -> Result<(), &'static str> {
        if self.max_delete_percent > 100 {
            return Err("reconciler.max_delete_percent is more than 100");
        }
        if self.every.is_some_and(|every| every.is_zero()) || self.sweep.every.is_zero() {
            return Err("reconciler.every and reconciler.sweep.every must be more than nothing");
        }
        Ok(())
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

fn optional_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| parse(&text))
        .transpose()
        .map_err(serde::de::Error::custom)
}

/// Hours are the largest unit: a day is not always 24 of them.
fn parse(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<SignedDuration>().ok();
    parsed
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| format!("{text:?} is no duration; write \"6h\", \"90m\" or \"30s\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_people_do() {
        assert_eq!(parse("6h"), Ok(Duration::from_secs(21_600)));
        assert_eq!(parse("1h 30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        for wrong in ["", "6", "soon", "-6h"] {
            assert!(parse(wrong).unwrap_err().contains("6h"), "{wrong}");
        }
    }
}
