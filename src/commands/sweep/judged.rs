//! A sweep over judged queries: each weight is searched with, and measured.

mod by_kind;
mod by_query;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use jiff::Timestamp;
use millrace_index::Mode;
use millrace_ranker::evaluation::Bootstrap;
use millrace_recommender::{LastSweep, SweptWeight};
use serde::Serialize;

use self::by_kind::ByKind;
use self::by_query::ByQuery;
use super::page::{Page, Point};
use super::recommendation::{Candidate, Recommendation, recommend};
use super::weight::{Weight, WeightSpan, grid};
use super::{Args, InForce, interval, named, write_page};
use crate::api::search::RankingQuery;
use crate::commands::eval::judged::{JudgedArgs, JudgedSet};
use crate::config::Config;
use crate::evaluation::choice;
use crate::evaluation::comparison::{Difference, Measure, compare, mean};
use crate::evaluation::measures::{Measures, PerQuery, QueryMeasures, measure};
use crate::output::{Output, table};
use crate::session::Session;
use crate::stack::Needs;
use crate::stack::recommending::RANKERS;

const MEASURE: &str = "nDCG@10";

#[derive(Debug, Serialize)]
struct Report {
    corpus: String,
    queries: usize,
    instance: String,
    /// The weight of BM25 in force.
    in_force: f64,
    rankings: Vec<RankingReport>,
    best: Best,
    recommendation: Recommendation,
    #[serde(skip_serializing_if = "Option::is_none")]
    by_query: Option<ByQuery>,
    /// None without --by-query, and of fewer than two queries.
    #[serde(skip_serializing_if = "Option::is_none")]
    by_kind: Option<ByKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<PathBuf>,
}

/// A ranking that was tried.
#[derive(Debug, Serialize)]
struct RankingReport {
    /// None of reciprocal rank fusion.
    bm25_weight: Option<f64>,
    rrf: bool,
    in_force: bool,
    #[serde(flatten)]
    mean: QueryMeasures,
    /// Of nDCG@10.
    ci95: [f64; 2],
    /// Its nDCG@10 less that of the weight in force, query by query; none of itself.
    vs_in_force: Option<Difference>,
}

/// The weight with the greatest mean, and what to expect of such a choice.
#[derive(Debug, Serialize)]
struct Best {
    bm25_weight: f64,
    /// On the queries that it was chosen by: too good.
    ndcg_at_10: f64,
    /// On queries that did not choose; none where there is but one query.
    cross_fitted: Option<CrossFitted>,
}

/// Half of the queries chooses, the other half measures.
#[derive(Debug, Serialize)]
struct CrossFitted {
    ndcg_at_10: f64,
    /// That less the weight in force.
    vs_in_force: Difference,
}

/// Weights with their measures by query, rising.
struct Swept {
    weights: Vec<(Weight, PerQuery)>,
    rrf: Option<PerQuery>,
    /// The place of the weight in force.
    in_force: usize,
}

pub async fn run(
    args: &Args,
    judged: &JudgedArgs,
    in_force: &InForce,
    config: &Config,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let judged = judged.read()?;
    let span = args.bm25.unwrap_or(WeightSpan::ALL);
    let weights = grid(span, args.step.unwrap_or_default(), in_force.weight);
    let rankings: Vec<RankingQuery> = weights
        .iter()
        .map(|weight| hybrid(weight.value() as f32, false))
        .chain(
            args.rrf
                .then(|| hybrid(millrace_index::DEFAULT_BM25_WEIGHT, true)),
        )
        .collect();
    let session = Session::attach_or_start(config, Needs::INGEST).await?;
    let retrieved = judged
        .retrieve(&rankings, &session, &config.objects, output)
        .await;
    session.close().await;
    let retrieved = retrieved?;
    let mut measured = retrieved
        .runs
        .iter()
        .map(|run| measure(run, &judged.judgements));
    let swept = Swept {
        in_force: weights
            .iter()
            .position(|weight| *weight == in_force.weight)
            .context("the weight in force is tried")?,
        weights: weights.into_iter().zip(&mut measured).collect(),
        rrf: measured.next(),
    };
    let report = swept.report(args, &judged, retrieved.corpus, in_force)?;
    keep(&report, &retrieved.searched.embedding_version, config)?;
    if let Some(path) = &args.report {
        let told = report.told();
        let page = Page {
            title: &format!("Sweep over {} judged queries", report.queries),
            measure: MEASURE,
            points: &report.points(),
            rrf: report.rrf(),
            rows: &report.rows(in_force),
            told: &told,
        };
        write_page(path, &page)?;
    }
    output.result(&report, || report.text(in_force))?;
    Ok(ExitCode::SUCCESS)
}

