//! A sweep over logged answers: what each weight would bring, estimated from those that were drawn.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use jiff::Timestamp;
use millrace_kafka::HttpSchemaRegistry;
use millrace_ranker::evaluation::{
    ArmEstimate, Bootstrap, LoggedPlay, MIN_EFFECTIVE_SAMPLE_SIZE, snips,
};
use millrace_trainer::Span;
use millrace_trainer::drawn::{self, Drawn, DrawnCounts};
use serde::Serialize;

use super::page::{Page, Point};
use super::recommendation::{Candidate, Recommendation, recommend};
use super::weight::{Weight, WeightSpan, grid};
use super::{Args, InForce, interval, named, write_page};
use crate::cli::UsageError;
use crate::config::Config;
use crate::evaluation::comparison::Difference;
use crate::output::{Output, table};
use crate::session::TopicsSession;

const MEASURE: &str = "share of answers clicked";

#[derive(Debug, Serialize)]
struct Report {
    instance: String,
    /// The weight of BM25 in force.
    in_force: f64,
    counts: DrawnCounts,
    /// Answers with weights that are not judged.
    other_weights: usize,
    arms: Vec<ArmReport>,
    /// None without a verdict.
    recommendation: Option<Recommendation>,
    /// Why there is no verdict.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    no_verdict: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<PathBuf>,
}

/// A weight and what it would bring.
#[derive(Debug, Serialize)]
struct ArmReport {
    bm25_weight: f64,
    in_force: bool,
    answers: usize,
    effective_sample_size: f64,
    /// Share of the answers for which the weight's plays stand: about 1 where it could be drawn each time.
    coverage: f64,
    /// Estimated share of answers of which something is clicked; none where it was never drawn.
    clicked: Option<f64>,
    ci95: Option<[f64; 2]>,
    /// That less the weight in force; none of itself, and where one of both was never drawn.
    vs_in_force: Option<Difference>,
}

pub async fn run(
    args: &Args,
    in_force: &InForce,
    config: &Config,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let span = Span {
        from_ms: args.from.as_ref().map_or(0, |from| from.ms),
        to_ms: args
            .to
            .as_ref()
            .map_or_else(|| Timestamp::now().as_millisecond(), |to| to.ms),
    };
    if span.from_ms >= span.to_ms {
        return Err(UsageError("--from is not before --to: no time is left".to_owned()).into());
    }
    let drawn = read(span, config, output).await?;
    let arms = arms(args, config, in_force.weight);
    let report = Report::of(args, &drawn, &arms, in_force)?;
    if let Some(path) = &args.report {
        let page = Page {
            title: "Sweep over logged answers",
            measure: MEASURE,
            points: &report.points(),
            rrf: None,
            rows: &report.rows(in_force),
            told: &report.told(),
        };
        write_page(path, &page)?;
    }
    output.result(&report, || report.text(in_force))?;
    Ok(ExitCode::from(u8::from(report.recommendation.is_none())))
}

async fn read(span: Span, config: &Config, output: Output) -> anyhow::Result<Drawn> {
    let session = TopicsSession::attach_or_start(config)?;
    let registry = HttpSchemaRegistry::from_config(&session.kafka)?;
    let registry = registry.as_ref().map(|registry| registry as _);
    let bar = output.progress(None, "records");
    let mut progress = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let read = drawn::read(&session.kafka, registry, span, &mut progress).await;
    bar.finish_and_clear();
    session.close().await;
    Ok(read?)
}

/// The weights that are judged: those asked for, else those that are drawn from.
fn arms(args: &Args, config: &Config, in_force: Weight) -> Vec<Weight> {
    if args.bm25.is_some() || args.step.is_some() {
        let span = args.bm25.unwrap_or(WeightSpan::ALL);
        let weights = grid(span, args.step.unwrap_or_default(), in_force);
        return weights.into_iter().collect();
    }
    let configured = config.recommender.exploration.bm25_weights.iter();
    let configured = configured.filter_map(|weight| Weight::nearest(f64::from(*weight)));
    let weights: BTreeSet<Weight> = configured.chain([in_force]).collect();
    weights.into_iter().collect()
}

