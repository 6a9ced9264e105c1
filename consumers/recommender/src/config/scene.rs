//! Places in the caller's product: what may be shown there, and who gets which pipeline.

use millrace_index::Filter;
use serde::{Deserialize, Serialize};

use super::{DEFAULT_NAME, InvalidConfig, RecommenderConfig, invalid};

/// A place in the caller's product.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SceneConfig {
    /// The pipeline of all users that no experiment takes. Default: `default`.
    pub pipeline: String,
    /// The experiment whose buckets choose the pipeline instead. Default: none.
    pub experiment: Option<String>,
    /// Items of an answer where the request does not say. Default: 10.
    pub count: usize,
    /// What may be shown here.
    pub rules: Rules,
}

/// What may be shown in a scene.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// Leave out what the user has seen: what they acted on, and what was shown to them often.
    /// Default: true.
    pub exclude_seen: bool,
    /// How often an item is shown before it counts as seen. Default: 3.
    pub seen_after: u32,
    /// Leave out what was published longer ago, hours; items that do not say when pass. Default: none.
    pub max_age_hours: Option<f64>,
    /// Leave out items in any of these categories. Default: none.
    pub exclude_categories: Vec<String>,
    /// Leave out items with any of these tags. Default: none.
    pub exclude_tags: Vec<String>,
    /// What items must have, as a search's filter says it. Default: nothing.
    pub filter: Filter,
}

/// Which users get which pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExperimentConfig {
    /// Its buckets, whose shares sum to 1. A user stays in one bucket while names and shares stay.
    pub buckets: Vec<BucketConfig>,
}

/// A part of the users.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BucketConfig {
    /// Its name, for impressions.
    pub name: String,
    /// The pipeline it gets.
    pub pipeline: String,
    /// Its share of the users, 0 to 1.
    pub share: f64,
}

impl Default for SceneConfig {
    fn default() -> Self {
        Self {
            pipeline: DEFAULT_NAME.to_owned(),
            experiment: None,
            count: 10,
            rules: Rules::default(),
        }
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            exclude_seen: true,
            seen_after: 3,
            max_age_hours: None,
            exclude_categories: Vec::new(),
            exclude_tags: Vec::new(),
            filter: Filter::default(),
        }
    }
}

impl SceneConfig {
    pub(super) fn validate(
        &self,
        path: &str,
        config: &RecommenderConfig,
    ) -> Result<(), InvalidConfig> {
        check_pipeline(&format!("{path}.pipeline"), &self.pipeline, config)?;
        if let Some(name) = &self.experiment
            && !config.experiments.contains_key(name)
        {
            let declared: Vec<&str> = config.experiments.keys().map(String::as_str).collect();
            let declared = match declared.as_slice() {
                [] => "none".to_owned(),
                names => names.join(", "),
            };
            let problem = format!("is `{name}`, which is no experiment; declared: {declared}");
            return Err(invalid(format!("{path}.experiment"), problem));
        }
        let max = config.limits.max_count;
        if self.count == 0 || self.count > max {
            let problem = format!("is {}; give 1 to limits.max_count, {max}", self.count);
            return Err(invalid(format!("{path}.count"), problem));
        }
        if self.rules.seen_after == 0 {
            let problem = "is 0, so that everything would count as seen; give 1 or more";
            return Err(invalid(format!("{path}.rules.seen_after"), problem));
        }
        match self.rules.max_age_hours {
            Some(hours) if !hours.is_finite() || hours <= 0.0 => Err(invalid(
                format!("{path}.rules.max_age_hours"),
                format!("is {hours}; give more than 0, or leave it out"),
            )),
            _ => Ok(()),
        }
    }
}

impl ExperimentConfig {
    pub(super) fn validate(
        &self,
        path: &str,
        config: &RecommenderConfig,
    ) -> Result<(), InvalidConfig> {
        let path = format!("{path}.buckets");
        for bucket in &self.buckets {
            check_pipeline(&path, &bucket.pipeline, config)?;
            if !(0.0..=1.0).contains(&bucket.share) {
                let problem = format!("gives `{}` the share {}", bucket.name, bucket.share);
                return Err(invalid(path, problem));
            }
            if self
                .buckets
                .iter()
                .filter(|b| b.name == bucket.name)
                .count()
                > 1
            {
                return Err(invalid(path, format!("names `{}` twice", bucket.name)));
            }
        }
        let sum: f64 = self.buckets.iter().map(|bucket| bucket.share).sum();
        if (sum - 1.0).abs() > 1e-6 {
            let problem = format!("has shares that sum to {sum}; they must sum to 1");
            return Err(invalid(path, problem));
        }
        Ok(())
    }
}

fn check_pipeline(path: &str, name: &str, config: &RecommenderConfig) -> Result<(), InvalidConfig> {
    if config.pipeline(name).is_some() {
        return Ok(());
    }
    let problem = format!(
        "is `{name}`, which is no pipeline; declared: {}",
        config.pipeline_names()
    );
    Err(invalid(path, problem))
}
