//! How the gates judge, as it is said on the command line.

use std::path::PathBuf;

use super::judged;
use crate::cli::UsageError;
use crate::rollout::measure::GateSettings;

/// Settings of the gates.
#[derive(Debug, clap::Args)]
pub struct Gates {
    /// Folder of a judged set in BEIR's layout: `queries.jsonl`, `qrels/test.tsv`.
    #[arg(long, value_name = "DIR")]
    judged: Option<PathBuf>,
    /// By how much nDCG@10 may fall.
    #[arg(long, value_name = "N", default_value_t = GateSettings::default().epsilon)]
    epsilon: f64,
    /// How many times as long a search may take, at the 95th percentile.
    #[arg(long, value_name = "N", default_value_t = GateSettings::default().latency_factor)]
    latency_factor: f64,
    /// Documents that are compared word by word, and at most as many queries that are timed.
    #[arg(long, value_name = "N", default_value_t = GateSettings::default().sample)]
    sample: usize,
    /// Documents may have another text than in the old generation: what reads them is another now.
    #[arg(long)]
    text_may_change: bool,
}

impl Gates {
    /// # Errors
    /// A number that can't work, or a judged set that can't be read.
    pub fn settings(&self) -> anyhow::Result<GateSettings> {
        for (flag, value) in [
            ("--epsilon", self.epsilon),
            ("--latency-factor", self.latency_factor),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(UsageError(format!("{flag} {value} is not 0 or more")).into());
            }
        }
        Ok(GateSettings {
            judged: self.judged.as_deref().map(judged::read).transpose()?,
            epsilon: self.epsilon,
            latency_factor: self.latency_factor,
            sample: self.sample,
            text_may_change: self.text_may_change,
        })
    }
}
