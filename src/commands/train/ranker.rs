//! `millrace train ranker`: learns from clicks, and keeps what it learnt with how good it is.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use jiff::Timestamp;
use millrace_kafka::HttpSchemaRegistry;
use millrace_ranker::{FeatureSpec, Forest, LambdaMartOptions, LightGbm, Trained};
use millrace_trainer::evaluation::Evaluation;
use millrace_trainer::examples::{self, ExampleCounts};
use millrace_trainer::replay::{BaselineScores, ReplayCounts};
use millrace_trainer::{Ranking, Span, learning};
use serde::Serialize;
use serde_json::json;

use super::super::eval;
use crate::cli::UsageError;
use crate::config::Config;
use crate::output::{Output, table};
use crate::recordings;
use crate::session::TopicsSession;
use crate::stack::model;
use crate::stack::recommending::{self, RANKERS};

/// Train a ranker on what was shown and clicked, and keep it in the data folder, to be deployed.
///
/// The first four fifths by time train, the others judge; the ranker that is kept is the one that was
/// judged. Answers are learnt from once the time in which a click counts for them (`labeler.window_ms`,
/// half an hour) is over; a click that is told later corrects its answer.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Recorded events instead of the topic `training`: Metarank's, as for `eval ranking`.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from", "to"])]
    events: Option<PathBuf>,
    /// The first answers to learn from, an RFC 3339 time. Default: the oldest there are.
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// The time after the last ones. Default: now.
    #[arg(long, value_name = "TIME")]
    to: Option<Timestamp>,
    /// Of the training.
    #[arg(long, default_value_t = 0)]
    seed: u32,
    /// Threads to train on. Another number may change the last bits of a model.
    #[arg(long, default_value_t = 1)]
    threads: u32,
}

