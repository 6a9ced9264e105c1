//! `[recommender]`: scenes choose pipelines, pipelines say how a list is made.
//!
//! ```toml
//! [recommender.scenes.home]
//! experiment = "more-text"
//! rules = { max_age_hours = 720, exclude_categories = ["internal"] }
//!
//! [recommender.experiments.more-text]
//! buckets = [{ name = "control", pipeline = "default", share = 0.9 },
//!            { name = "text", pipeline = "texty", share = 0.1 }]
//!
//! [recommender.pipelines.texty]
//! sources = { text = { limit = 200 }, trending = {} }
//! ```
//!
//! A scene and a pipeline named `default` are always there, and may be declared otherwise.

mod instance;
mod pipeline;
mod query_kind;
mod scene;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use instance::{ConfigChange, HybridRanking, InstanceConfig, InvalidInstanceConfig};
pub use pipeline::{PipelineConfig, RankerChoice, SourceConfig};
pub use query_kind::QueryKind;
pub use scene::{BucketConfig, ExperimentConfig, Rules, SceneConfig};

/// Name of the scene and the pipeline that are always there.
pub const DEFAULT_NAME: &str = "default";

/// Settings of the recommender.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecommenderConfig {
    /// The scene of requests that name none. Default: `default`.
    pub default_scene: String,
    /// Places in the caller's product, by name.
    pub scenes: BTreeMap<String, SceneConfig>,
    /// Ways to make a list, by name.
    pub pipelines: BTreeMap<String, PipelineConfig>,
    /// Which users get which pipeline, by name.
    pub experiments: BTreeMap<String, ExperimentConfig>,
    /// What requests may ask for.
    pub limits: LimitsConfig,
    /// What an instance starts with; `PUT …/config` changes it.
    pub instance: InstanceConfig,
    /// Items in memory.
    pub catalog: CatalogConfig,
    /// What is shown in order to learn.
    pub exploration: ExplorationConfig,
    /// Weights of features before a model is deployed, by feature; empty for those that come with
    /// the features. Below 0 small values are better. Default: empty.
    pub weights: BTreeMap<String, f64>,
    /// Impressions that wait for the brokers; further ones are dropped and counted. Default: 4,096.
    pub queued_impressions: usize,
}

/// What requests may ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Most items of an answer. Default: 200.
    pub max_count: usize,
    /// Most candidates of a rerank. Default: 1,000.
    pub max_candidates: usize,
    /// How long the profile is waited for, ms. Default: 50.
    pub profile_timeout_ms: u64,
}

/// Items in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CatalogConfig {
    /// Most bytes of signals and counters; beyond it the oldest items are left out, and counted.
    /// An item of 384 dimensions takes some 3 KB. Default: 2 GiB.
    pub max_bytes: usize,
    /// Most bytes of users' fields, where features read them; users that come beyond it have none.
    /// Default: 512 MiB.
    pub max_user_bytes: usize,
    /// Up to so many items vectors are compared in memory; beyond it the index is asked.
    /// Default: 50,000.
    pub scan_items: usize,
}

/// What is shown in order to learn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExplorationConfig {
    /// Fewer impressions than this make an item cold. Default: 20.
    pub cold_impressions: u64,
    /// Most cold items among which one is drawn. Default: 30.
    pub cold_items: usize,
    /// Clicks that an item is credited with at first. Default: 1.
    pub prior_clicks: f64,
    /// Impressions that an item is credited with at first. Default: 10.
    pub prior_impressions: f64,
    /// Draws that estimate a propensity. Default: 200.
    pub draws: u32,
    /// Least propensity that is logged. Default: 0.01.
    pub floor: f64,
    /// Share of requests whose hybrid weights are drawn, 0 to 0.05. Default: 0.03.
    pub weight_share: f64,
    /// Weights of BM25 that are drawn from, each as likely. Default: 0, 0.1, 0.3, 0.5, 0.7, 1.
    pub bm25_weights: Vec<f32>,
}

impl Default for RecommenderConfig {
    fn default() -> Self {
        Self {
            default_scene: DEFAULT_NAME.to_owned(),
            scenes: BTreeMap::from([(DEFAULT_NAME.to_owned(), SceneConfig::default())]),
            pipelines: BTreeMap::from([(DEFAULT_NAME.to_owned(), PipelineConfig::default())]),
            experiments: BTreeMap::new(),
            limits: LimitsConfig::default(),
            instance: InstanceConfig::default(),
            catalog: CatalogConfig::default(),
            exploration: ExplorationConfig::default(),
            weights: BTreeMap::new(),
            queued_impressions: 4_096,
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            max_count: 200,
            max_candidates: 1_000,
            profile_timeout_ms: 50,
        }
    }
}