fn hybrid(bm25_weight: f32, rrf: bool) -> RankingQuery {
    RankingQuery {
        mode: Mode::Hybrid,
        bm25_weight,
        vector_weight: 1.0 - bm25_weight,
        rrf,
    }
}

impl Swept {
    fn report(
        &self,
        args: &Args,
        judged: &JudgedSet,
        corpus: String,
        in_force: &InForce,
    ) -> anyhow::Result<Report> {
        let (_, reference) = &self.weights[self.in_force];
        let weights = self.weights.iter().map(|(weight, per_query)| {
            let is_in_force = *weight == in_force.weight;
            ranking(Some(*weight), is_in_force, per_query, reference)
        });
        let rrf = self.rrf.as_ref();
        let rrf = rrf.map(|per_query| ranking(None, false, per_query, reference));
        let rankings: Vec<RankingReport> = weights.chain(rrf).collect::<anyhow::Result<_>>()?;
        let candidates: Vec<Candidate> = self
            .weights
            .iter()
            .zip(&rankings)
            .map(|((weight, _), ranking)| Candidate {
                weight: *weight,
                mean: ranking.mean.ndcg_at_10,
                difference: ranking.vs_in_force,
            })
            .collect();
        let values = self.values();
        let kinds = || {
            let weights: Vec<Weight> = self.weights.iter().map(|(weight, _)| *weight).collect();
            ByKind::of(&weights, &values, judged.texts(), self.in_force)
        };
        Ok(Report {
            corpus,
            queries: reference.len(),
            instance: in_force.instance.clone(),
            in_force: in_force.weight.value(),
            best: self.best(&candidates, &values)?,
            by_kind: if args.by_query { kinds()? } else { None },
            recommendation: recommend(&candidates, in_force.weight, MEASURE),
            by_query: args
                .by_query
                .then(|| ByQuery::of(&self.weights, self.in_force)),
            rankings,
            report: args.report.clone(),
        })
    }

    /// nDCG@10, a row a weight, a column a query.
    fn values(&self) -> Vec<Vec<f64>> {
        let row = |(_, per_query): &(Weight, PerQuery)| {
            let queries = per_query.values();
            queries.map(|query| query.ndcg_at_10).collect()
        };
        self.weights.iter().map(row).collect()
    }

    fn best(&self, candidates: &[Candidate], values: &[Vec<f64>]) -> anyhow::Result<Best> {
        let means: Vec<f64> = candidates.iter().map(|candidate| candidate.mean).collect();
        let best = candidates[choice::best(&means, self.in_force)];
        let cross_fitted = choice::cross_fitted(values, self.in_force)
            .map(|measured| {
                let (_, reference) = &self.weights[self.in_force];
                let queries = reference.iter().zip(&measured);
                let differences =
                    queries.map(|((query, of), value)| (query.as_str(), value - of.ndcg_at_10));
                let difference = Bootstrap::default().mean_by_user(differences)?;
                anyhow::Ok(CrossFitted {
                    ndcg_at_10: measured.iter().sum::<f64>() / measured.len() as f64,
                    vs_in_force: difference.into(),
                })
            })
            .transpose()?;
        Ok(Best {
            bm25_weight: best.weight.value(),
            ndcg_at_10: best.mean,
            cross_fitted,
        })
    }
}

fn ranking(
    weight: Option<Weight>,
    in_force: bool,
    per_query: &PerQuery,
    reference: &PerQuery,
) -> anyhow::Result<RankingReport> {
    let of_ndcg = mean(per_query, Measure::Ndcg)?;
    let difference = compare(reference, per_query, Measure::Ndcg)?.difference;
    Ok(RankingReport {
        bm25_weight: weight.map(Weight::value),
        rrf: weight.is_none(),
        in_force,
        mean: Measures::of(per_query).mean,
        ci95: [of_ndcg.low, of_ndcg.high],
        vs_in_force: (!in_force).then_some(difference),
    })
}