impl Report {
    fn of(args: &Args, drawn: &Drawn, arms: &[Weight], in_force: &InForce) -> anyhow::Result<Self> {
        let arm_of = |weight: f64| arms.binary_search(&Weight::nearest(weight)?).ok();
        let plays: Vec<LoggedPlay<'_>> = drawn
            .answers
            .iter()
            .map(|answer| LoggedPlay {
                user_id: &answer.user_id,
                // What is not judged was a draw all the same.
                arm: arm_of(answer.bm25_weight).unwrap_or(arms.len()),
                probability: answer.probability,
                reward: f64::from(u8::from(answer.clicked)),
            })
            .collect();
        // It is one of the arms.
        let reference = arms.binary_search(&in_force.weight).unwrap_or(0);
        let estimates = snips(&Bootstrap::default(), &plays, arms.len(), reference)?;
        let no_verdict: Vec<String> = arms
            .iter()
            .zip(&estimates)
            .filter_map(|(weight, estimate)| objection(*weight, estimate))
            .collect();
        let candidates = arms
            .iter()
            .zip(&estimates)
            .filter_map(|(weight, estimate)| {
                Some(Candidate {
                    weight: *weight,
                    mean: estimate.value?.mean,
                    difference: estimate.difference.map(Difference::from),
                })
            });
        let candidates: Vec<Candidate> = candidates.collect();
        let recommendation = no_verdict
            .is_empty()
            .then(|| recommend(&candidates, in_force.weight, MEASURE));
        let arm = |(weight, estimate): (&Weight, &ArmEstimate)| ArmReport {
            bm25_weight: weight.value(),
            in_force: *weight == in_force.weight,
            answers: estimate.plays,
            effective_sample_size: estimate.effective_sample_size,
            coverage: estimate.coverage,
            clicked: estimate.value.map(|value| value.mean),
            ci95: estimate.value.map(|value| [value.low, value.high]),
            vs_in_force: estimate.difference.map(Difference::from),
        };
        Ok(Self {
            instance: in_force.instance.clone(),
            in_force: in_force.weight.value(),
            other_weights: plays.iter().filter(|play| play.arm == arms.len()).count(),
            counts: drawn.counts,
            arms: arms.iter().zip(&estimates).map(arm).collect(),
            recommendation,
            no_verdict,
            report: args.report.clone(),
        })
    }

    fn points(&self) -> Vec<Point> {
        let arms = self.arms.iter().filter_map(|arm| {
            Some(Point {
                weight: arm.bm25_weight,
                mean: arm.clicked?,
                ci95: arm.ci95?,
                in_force: arm.in_force,
            })
        });
        arms.collect()
    }

    fn rows(&self, in_force: &InForce) -> Vec<Vec<String>> {
        let header = [
            "BM25",
            "ANSWERS",
            "EFFECTIVE",
            "CLICKED",
            "95 %",
            "LESS IN FORCE",
        ];
        let row = |arm: &ArmReport| {
            let weight = Weight::nearest(arm.bm25_weight);
            vec![
                weight.map_or_else(String::new, |weight| named(weight, in_force)),
                arm.answers.to_string(),
                format!("{:.0}", arm.effective_sample_size),
                arm.clicked
                    .map_or_else(|| "–".to_owned(), |share| format!("{share:.4}")),
                arm.ci95.map_or_else(String::new, interval),
                arm.vs_in_force
                    .map_or_else(String::new, |vs| vs.to_string()),
            ]
        };
        let mut rows = vec![header.map(str::to_owned).to_vec()];
        rows.extend(self.arms.iter().map(row));
        rows
    }

    /// What was left out, and what follows from the table.
    fn told(&self) -> Vec<String> {
        let DrawnCounts {
            answers,
            not_drawn,
            without_search,
            malformed,
            unreadable,
        } = self.counts;
        let left_out: Vec<String> = [
            (not_drawn, "weights were not drawn"),
            (without_search, "list no weight could change"),
            (self.other_weights as u64, "weights are not judged here"),
            (malformed, "weights are malformed"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, whose)| format!("{count} whose {whose}"))
        .collect();
        let mut told = vec![match left_out.as_slice() {
            [] => format!("{answers} answers"),
            left_out => format!("{answers} answers, without {}", left_out.join(", ")),
        }];
        told.extend((unreadable > 0).then(|| format!("{unreadable} records could not be read")));
        told.push(match &self.recommendation {
            Some(Recommendation {
                bm25_weight,
                change,
                reason,
            }) => {
                let what = if *change { "change to" } else { "keep" };
                format!("recommended: {what} {bm25_weight}; {reason}")
            }
            None => format!(
                "no verdict: {}; a verdict needs {MIN_EFFECTIVE_SAMPLE_SIZE:.0} effective answers of each \
                 weight, from a time in which all of them could be drawn: wait, raise recommender.exploration.weight_share, or judge fewer weights (--bm25, \
                 --step)",
                self.no_verdict.join(", ")
            ),
        });
        told
    }

    fn text(&self, in_force: &InForce) -> String {
        let mut parts = vec![
            format!(
                "{MEASURE}, by inverse propensity, compared with the weights of instance {}",
                self.instance
            ),
            table(&self.rows(in_force)),
            String::new(),
        ];
        parts.extend(self.told());
        parts.extend(
            self.report
                .as_ref()
                .map(|path| format!("report: {}", path.display())),
        );
        parts.join("\n")
    }
}

/// Why an arm is no ground for a verdict, if it is none.
fn objection(weight: Weight, estimate: &ArmEstimate) -> Option<String> {
    if estimate.plays == 0 {
        return Some(format!("{weight} was never drawn"));
    }
    if !estimate.is_enough() {
        let size = estimate.effective_sample_size;
        return Some(format!(
            "{weight} has an effective sample size of {size:.0}"
        ));
    }
    (!estimate.is_covered()).then(|| {
        format!(
            "{weight} was not a choice all the time (its plays stand for {:.0} % of the answers; --from and --to \
             choose a time in which the weights were the same)",
            estimate.coverage * 100.0
        )
    })
}
