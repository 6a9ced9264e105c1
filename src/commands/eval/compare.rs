//! `millrace eval compare A B`: is one ranking better than another on the same queries?

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use serde::{Deserialize, Serialize};

use crate::evaluation::comparison::{Comparison, Measure, Movement, compare, movements};
use crate::evaluation::judgements::{Judgements, read_qrels};
use crate::evaluation::measures::{PerQuery, measure};
use crate::evaluation::per_query;
use crate::evaluation::run::Run;
use crate::output::{Output, printable, table};

/// Compare two rankings of the same queries: paired bootstrap, wins and losses, what moved most.
///
/// A and B are measures by query (`*.queries.jsonl`, or the report that `eval retrieval --json` printed),
/// or with --qrels runs in TREC's format, whoever made them. Differences are B less A.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What is compared with.
    #[arg(value_name = "A")]
    a: PathBuf,
    /// What is compared.
    #[arg(value_name = "B")]
    b: PathBuf,
    /// Judgements, BEIR's or TREC's layout: A and B are runs in TREC's format.
    #[arg(long, value_name = "FILE")]
    qrels: Option<PathBuf>,
    /// How many of the queries that moved most are told.
    #[arg(long, value_name = "N", default_value_t = 10)]
    movements: usize,
}

/// Missing queries that are named; the count covers all.
const NAMED: usize = 5;

#[derive(Debug, Serialize)]
struct Report {
    a: PathBuf,
    b: PathBuf,
    queries: usize,
    ndcg_at_10: Comparison,
    recall_at_100: Comparison,
    mrr_at_10: Comparison,
    /// By nDCG@10, the largest first.
    movements: Vec<Movement>,
}

pub fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let file = |path: &Path| std::fs::canonicalize(measures_file(path)).ok();
    if let (Some(a), Some(b)) = (file(&args.a), file(&args.b))
        && a == b
    {
        bail!(
            "A and B are the same file, {}: `eval retrieval` of the same weights writes there again; give \
             each run a file of its own with --run-file",
            a.display()
        );
    }
    let judgements = args.qrels.as_deref().map(read_qrels).transpose()?;
    let a = Measured::read(&args.a, judgements.as_ref())?;
    let b = Measured::read(&args.b, judgements.as_ref())?;
    require_same(&args, &a, &b)?;
    let compared = |measure| compare(&a.per_query, &b.per_query, measure);
    let report = Report {
        queries: a.per_query.len(),
        ndcg_at_10: compared(Measure::Ndcg)?,
        recall_at_100: compared(Measure::Recall)?,
        mrr_at_10: compared(Measure::ReciprocalRank)?,
        movements: movements(&a.per_query, &b.per_query, Measure::Ndcg, args.movements),
        a: args.a,
        b: args.b,
    };
    output.result(&report, || text(&report))?;
    Ok(ExitCode::SUCCESS)
}

/// Measures, and which queries they are of.
struct Measured {
    per_query: PerQuery,
    /// Of a run the judged queries that it has; others count 0.
    present: BTreeSet<String>,
}

impl Measured {
    fn read(path: &Path, judgements: Option<&Judgements>) -> anyhow::Result<Self> {
        let Some(judgements) = judgements else {
            let per_query = per_query::read(&measures_file(path))?;
            let present = per_query.keys().cloned().collect();
            return Ok(Self { per_query, present });
        };
        let run = Run::read(path)?;
        let judged = run
            .queries()
            .filter(|query| judgements.contains_key(*query));
        let present: BTreeSet<String> = judged.cloned().collect();
        if present.is_empty() {
            bail!(
                "{} has no judged query; are these judgements of its queries?",
                path.display()
            );
        }
        let per_query = measure(&run, judgements);
        Ok(Self { per_query, present })
    }
}

/// The file of measures that a report of `eval retrieval --json` names; else the file itself.
fn measures_file(path: &Path) -> PathBuf {
    #[derive(Deserialize)]
    struct Report {
        per_query_file: PathBuf,
    }
    let report = std::fs::read(path).ok();
    let report = report.and_then(|bytes| serde_json::from_slice::<Report>(&bytes).ok());
    report.map_or_else(|| path.to_owned(), |report| report.per_query_file)
}

/// A query that one of both lacks would be compared with nothing.
fn require_same(args: &Args, a: &Measured, b: &Measured) -> anyhow::Result<()> {
    for (path, lacking, other) in [(&args.a, a, b), (&args.b, b, a)] {
        let missing: Vec<String> = other
            .present
            .difference(&lacking.present)
            .map(|query| printable(query).into_owned())
            .collect();
        if missing.is_empty() {
            continue;
        }
        let beyond = missing.len().saturating_sub(NAMED);
        let more = if beyond > 0 {
            format!(" and {beyond} more")
        } else {
            String::new()
        };
        let named = missing.get(..NAMED).unwrap_or(&missing).join(", ");
        let hint = if args.qrels.is_some() {
            "; a run has no line of a query that found nothing: the *.queries.jsonl beside it has one"
        } else {
            ""
        };
        bail!(
            "{} lacks {} queries that the other has: {named}{more}; both must be of the same queries{hint}",
            path.display(),
            missing.len()
        );
    }
    Ok(())
}

fn text(report: &Report) -> String {
    let header = ["MEASURE", "A", "B", "B LESS A", "B WINS", "LOSES", "TIES"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for (name, compared) in [
        ("nDCG@10", &report.ndcg_at_10),
        ("recall@100", &report.recall_at_100),
        ("MRR@10", &report.mrr_at_10),
    ] {
        rows.push(vec![
            name.to_owned(),
            format!("{:.4}", compared.a),
            format!("{:.4}", compared.b),
            compared.difference.to_string(),
            compared.wins.to_string(),
            compared.losses.to_string(),
            compared.ties.to_string(),
        ]);
    }
    let mut text = format!(
        "A {}\nB {}\n{} queries, 95 % intervals of the difference by resampling them\n\n{}\n\n{}",
        report.a.display(),
        report.b.display(),
        report.queries,
        table(&rows),
        verdict(&report.ndcg_at_10)
    );
    if !report.movements.is_empty() {
        let header = ["QUERY", "A", "B", "B LESS A"];
        let mut rows = vec![header.map(str::to_owned).to_vec()];
        rows.extend(report.movements.iter().map(|moved| {
            vec![
                printable(&moved.query).into_owned(),
                format!("{:.4}", moved.a),
                format!("{:.4}", moved.b),
                format!("{:+.4}", moved.diff),
            ]
        }));
        text.push_str(&format!("\n\nwhat moved most, nDCG@10\n{}", table(&rows)));
    }
    text
}

fn verdict(ndcg: &Comparison) -> &'static str {
    if ndcg.difference.is_gain() {
        "B is better by nDCG@10"
    } else if ndcg.difference.is_loss() {
        "B is worse by nDCG@10"
    } else {
        "A and B can't be told apart by nDCG@10"
    }
}
