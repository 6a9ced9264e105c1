//! How a list is made: which sources, which ranker, how varied.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{InvalidConfig, invalid};
use crate::answer::Source;

/// How a list is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PipelineConfig {
    /// Where candidates come from. Default: all six.
    pub sources: BTreeMap<Source, SourceConfig>,
    /// Most candidates that are ranked; of more, those that sources rank highest. Default: 300.
    pub candidates: usize,
    /// What ranks: `deployed` (default) or `weighted`.
    pub ranker: RankerChoice,
    /// How much relevance counts against variety (λ of MMR), 0 to 1; 1 is by score alone.
    /// Default: 0.8.
    pub diversity_lambda: f64,
    /// Whether a tenth of the places is for cold items. Default: true.
    pub explore: bool,
}

/// One source of a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SourceConfig {
    /// Most candidates it gives. Default: 60.
    pub limit: usize,
    /// How long it may take, ms; then the list is made without it. Default: 50.
    pub timeout_ms: u64,
}

/// What ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RankerChoice {
    /// The deployed model, or the weighted default where there is none.
    #[default]
    Deployed,
    /// The weighted default.
    Weighted,
}

impl Default for PipelineConfig {
    fn default() -> Self {
        let source = |source| (source, SourceConfig::default());
        Self {
            sources: Source::RECALL.into_iter().map(source).collect(),
            candidates: 300,
            ranker: RankerChoice::default(),
            diversity_lambda: 0.8,
            explore: true,
        }
    }
}

impl Default for SourceConfig {
    fn default() -> Self {
        Self {
            limit: 60,
            timeout_ms: 50,
        }
    }
}

impl PipelineConfig {
    pub(super) fn validate(&self, path: &str) -> Result<(), InvalidConfig> {
        if self.sources.is_empty() {
            let problem = "is empty; give at least one, or leave it out for all";
            return Err(invalid(format!("{path}.sources"), problem));
        }
        for (source, config) in &self.sources {
            let path = format!("{path}.sources.{}", source.as_str());
            if !Source::RECALL.contains(source) {
                return Err(invalid(path, "is no source of a pipeline"));
            }
            if !(1..=5_000).contains(&config.limit) {
                let problem = format!("is {}; give 1 to 5000", config.limit);
                return Err(invalid(format!("{path}.limit"), problem));
            }
            if config.timeout_ms == 0 {
                return Err(invalid(
                    format!("{path}.timeout_ms"),
                    "is 0; give 1 or more",
                ));
            }
        }
        if !(1..=10_000).contains(&self.candidates) {
            let problem = format!("is {}; give 1 to 10000", self.candidates);
            return Err(invalid(format!("{path}.candidates"), problem));
        }
        if !(0.0..=1.0).contains(&self.diversity_lambda) {
            let problem = format!("is {}; give 0 to 1", self.diversity_lambda);
            return Err(invalid(format!("{path}.diversity_lambda"), problem));
        }
        Ok(())
    }
}
