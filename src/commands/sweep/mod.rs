//! `millrace sweep`: which weights of text and vectors are best, offline.
//!
//! ```text
//! judged queries ──► each weight, searched ──► nDCG of each query ──┐
//!                                                                   ├──► intervals, paired with the
//! [training] ──► answers whose weights were drawn ──► SNIPS ────────┘    weights in force ──► recommendation
//! ```
//!
//! What was measured on judged queries is kept beside the instances' configurations: whoever sets weights
//! is answered with it.

mod impressions;
mod judged;
mod page;
mod recommendation;
mod weight;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

use self::page::Page;
use self::weight::{Step, Weight, WeightSpan};
use super::eval::judged::JudgedArgs;
use crate::cli::UsageError;
use crate::config::Config;
use crate::output::{Output, refuse_existing};
use crate::stack::recommending::RANKERS;
use crate::when::Moment;

/// Try weights of BM25 against vectors, on judged queries or on logged answers, and recommend one.
///
/// Judged queries (--corpus, --queries, --qrels, as `eval retrieval` takes them) are searched with each
/// weight. --from-impressions searches nothing: it estimates from answers whose weights were drawn by
/// chance what each weight would bring, and gives no verdict (exit code 1) where too few were.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "millrace sweep --corpus <FILE> --queries <FILE> --qrels <FILE> [OPTIONS]\n       \
                      millrace sweep --from-impressions [OPTIONS]"
)]
pub struct Args {
    #[command(flatten)]
    judged: Option<JudgedArgs>,
    /// Estimate from the topic `training` instead: answers of recommenders that draw weights
    /// (recommender.exploration), and the clicks on them.
    #[arg(long, conflicts_with_all = ["corpus", "queries", "qrels", "rrf", "by_query"])]
    from_impressions: bool,
    /// The first answers, an RFC 3339 time, a day, or how long ago, such as 7d. Default: the oldest there are.
    #[arg(long, value_name = "TIME")]
    from: Option<Moment>,
    /// The time after the last answers. Default: now.
    #[arg(long, value_name = "TIME")]
    to: Option<Moment>,
    /// The first and the last weight of BM25 to try. Default: 0..1, of --from-impressions those that
    /// recommender.exploration.bm25_weights has.
    #[arg(long, value_name = "FROM..TO", allow_hyphen_values = true)]
    bm25: Option<WeightSpan>,
    /// How far the weights are apart that are tried. Default: 0.1.
    #[arg(long, value_name = "WEIGHT", allow_negative_numbers = true)]
    step: Option<Step>,
    /// Try reciprocal rank fusion beside them.
    #[arg(long)]
    rrf: bool,
    /// Also tell which weight is best for each query and how far one could come who knew, and what a
    /// weight for each kind of query (by its length, digits, quotes) would be worth.
    #[arg(long)]
    by_query: bool,
    /// Whose weights are in force. Default: airec.instance, or `default`.
    #[arg(long, value_name = "ID")]
    instance: Option<String>,
    /// Also write a report with a plot to this HTML file.
    #[arg(short = 'o', long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Replace the report's file where it is there.
    #[arg(long, requires = "report")]
    force: bool,
}

pub async fn run(args: Args, config: Config, output: Output) -> anyhow::Result<ExitCode> {
    if let Some(path) = &args.report {
        refuse_existing(path, args.force)?;
    }
    // Not left to the parser: it waives what an argument requires where that conflicts with another.
    if !args.from_impressions && (args.from.is_some() || args.to.is_some()) {
        let refusal = "--from and --to choose logged answers: they need --from-impressions";
        return Err(UsageError(refusal.to_owned()).into());
    }
    let in_force = InForce::of(&args, &config)?;
    if args.from_impressions {
        return impressions::run(&args, &in_force, &config, output).await;
    }
    let Some(judged) = &args.judged else {
        let refusal = "say on what: --corpus, --queries and --qrels, or --from-impressions";
        return Err(UsageError(refusal.to_owned()).into());
    };
    judged::run(&args, judged, &in_force, &config, output).await
}

/// What others are compared with.
struct InForce {
    instance: String,
    weight: Weight,
}

impl InForce {
    /// Of the instance, as the data folder has it; else what instances start with.
    fn of(args: &Args, config: &Config) -> anyhow::Result<Self> {
        let named = args.instance.as_ref().or(config.airec.instance.as_ref());
        let instance = named.map_or("default", String::as_str);
        if !config.airec.serves(instance) {
            let refusal =
                format!("the instance {instance:?} is not served here; see airec.instance");
            return Err(UsageError(refusal).into());
        }
        let saved = millrace_recommender::saved_config(&config.data_dir.join(RANKERS), instance)?;
        let weights = saved.unwrap_or_else(|| config.recommender.instance.clone());
        let bm25_weight = weights.hybrid_ranking.bm25_weight;
        let weight = Weight::nearest(bm25_weight)
            .with_context(|| format!("the weight in force, {bm25_weight}, is none"))?;
        Ok(Self {
            instance: instance.to_owned(),
            weight,
        })
    }
}

fn write_page(path: &Path, page: &Page<'_>) -> anyhow::Result<()> {
    std::fs::write(path, page.html()).with_context(|| format!("can't write {}", path.display()))
}

/// An interval for people.
fn interval([low, high]: [f64; 2]) -> String {
    format!("[{low:.4}, {high:.4}]")
}

/// A weight as a table names it.
fn named(weight: Weight, in_force: &InForce) -> String {
    if weight == in_force.weight {
        format!("{weight} (in force)")
    } else {
        weight.to_string()
    }
}