/// Keeps what was measured where a change of weights is answered with it.
fn keep(report: &Report, embedding_version: &str, config: &Config) -> anyhow::Result<()> {
    let none = Difference {
        diff: 0.0,
        ci95: [0.0, 0.0],
        units: 0,
    };
    let weights = report.rankings.iter().filter_map(|ranking| {
        let difference = ranking.vs_in_force.unwrap_or(none);
        Some(SweptWeight {
            bm25_weight: ranking.bm25_weight?,
            ndcg_at_10: ranking.mean.ndcg_at_10,
            difference: difference.diff,
            ci95: difference.ci95,
        })
    });
    let sweep = LastSweep {
        swept_at_ms: Timestamp::now().as_millisecond(),
        corpus: report.corpus.clone(),
        queries: report.queries,
        embedding_version: embedding_version.to_owned(),
        in_force: report.in_force,
        weights: weights.collect(),
    };
    Ok(sweep.write(&config.data_dir.join(RANKERS))?)
}

impl Report {
    fn points(&self) -> Vec<Point> {
        let weights = self.rankings.iter().filter_map(|ranking| {
            Some(Point {
                weight: ranking.bm25_weight?,
                mean: ranking.mean.ndcg_at_10,
                ci95: ranking.ci95,
                in_force: ranking.in_force,
            })
        });
        weights.collect()
    }

    fn rrf(&self) -> Option<f64> {
        let rrf = self.rankings.iter().find(|ranking| ranking.rrf);
        rrf.map(|ranking| ranking.mean.ndcg_at_10)
    }

    fn rows(&self, in_force: &InForce) -> Vec<Vec<String>> {
        let header = [
            "BM25",
            "NDCG@10",
            "95 %",
            "RECALL@100",
            "MRR@10",
            "LESS IN FORCE",
        ];
        let row = |ranking: &RankingReport| {
            let weight = ranking.bm25_weight.and_then(Weight::nearest);
            vec![
                weight.map_or_else(|| "RRF".to_owned(), |weight| named(weight, in_force)),
                format!("{:.4}", ranking.mean.ndcg_at_10),
                interval(ranking.ci95),
                format!("{:.4}", ranking.mean.recall_at_100),
                format!("{:.4}", ranking.mean.mrr_at_10),
                ranking
                    .vs_in_force
                    .map_or_else(String::new, |vs| vs.to_string()),
            ]
        };
        let mut rows = vec![header.map(str::to_owned).to_vec()];
        rows.extend(self.rankings.iter().map(row));
        rows
    }

    /// What follows from the table.
    fn told(&self) -> Vec<String> {
        let Best {
            bm25_weight,
            ndcg_at_10,
            cross_fitted,
        } = &self.best;
        let mut told = vec![format!(
            "greatest mean: {bm25_weight}, {MEASURE} {ndcg_at_10:.4} on the queries that chose it"
        )];
        told.extend(cross_fitted.as_ref().map(|honest| {
            format!(
                "what to expect of such a choice: {MEASURE} {:.4}, {} against {}, half of the queries \
                 choosing and the other half measuring",
                honest.ndcg_at_10, honest.vs_in_force, self.in_force
            )
        }));
        told.extend(self.by_kind.as_ref().map(ByKind::summary));
        told.extend(self.by_query.as_ref().map(ByQuery::summary));
        let Recommendation {
            bm25_weight,
            change,
            reason,
        } = &self.recommendation;
        let what = if *change { "change to" } else { "keep" };
        told.push(format!("recommended: {what} {bm25_weight}; {reason}"));
        told
    }

    fn text(&self, in_force: &InForce) -> String {
        let mut parts = vec![
            format!(
                "{} judged queries of {}, compared with the weights of instance {}",
                self.queries, self.corpus, self.instance
            ),
            table(&self.rows(in_force)),
            String::new(),
        ];
        if let Some(by_query) = &self.by_query {
            parts.extend([by_query.text(), String::new()]);
        }
        if let Some(by_kind) = &self.by_kind {
            parts.extend([table(&by_kind.rows()), String::new()]);
        }
        parts.extend(self.told());
        parts.extend(
            self.report
                .as_ref()
                .map(|path| format!("report: {}", path.display())),
        );
        parts.join("\n")
    }
}
