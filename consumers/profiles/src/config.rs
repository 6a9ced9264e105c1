//! Settings of the consumer, with units and defaults, and the rules they must keep.

use millrace_features::{Field, ProfileSettings};
use serde::{Deserialize, Serialize};

/// Settings of the consumer that keeps profiles. Half-lives are not among them: a model is trained
/// on what they make, so they are the features' own (`millrace-features`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProfilesConfig {
    /// Items of a profile kept with weights, the heaviest ones: what its vectors can be made anew
    /// from in another model's space. Default: 500.
    pub heaviest_items: usize,
    /// Values kept of each field, the heaviest ones. Default: 400.
    pub values_of_a_field: usize,
    /// Items known to have been seen, the latest ones. Default: 2,000.
    pub seen_items: usize,
    /// How long an origin is remembered, hours of the records' time: what `behavior.by-item` keeps
    /// must not be applied again where a joiner reads it again. Default: 168.
    pub deduplication_hours: i64,
    /// Most records that one write to the state covers; each may write a profile of some 50 KB.
    /// Default: 256.
    pub batch_records: usize,
    /// Most bytes of records that one write to the state covers. Default: 4 MiB.
    pub batch_bytes: usize,
    /// Profiles of each partition kept in memory. Default: 256.
    pub cached_users: usize,
}

impl Default for ProfilesConfig {
    fn default() -> Self {
        Self {
            heaviest_items: 500,
            values_of_a_field: 400,
            seen_items: 2_000,
            deduplication_hours: 168,
            batch_records: 256,
            batch_bytes: 4 << 20,
            cached_users: 256,
        }
    }
}

/// A setting that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("profiles.{setting} is {found}; it must be from {least} to {most}")]
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

impl ProfilesConfig {
    /// Checks every rule that the types do not keep.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        for (setting, found, least, most) in [
            ("heaviest_items", count(self.heaviest_items), 1, 10_000),
            (
                "values_of_a_field",
                count(self.values_of_a_field),
                1,
                10_000,
            ),
            ("seen_items", count(self.seen_items), 1, 100_000),
            // A year.
            ("deduplication_hours", self.deduplication_hours, 1, 8_784),
            ("batch_records", count(self.batch_records), 1, 100_000),
            ("batch_bytes", count(self.batch_bytes), 1, 1 << 30),
        ] {
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

    /// What is kept of a user, with affinities to values of these fields.
    #[must_use]
    pub fn settings(&self, fields: Vec<Field>) -> ProfileSettings {
        ProfileSettings {
            fields,
            items: self.heaviest_items,
            values: self.values_of_a_field,
            seen: self.seen_items,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_a_broken_rule_names_its_setting() {
        let config = ProfilesConfig::default();
        assert_eq!(config.validate(), Ok(()));
        let features = ProfileSettings::default();
        assert_eq!(config.settings(features.fields.clone()), features);
        let config = ProfilesConfig {
            deduplication_hours: 0,
            ..ProfilesConfig::default()
        };
        let error = config.validate().unwrap_err().to_string();
        assert!(
            error.contains("profiles.deduplication_hours is 0"),
            "{error}"
        );
    }
}
