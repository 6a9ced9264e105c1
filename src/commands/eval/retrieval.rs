//! `millrace eval retrieval`: how good is the ranking on judged queries?

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use futures::{StreamExt, TryStreamExt};
use millrace_objects::ObjectStoresConfig;
use serde::Serialize;

use super::super::ingest::{ingest, source_uri};
use super::super::search::{Ranking, RankingMode};
use crate::config::Config;
use crate::evaluation::judgements::{read_qrels, read_queries};
use crate::evaluation::measures::measure;
use crate::evaluation::run::Run;
use crate::output::Output;
use crate::session::Session;
use crate::stack::Needs;

/// Search for judged queries over a corpus and measure the rankings.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Corpus in BEIR's layout (`_id`, `title`, `text` a line; `.gz` too); ingested where the index lacks it.
    #[arg(long, value_name = "FILE")]
    corpus: String,
    /// Queries in BEIR's layout (`_id`, `text` a line).
    #[arg(long, value_name = "FILE")]
    queries: PathBuf,
    /// Judgements, BEIR's or TREC's layout.
    #[arg(long, value_name = "FILE")]
    qrels: PathBuf,
    #[command(flatten)]
    ranking: Ranking,
    /// Where to write the run in TREC's format. Default: `runs/` in the data folder.
    #[arg(long, value_name = "FILE")]
    run_file: Option<PathBuf>,
}

/// How deep a run goes: recall is measured at 100.
const DEPTH: usize = 100;
/// Searches at once: enough to keep both the encoder and the index busy.
const CONCURRENCY: usize = 2;

#[derive(Debug, Serialize)]
struct Report {
    queries: usize,
    ndcg_at_10: f64,
    recall_at_100: f64,
    mrr_at_10: f64,
    run_file: PathBuf,
}

pub async fn run(args: Args, config: Config, output: Output) -> anyhow::Result<ExitCode> {
    args.ranking.check()?;
    let judgements = read_qrels(&args.qrels)?;
    let queries = read_queries(&args.queries)?;
    let session = Session::attach_or_start(&config, Needs::INGEST).await?;
    let run = retrieve(
        &args,
        &session,
        &config.objects,
        &judgements.keys().collect::<Vec<_>>(),
        &queries,
        output,
    )
    .await;
    session.close().await;
    let run = run?;
    let run_file = args.run_file.unwrap_or_else(|| {
        config
            .data_dir
            .join("runs")
            .join(format!("{}.trec", tag(&args.ranking)))
    });
    run.write(&run_file, &tag(&args.ranking))?;
    let measures = measure(&run, &judgements);
    let report = Report {
        queries: measures.queries,
        ndcg_at_10: measures.ndcg_at_10,
        recall_at_100: measures.recall_at_100,
        mrr_at_10: measures.mrr_at_10,
        run_file,
    };
    output.result(&report, || {
        format!(
            "{} queries · nDCG@10 {:.4} · recall@100 {:.4} · MRR@10 {:.4}\nrun: {}",
            report.queries,
            report.ndcg_at_10,
            report.recall_at_100,
            report.mrr_at_10,
            report.run_file.display()
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn retrieve(
    args: &Args,
    session: &Session,
    objects: &ObjectStoresConfig,
    judged: &[&String],
    queries: &std::collections::BTreeMap<String, String>,
    output: Output,
) -> anyhow::Result<Run> {
    let corpus = source_uri(&args.corpus)?;
    let (ingested, _) = ingest(session, objects, &corpus, true, output).await?;
    tracing::info!(
        documents = ingested.documents,
        "ingested what the index lacked"
    );
    let prefix = format!("{corpus}#");
    let bar = output.progress(Some(judged.len() as u64), "queries");
    let answers: Vec<(String, Vec<(String, f32)>)> = futures::stream::iter(judged)
        .map(|id| {
            let (bar, prefix) = (&bar, &prefix);
            async move {
                let Some(text) = queries.get(*id) else {
                    tracing::warn!(query = %id, "judged but not among the queries; counts 0");
                    return anyhow::Ok(((*id).clone(), Vec::new()));
                };
                let mut query = args.ranking.query(text, DEPTH);
                query.filter.uri_prefix = Some(prefix.clone());
                let answer = session
                    .api
                    .search(&query)
                    .await
                    .with_context(|| format!("query {id}"))?;
                bar.inc(1);
                let documents = answer.hits.into_iter().map(|hit| {
                    let id = hit.uri.strip_prefix(prefix.as_str()).unwrap_or(&hit.uri);
                    (id.to_owned(), hit.score)
                });
                Ok(((*id).clone(), documents.collect()))
            }
        })
        .buffer_unordered(CONCURRENCY)
        .try_collect()
        .await?;
    bar.finish_and_clear();
    if answers.iter().all(|(_, documents)| documents.is_empty()) {
        bail!(
            "no judged query found a document of {corpus}; is it a corpus, and are these its queries?"
        );
    }
    let mut run = Run::default();
    for (query, documents) in answers {
        run.insert(&query, documents);
    }
    Ok(run)
}

fn tag(ranking: &Ranking) -> String {
    match ranking.mode {
        RankingMode::Text => "text".to_owned(),
        RankingMode::Vector => "vector".to_owned(),
        RankingMode::Hybrid => {
            let query = ranking.query("", DEPTH);
            if query.rrf {
                "hybrid-rrf".to_owned()
            } else {
                format!("hybrid-{}-{}", query.bm25_weight, query.vector_weight)
            }
        }
    }
}
