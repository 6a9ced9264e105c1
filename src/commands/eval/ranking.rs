//! `millrace eval ranking`: does the ranker beat simple orders on clicks that it has not seen?

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use millrace_trainer::evaluation::{Evaluation, Part};
use millrace_trainer::learning;
use millrace_trainer::replay::ReplayCounts;
use serde::Serialize;

use crate::commands::train::{self, ImportanceReport};
use crate::config::Config;
use crate::output::{Output, table};
use crate::recordings::{self, Played};

/// Play recorded events, train a ranker on the first of their rankings, and measure it on the rest.
///
/// Events go through the join and the features that serve, in the file's order: what is known of a
/// ranking is what was told before it. Rankings without a click say nothing and are counted.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Metarank's events (`item`, `ranking`, `interaction`), one JSON object a line; `.gz` too. The first
    /// four fifths of its rankings train, the others judge.
    #[arg(long, value_name = "FILE")]
    events: PathBuf,
    /// Further events to judge on: all of --events trains, and these are played after it without
    /// training again.
    #[arg(long, value_name = "FILE")]
    test_events: Option<PathBuf>,
    /// Of the training and of the order drawn by chance.
    #[arg(long, default_value_t = 0)]
    seed: u32,
    /// Threads to train on. Another number may change the last bits of a model.
    #[arg(long, default_value_t = 1)]
    threads: u32,
}

#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    evaluation: Evaluation,
    training: Training,
    feature_version: String,
    importance: Vec<ImportanceReport>,
    recording: ReplayCounts,
}

#[derive(Debug, Serialize)]
struct Training {
    rankings: usize,
    trees: u32,
}

pub async fn run(args: Args, config: Config, output: Output) -> anyhow::Result<ExitCode> {
    let files = [Some(args.events), args.test_events.clone()];
    let files: Vec<PathBuf> = files.into_iter().flatten().collect();
    let Played { replayed, of_first } = recordings::play(&config, files, output).await?;
    let from = match args.test_events {
        Some(_) => of_first,
        None => learning::time_split(of_first),
    };
    let history = &replayed.rankings[..from];
    let options = train::options(args.seed, args.threads);
    let trained = train::learn(history, &replayed.features, options, output).await?;
    let evaluation = Evaluation::of(
        &replayed.rankings,
        Some(&replayed.baselines),
        from,
        u64::from(args.seed),
        &mut |_, ranking| train::scores(&trained.forest, ranking),
    )
    .context("none of the rankings that are to judge was clicked")?;
    let report = Report {
        evaluation,
        training: Training {
            rankings: from,
            trees: trained.kept,
        },
        feature_version: replayed.features.version.clone(),
        importance: train::importance(&trained.forest),
        recording: replayed.counts,
    };
    output.result(&report, || describe(&report))?;
    Ok(ExitCode::SUCCESS)
}

fn describe(report: &Report) -> String {
    format!(
        "trained on {} rankings: {} trees\n{}\n\n{}",
        report.training.rankings,
        report.training.trees,
        measured(&report.evaluation),
        train::importance_table(&report.importance)
    )
}

/// The measures as a table, with what they mean in a line.
pub fn measured(evaluation: &Evaluation) -> String {
    let part = |name: &str, part: &Option<Part>| {
        part.as_ref().map(|part| {
            vec![
                name.to_owned(),
                part.ranker.rankings.to_string(),
                format!("{:.4}", part.ranker.ndcg_at_10),
                interval(part.ranker.ci95),
                part.vs_item_ctr.map_or_else(String::new, |vs| {
                    format!("{:+.4} {}", vs.diff, interval(vs.ci95))
                }),
            ]
        })
    };
    let header = ["ORDER", "RANKINGS", "NDCG@10", "95 %", "LESS ITEM CTR"].map(str::to_owned);
    let mut rows = vec![header.to_vec()];
    rows.push(vec![
        "ranker".to_owned(),
        evaluation.rankings.to_string(),
        format!("{:.4}", evaluation.ndcg_at_10),
        interval(evaluation.ci95),
        evaluation.vs_item_ctr.map_or_else(String::new, |vs| {
            format!("{:+.4} {}", vs.diff, interval(vs.ci95))
        }),
    ]);
    rows.extend(part("  users' first rankings", &evaluation.cold));
    rows.extend(part("  their later ones", &evaluation.warm));
    let baselines = &evaluation.baselines;
    for (name, value) in [
        ("item CTR", baselines.item_ctr),
        ("popularity", baselines.popularity),
        ("as shown", Some(baselines.as_shown)),
        ("random", Some(baselines.random)),
    ] {
        let row = |value| vec![name.to_owned(), String::new(), format!("{value:.4}")];
        rows.extend(value.map(row));
    }
    format!(
        "{}\n{} rankings without a click were skipped",
        table(&rows),
        evaluation.skipped
    )
}

fn interval([low, high]: [f64; 2]) -> String {
    format!("[{low:.4}, {high:.4}]")
}