#[derive(Debug, Serialize)]
struct Report {
    ranker_version: String,
    feature_version: String,
    file: PathBuf,
    trees: u32,
    trained_on: usize,
    evaluation: Evaluation,
    importance: Vec<ImportanceReport>,
    #[serde(flatten)]
    source: Source,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Source {
    Recording(ReplayCounts),
    Topic(ExampleCounts),
}

/// Rankings to learn from, wherever they come from.
struct Lessons {
    rankings: Vec<Ranking>,
    baselines: Option<Vec<BaselineScores>>,
    features: FeatureSpec,
    source: Source,
}

/// What a feature was worth to the trees.
#[derive(Debug, Serialize)]
pub struct ImportanceReport {
    feature: String,
    gain: f64,
    splits: u64,
}

pub async fn run(args: Args, config: Config, output: Output) -> anyhow::Result<ExitCode> {
    let lessons = match &args.events {
        Some(events) => {
            let files = vec![events.clone()];
            let replayed = recordings::play(&config, files, output).await?.replayed;
            Lessons {
                rankings: replayed.rankings,
                baselines: Some(replayed.baselines),
                features: replayed.features,
                source: Source::Recording(replayed.counts),
            }
        }
        None => from_topic(&args, &config, output).await?,
    };
    let from = learning::time_split(lessons.rankings.len());
    let history = &lessons.rankings[..from];
    let options = options(args.seed, args.threads);
    let trained = learn(history, &lessons.features, options, output).await?;
    let evaluation = Evaluation::of(
        &lessons.rankings,
        lessons.baselines.as_deref(),
        from,
        u64::from(args.seed),
        &mut |_, ranking| scores(&trained.forest, ranking),
    )
    .context("none of the rankings that are to judge the ranker was clicked")?;
    let (trees, importance) = (trained.kept, importance(&trained.forest));
    let model = learning::pack(
        trained,
        lessons.features,
        Timestamp::now().as_millisecond(),
        json!(evaluation),
    )?;
    let file = config
        .data_dir
        .join(RANKERS)
        .join(format!("{}.ranker", model.version()));
    model.save(&file)?;
    let report = Report {
        ranker_version: model.version(),
        feature_version: model.feature_version().to_owned(),
        file,
        trees,
        trained_on: from,
        evaluation,
        importance,
        source: lessons.source,
    };
    output.result(&report, || describe(&report))?;
    Ok(ExitCode::SUCCESS)
}

async fn from_topic(args: &Args, config: &Config, output: Output) -> anyhow::Result<Lessons> {
    let span = Span {
        from_ms: args.from.map_or(0, Timestamp::as_millisecond),
        to_ms: args.to.unwrap_or_else(Timestamp::now).as_millisecond(),
    };
    if span.from_ms >= span.to_ms {
        return Err(UsageError("--from is not before --to: no time is left".to_owned()).into());
    }
    let encoder = model::load(config).await?;
    let features = recommending::features(config, encoder.version())?.spec();
    drop(encoder);
    let session = TopicsSession::attach_or_start(config)?;
    let registry = HttpSchemaRegistry::from_config(&session.kafka)?;
    let registry = registry.as_ref().map(|registry| registry as _);
    let bar = output.progress(None, "records");
    let mut progress = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let read = examples::read(&session.kafka, registry, &features, span, &mut progress).await;
    bar.finish_and_clear();
    session.close().await;
    let served = read?;
    if served.rankings.is_empty() {
        return Err(nothing_to_learn_from(&served.counts, &features.version));
    }
    Ok(Lessons {
        rankings: served.rankings,
        baselines: None,
        features,
        source: Source::Topic(served.counts),
    })
}

fn nothing_to_learn_from(counts: &ExampleCounts, version: &str) -> anyhow::Error {
    if counts.answers == 0 {
        return anyhow!(
            "the topic training has no answers of that time; the labeler writes an answer there once \
             the time in which a click counts for it is over (labeler.window_ms, by default half an \
             hour); wait for that, or name recorded events with --events"
        );
    }
    anyhow!(
        "none of {} answers has features of version {version}: {} have another version's, {} have none, \
         {} are malformed; train with the configuration that served them, or wait for new ones",
        counts.answers,
        counts.other_feature_version,
        counts.without_features,
        counts.malformed
    )
}

/// The options that were chosen for rankers.
pub fn options(seed: u32, threads: u32) -> LambdaMartOptions {
    LambdaMartOptions {
        threads,
        ..learning::options(seed)
    }
}

/// Trains on all of `rankings`, with a bar.
///
/// # Errors
/// They can't be learnt from, or LightGBM's library is out of reach.
pub async fn learn(
    rankings: &[Ranking],
    features: &FeatureSpec,
    options: LambdaMartOptions,
    output: Output,
) -> anyhow::Result<Trained> {
    let set = learning::training_set(rankings, &features.names)?;
    let bar = output.byte_progress(None);
    let library = LightGbm::obtain(&mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })
    .await;
    bar.finish_and_clear();
    let library = library?;
    let bar = output.progress(Some(u64::from(options.iterations)), "trees");
    let training = move || {
        let trained = learning::learn(&library, &set, &options, &mut |iteration| {
            bar.set_position(u64::from(iteration.done));
            ControlFlow::Continue(())
        });
        bar.finish_and_clear();
        trained
    };
    let trained = tokio::task::spawn_blocking(training).await;
    Ok(trained.context("training was cut off")??)
}

/// The forest's scores of a ranking's items.
pub fn scores(forest: &Forest, ranking: &Ranking) -> Vec<f64> {
    forest
        .predict(&ranking.features)
        .unwrap_or_else(|_| unreachable!("the forest was trained on these rows' features"))
}

/// What each feature was worth, the greatest gain first; those without a split are last.
pub fn importance(forest: &Forest) -> Vec<ImportanceReport> {
    let mut importance: Vec<ImportanceReport> = forest
        .importance()
        .iter()
        .map(|of| ImportanceReport {
            feature: of.feature.clone(),
            gain: of.gain,
            splits: of.splits,
        })
        .collect();
    importance.sort_by(|a, b| b.gain.total_cmp(&a.gain));
    importance
}

/// The same as a table, without those of no worth.
pub fn importance_table(importance: &[ImportanceReport]) -> String {
    let total: f64 = importance.iter().map(|of| of.gain).sum();
    let mut rows = vec![["FEATURE", "GAIN", "SPLITS"].map(str::to_owned).to_vec()];
    let used = importance.iter().filter(|of| of.splits > 0);
    rows.extend(used.map(|of| {
        vec![
            of.feature.clone(),
            format!("{:.1} %", 100.0 * of.gain / total),
            of.splits.to_string(),
        ]
    }));
    table(&rows)
}

fn describe(report: &Report) -> String {
    format!(
        "{}: {} trees, trained on {} rankings\n{}\n{}\n\n{}",
        report.ranker_version,
        report.trees,
        report.trained_on,
        report.file.display(),
        eval::measured(&report.evaluation),
        importance_table(&report.importance)
    )
}
