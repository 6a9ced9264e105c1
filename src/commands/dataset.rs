//! `millrace dataset build`: training data for encoders.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use millrace_training::dataset::{
    BuildOptions, FileSum, Judged, Manifest, Source, SplitBy, build, judged, pairs_of_file,
};
use serde::Serialize;

use crate::cli::UsageError;
use crate::evaluation::judgements::{read_qrels, read_queries};
use crate::output::Output;

/// Build training data for sentence encoders.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Build(BuildArgs),
}

/// Triples of query, passage that answers it, and passages that only look like it.
///
/// Hard negatives are what BM25 finds for the query and nobody said answers it. Pairs are taken once
/// each and split by query: by time where all have one, else by seed. The manifest names the files
/// read and written by checksum, and a model's card names the manifest.
#[derive(Debug, clap::Args)]
struct BuildArgs {
    /// A folder in BEIR's layout: `corpus.jsonl[.gz]`, `queries.jsonl`, `qrels/train.tsv`.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["pairs", "corpus", "queries"])]
    beir: Option<PathBuf>,
    /// Pairs, `{"query": …, "positive": …, "time_ms": …}` a line; `.gz` too, `time_ms` may be missing.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["corpus", "queries", "qrels"])]
    pairs: Option<PathBuf>,
    /// Corpus in BEIR's layout (`_id`, `title`, `text` a line; `.gz` too).
    #[arg(long, value_name = "FILE", requires_all = ["queries", "qrels"])]
    corpus: Option<PathBuf>,
    /// Queries in BEIR's layout (`_id`, `text` a line).
    #[arg(long, value_name = "FILE", requires = "corpus")]
    queries: Option<PathBuf>,
    /// Judgements, BEIR's or TREC's layout; with `--beir` instead of `qrels/train.tsv`.
    #[arg(long, value_name = "FILE")]
    qrels: Option<PathBuf>,
    /// The dataset's folder, which must not be there yet.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Ranks of BM25 that hard negatives are taken from; the first are often answers nobody judged.
    #[arg(long, default_value = "1-20", value_name = "FIRST-LAST", value_parser = parse_ranks)]
    negative_ranks: RangeInclusive<usize>,
    /// Share of the queries that judge instead of being learnt from.
    #[arg(long, default_value_t = 0.1, value_name = "SHARE")]
    dev_share: f64,
    /// Of the split, where pairs have no times.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    folder: &'a Path,
    #[serde(flatten)]
    manifest: &'a Manifest,
}

fn parse_ranks(text: &str) -> Result<RangeInclusive<usize>, String> {
    let ranks = text.split_once('-').and_then(|(first, last)| {
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        Some(first..=last)
    });
    ranks.ok_or_else(|| "give FIRST-LAST, such as 4-13".to_owned())
}

pub async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let Action::Build(args) = args.action;
    let options = BuildOptions {
        negative_ranks: args.negative_ranks.clone(),
        dev_share: args.dev_share,
        seed: args.seed,
    };
    let out = args.out.clone();
    let source = tokio::task::spawn_blocking(move || read(&args));
    let source = source.await.context("reading was cut off")??;
    let bar = output.progress(None, "queries");
    let built = build(source, &options, &out, &mut |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    })
    .await;
    bar.finish_and_clear();
    let manifest = built?;
    let report = Report {
        folder: &out,
        manifest: &manifest,
    };
    output.result(&report, || describe(&report))?;
    Ok(ExitCode::SUCCESS)
}

fn read(args: &BuildArgs) -> anyhow::Result<Source> {
    let (corpus, queries, qrels) = match (&args.beir, &args.pairs, &args.corpus) {
        (_, Some(pairs), _) => return Ok(pairs_of_file(pairs)?),
        (Some(folder), ..) => {
            let zipped = folder.join("corpus.jsonl.gz");
            let corpus = if zipped.is_file() {
                zipped
            } else {
                folder.join("corpus.jsonl")
            };
            let qrels = args.qrels.clone();
            let qrels = qrels.unwrap_or_else(|| folder.join("qrels/train.tsv"));
            (corpus, folder.join("queries.jsonl"), qrels)
        }
        (_, _, Some(corpus)) => {
            // clap asks for them where there is a corpus.
            let (queries, qrels) = (args.queries.clone(), args.qrels.clone());
            (
                corpus.clone(),
                queries.unwrap_or_default(),
                qrels.unwrap_or_default(),
            )
        }
        _ => {
            let message = "name what to build from: --beir DIR, --pairs FILE, or --corpus, --queries \
                           and --qrels";
            return Err(UsageError(message.to_owned()).into());
        }
    };
    let files = vec![FileSum::of(&queries)?, FileSum::of(&qrels)?];
    let relevant = read_qrels(&qrels)?
        .into_iter()
        .flat_map(|(query, passages)| {
            let relevant = passages.into_iter().filter(|(_, gain)| *gain > 0);
            relevant.map(move |(passage, _)| (query.clone(), passage))
        })
        .collect();
    Ok(judged(Judged {
        corpus,
        relevant,
        queries: read_queries(&queries)?,
        files,
    })?)
}

fn describe(report: &Report<'_>) -> String {
    let counts = report.manifest.counts;
    let split = match report.manifest.split {
        SplitBy::Time => "by time".to_owned(),
        SplitBy::Seed(seed) => format!("by seed {seed}"),
    };
    format!(
        "{} triples to learn from, {} to judge by, split {split} · {} queries · {} hard negatives of \
         {} passages · left out: {} duplicates, {} incomplete\n{}",
        counts.train,
        counts.dev,
        counts.queries,
        counts.negatives,
        counts.passages,
        counts.duplicates,
        counts.incomplete,
        report.folder.display()
    )
}