impl Default for CatalogConfig {
    fn default() -> Self {
        Self {
            max_bytes: 2 << 30,
            max_user_bytes: 512 << 20,
            scan_items: 50_000,
        }
    }
}

impl Default for ExplorationConfig {
    fn default() -> Self {
        Self {
            cold_impressions: 20,
            cold_items: 30,
            prior_clicks: 1.0,
            prior_impressions: 10.0,
            draws: 200,
            floor: 0.01,
            weight_share: 0.03,
            bm25_weights: vec![0.0, 0.1, 0.3, 0.5, 0.7, 1.0],
        }
    }
}

/// A setting that cannot work.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("recommender.{setting} {problem}")]
pub struct InvalidConfig {
    /// Path of the setting below `recommender`.
    pub setting: String,
    /// What is wrong with it, and what it may be.
    pub problem: String,
}

fn invalid(setting: impl Into<String>, problem: impl Into<String>) -> InvalidConfig {
    InvalidConfig {
        setting: setting.into(),
        problem: problem.into(),
    }
}

impl RecommenderConfig {
    /// Checks every rule that the types do not keep, names that lead nowhere among them.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        self.limits.validate()?;
        if self.scene(&self.default_scene).is_none() {
            let problem = format!(
                "is `{}`, which is no scene; declared: {}",
                self.default_scene,
                self.scene_names()
            );
            return Err(invalid("default_scene", problem));
        }
        for (name, scene) in &self.scenes {
            scene.validate(&format!("scenes.{name}"), self)?;
        }
        for (name, pipeline) in &self.pipelines {
            pipeline.validate(&format!("pipelines.{name}"))?;
        }
        for (name, experiment) in &self.experiments {
            experiment.validate(&format!("experiments.{name}"), self)?;
        }
        self.instance
            .validate()
            .map_err(|error| invalid("instance", error.to_string()))?;
        self.exploration.validate()?;
        if self.catalog.max_bytes < 1 << 20 {
            return Err(invalid("catalog.max_bytes", "is less than 1 MiB"));
        }
        if self.queued_impressions == 0 {
            return Err(invalid("queued_impressions", "is 0; give 1 or more"));
        }
        for (feature, weight) in &self.weights {
            if !weight.is_finite() {
                let problem = format!("is {weight}, not a finite number");
                return Err(invalid(format!("weights.{feature}"), problem));
            }
        }
        Ok(())
    }

    /// The scene of this name; `default` is always there.
    pub(crate) fn scene(&self, name: &str) -> Option<SceneConfig> {
        let built_in = || (name == DEFAULT_NAME).then(SceneConfig::default);
        self.scenes.get(name).cloned().or_else(built_in)
    }

    /// The pipeline of this name; `default` is always there.
    pub(crate) fn pipeline(&self, name: &str) -> Option<PipelineConfig> {
        let built_in = || (name == DEFAULT_NAME).then(PipelineConfig::default);
        self.pipelines.get(name).cloned().or_else(built_in)
    }

    /// The scenes that there are, for messages.
    pub(crate) fn scene_names(&self) -> String {
        names(&self.scenes)
    }

    /// The pipelines that there are, for messages.
    fn pipeline_names(&self) -> String {
        names(&self.pipelines)
    }
}

fn names<T>(declared: &BTreeMap<String, T>) -> String {
    let mut names: Vec<&str> = declared.keys().map(String::as_str).collect();
    if !declared.contains_key(DEFAULT_NAME) {
        names.push(DEFAULT_NAME);
    }
    names.join(", ")
}

impl LimitsConfig {
    fn validate(&self) -> Result<(), InvalidConfig> {
        for (setting, found) in [
            ("limits.max_count", self.max_count),
            ("limits.max_candidates", self.max_candidates),
        ] {
            if !(1..=10_000).contains(&found) {
                return Err(invalid(setting, format!("is {found}; give 1 to 10000")));
            }
        }
        Ok(())
    }
}

