//! `millrace eval retrieval`: how good is the ranking on judged queries?

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use millrace_index::DEFAULT_K;
use serde::Serialize;

use super::super::search::{Ranking, RankingMode};
use super::judged::{JudgedArgs, Retrieved};
use crate::api::sweep::Searched;
use crate::config::Config;
use crate::evaluation::measures::{Measures, QueryMeasures, measure};
use crate::evaluation::per_query;
use crate::output::Output;
use crate::session::Session;
use crate::stack::{Needs, model};

/// Search for judged queries over a corpus and measure the rankings.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    judged: JudgedArgs,
    #[command(flatten)]
    ranking: Ranking,
    /// Where to write the run in TREC's format, and beside it the measures of each query, a JSON object
    /// a line (`*.queries.jsonl`, for `eval compare`). Default: `runs/` in the data folder.
    #[arg(long, value_name = "FILE")]
    run_file: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Report {
    queries: usize,
    #[serde(flatten)]
    searched: Searched,
    #[serde(flatten)]
    mean: QueryMeasures,
    run_file: PathBuf,
    per_query_file: PathBuf,
}

pub async fn run(args: Args, config: Config, output: Output) -> anyhow::Result<ExitCode> {
    args.ranking.check()?;
    let judged = args.judged.read()?;
    let ranking = [args.ranking.query("", DEFAULT_K).ranking()];
    let session = Session::attach_or_start(&config, Needs::INGEST).await?;
    let retrieved = judged
        .retrieve(&ranking, &session, &config.objects, output)
        .await;
    session.close().await;
    let Retrieved {
        mut runs, searched, ..
    } = retrieved?;
    let run = runs.pop().context("one ranking has one run")?;
    let tag = tag(&args.ranking);
    let run_file = args
        .run_file
        .unwrap_or_else(|| config.data_dir.join("runs").join(format!("{tag}.trec")));
    run.write(&run_file, &tag)?;
    let measured = measure(&run, &judged.judgements);
    let per_query_file = beside(&run_file);
    per_query::write(&per_query_file, &measured)?;
    if let Some(configured) = model::version_here(&config).await
        && !model::same_weights(&configured, &searched.embedding_version)
    {
        tracing::warn!(
            "what serves was measured, {}, and not the configured model, {configured}, which does not \
             serve here; `--profile embedded --data DIR` makes an index of its own",
            searched.embedding_version
        );
    }
    let Measures { queries, mean } = Measures::of(&measured);
    let report = Report {
        queries,
        searched,
        mean,
        run_file,
        per_query_file,
    };
    output.result(&report, || {
        format!(
            "{} queries · nDCG@10 {:.4} · recall@100 {:.4} · MRR@10 {:.4}\n\
             searched: {}, embedded by {}\nrun: {}\nby query: {}",
            report.queries,
            report.mean.ndcg_at_10,
            report.mean.recall_at_100,
            report.mean.mrr_at_10,
            report.searched.index_version,
            report.searched.embedding_version,
            report.run_file.display(),
            report.per_query_file.display()
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Where a run's measures by query are written.
fn beside(run_file: &Path) -> PathBuf {
    let mut name = run_file.file_stem().unwrap_or_default().to_owned();
    name.push(".queries.jsonl");
    run_file.with_file_name(name)
}

fn tag(ranking: &Ranking) -> String {
    match ranking.mode {
        RankingMode::Text => "text".to_owned(),
        RankingMode::Vector => "vector".to_owned(),
        RankingMode::Hybrid => {
            let query = ranking.query("", DEFAULT_K);
            if query.rrf {
                "hybrid-rrf".to_owned()
            } else {
                format!("hybrid-{}-{}", query.bm25_weight, query.vector_weight)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_lie_beside_their_run_whatever_dots_its_name_has() {
        for (run, measures) in [
            (
                "runs/hybrid-0.3-0.7.trec",
                "runs/hybrid-0.3-0.7.queries.jsonl",
            ),
            ("mine", "mine.queries.jsonl"),
        ] {
            assert_eq!(beside(Path::new(run)), Path::new(measures));
        }
    }
}