impl ExplorationConfig {
    fn validate(&self) -> Result<(), InvalidConfig> {
        let setting = |name: &str| format!("exploration.{name}");
        if !(0.0..=0.05).contains(&self.weight_share) {
            let problem = format!("is {}; give 0 (never) to 0.05", self.weight_share);
            return Err(invalid(setting("weight_share"), problem));
        }
        if self.weight_share > 0.0 && self.bm25_weights.is_empty() {
            let problem = "is empty; give weights, or a weight_share of 0";
            return Err(invalid(setting("bm25_weights"), problem));
        }
        for weight in &self.bm25_weights {
            if !(0.0..=1.0).contains(weight) {
                let problem = format!("holds {weight}; give weights from 0 to 1");
                return Err(invalid(setting("bm25_weights"), problem));
            }
        }
        let exploration = millrace_ranker::Exploration {
            prior_clicks: self.prior_clicks,
            prior_impressions: self.prior_impressions,
            draws: self.draws,
            floor: self.floor,
        };
        // The rules are the ranker's own; nothing is drawn for an empty list.
        exploration
            .choose("", &[], 0)
            .map(|_| ())
            .map_err(|error| invalid("exploration", format!("can't work: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> RecommenderConfig {
        toml::from_str(text).unwrap()
    }

    fn complaint(text: &str) -> String {
        parse(text).validate().unwrap_err().to_string()
    }

    #[test]
    fn nothing_said_is_valid_and_default_is_always_there() {
        assert_eq!(parse(""), RecommenderConfig::default());
        assert_eq!(parse("").validate(), Ok(()));
        let config = parse(
            r#"
            default_scene = "home"
            [scenes.home]
            experiment = "e"
            rules = { max_age_hours = 720.0, exclude_categories = ["internal"] }
            [experiments.e]
            buckets = [{ name = "a", pipeline = "default", share = 0.9 }, { name = "b", pipeline = "t", share = 0.1 }]
            [pipelines.t]
            sources = { text = { limit = 200 }, trending = {} }
            "#,
        );
        assert_eq!(config.validate(), Ok(()));
        assert!(config.scene("default").is_some() && config.pipeline("default").is_some());
        assert_eq!(config.scene("other"), None);
        assert_eq!(config.pipeline("t").unwrap().sources.len(), 2);
        assert_eq!(config.scene_names(), "home, default");
    }

    #[test]
    fn names_that_lead_nowhere_are_refused() {
        assert_eq!(
            complaint("default_scene = 'x'"),
            "recommender.default_scene is `x`, which is no scene; declared: default"
        );
        assert_eq!(
            complaint("scenes.home.pipeline = 'x'"),
            "recommender.scenes.home.pipeline is `x`, which is no pipeline; declared: default"
        );
        assert_eq!(
            complaint("scenes.home.experiment = 'x'"),
            "recommender.scenes.home.experiment is `x`, which is no experiment; declared: none"
        );
        let bucket = "experiments.e.buckets = [{ name = 'a', pipeline = 'x', share = 1.0 }]";
        assert!(complaint(bucket).contains("experiments.e.buckets"));
    }

    #[test]
    fn values_without_sense_are_refused() {
        for (text, expected) in [
            ("exploration.weight_share = 0.5", "weight_share is 0.5"),
            ("exploration.bm25_weights = [2.0]", "holds 2"),
            ("exploration.bm25_weights = []", "bm25_weights is empty"),
            ("exploration.floor = 0.0", "floor"),
            ("limits.max_count = 0", "limits.max_count is 0"),
            ("catalog.max_bytes = 1", "catalog.max_bytes"),
            ("queued_impressions = 0", "queued_impressions"),
            ("weights.ctr = nan", "weights.ctr is NaN"),
            (
                "instance.hybrid_ranking = { bm25_weight = 0.5, vector_weight = 0.6 }",
                "sum to 1",
            ),
            ("pipelines.p.sources = {}", "pipelines.p.sources is empty"),
            ("pipelines.p.sources.text.limit = 0", "limit is 0"),
            (
                "pipelines.p.sources.candidates = {}",
                "no source of a pipeline",
            ),
            (
                "pipelines.p.diversity_lambda = 1.5",
                "diversity_lambda is 1.5",
            ),
            ("scenes.s.count = 0", "scenes.s.count is 0"),
            ("scenes.s.rules.max_age_hours = -1.0", "max_age_hours is -1"),
            (
                "experiments.e.buckets = [{ name = 'a', pipeline = 'default', share = 0.5 }]",
                "sum to 0.5",
            ),
        ] {
            let complaint = complaint(text);
            assert!(complaint.contains(expected), "{text}: {complaint}");
        }
        let misspelt = toml::from_str::<RecommenderConfig>("limits.max_cuont = 1").unwrap_err();
        assert!(misspelt.to_string().contains("max_cuont"));
    }
}
