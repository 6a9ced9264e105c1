//! `millrace recommend USER`: what a user should see now.

use std::process::ExitCode;

use anyhow::Context;
use millrace_recommender::http;
use millrace_recommender::http::own::{RecommendQuery, Recommendation};
use millrace_recommender::{AnswerItem, Explanation};

use crate::cli::UsageError;
use crate::config::Config;
use crate::output::{Output, table};
use crate::session::Session;
use crate::stack::Needs;

/// Recommend items to a user.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The user, as behavior names them; a user that is not known gets what is trending and fresh.
    user: String,
    /// Where it would be shown, one of recommender.scenes. Default: recommender.default_scene.
    #[arg(long, value_name = "NAME")]
    scene: Option<String>,
    /// How many. Default: the scene's.
    #[arg(long, value_name = "N", value_parser = parse_count, allow_negative_numbers = true)]
    count: Option<usize>,
    /// Only what passes this filter of a search, as JSON: `{"tags":["sea"]}`.
    #[arg(long, value_name = "JSON")]
    filter: Option<String>,
    /// Say of each item who found it, its features and its scores.
    #[arg(long)]
    explain: bool,
}

fn parse_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("give 1 or more".to_owned()),
    }
}

pub async fn run(args: Args, config: Config, output: Output) -> anyhow::Result<ExitCode> {
    if let Some(filter) = &args.filter {
        http::filter::own(filter).map_err(UsageError)?;
    }
    let query = RecommendQuery {
        user_id: args.user,
        scene: args.scene,
        count: args.count,
        filter: args.filter,
        explain: args.explain,
    };
    let session = Session::attach_or_start(&config, Needs::RECOMMEND).await?;
    session.ready().await;
    let answered = session.api.recommend(&config.airec, &query).await;
    session.close().await;
    let answer = answered.with_context(|| format!("no recommendations for {:?}", query.user_id))?;
    output.result(&answer, || text(&answer))?;
    Ok(ExitCode::SUCCESS)
}

/// The answer as a person reads it.
pub fn text(recommendation: &Recommendation) -> String {
    let answer = &recommendation.answer;
    let mut lines = vec![format!(
        "for {} in {} · ranked by {} · {:.1} ms",
        answer.user_id, answer.scene, answer.ranker_version, answer.took_ms
    )];
    if let Some(fallback) = &answer.fallback {
        lines.push(format!("  fall-back: {}", fallback.message));
    }
    for failed in &answer.failed_sources {
        lines.push(format!("  {}: {}", failed.source.as_str(), failed.reason));
    }
    if answer.items.is_empty() {
        lines.push("  nothing to recommend; `millrace ingest PATH` loads documents".to_owned());
        return lines.join("\n");
    }
    let header = ["", "SCORE", "ITEM", "FOUND BY"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(answer.items.iter().map(row));
    lines.push(table(&rows));
    for item in &answer.items {
        if let Some(explanation) = &item.explanation {
            lines.push(format!("\n{}. {}", item.position, name(item)));
            lines.extend(explained(explanation));
        }
    }
    lines.join("\n")
}

fn name(item: &AnswerItem) -> &str {
    match &item.title {
        Some(title) => title,
        None if item.uri.is_empty() => &item.item_id,
        None => &item.uri,
    }
}

fn row(item: &AnswerItem) -> Vec<String> {
    let sources: Vec<&str> = item.sources.iter().map(|source| source.as_str()).collect();
    let explored = match item.exploration {
        true => format!(" (explored, 1 in {:.0})", 1.0 / item.propensity),
        false => String::new(),
    };
    vec![
        format!("{:2}.", item.position),
        item.score
            .map_or("–".to_owned(), |score| format!("{score:.3}")),
        name(item).to_owned(),
        format!("{}{explored}", sources.join(", ")),
    ]
}

fn explained(explanation: &Explanation) -> Vec<String> {
    let mut lines = vec![];
    for source in &explanation.sources {
        lines.push(format!(
            "   {} has it at {} with {:.4}",
            source.source.as_str(),
            source.rank,
            source.score
        ));
    }
    if let (Some(score), Some(place)) = (explanation.ranker_score, explanation.ranker_position) {
        lines.push(format!(
            "   the ranker alone has it at {place} with {score:.4}"
        ));
    }
    let features = explanation.features.iter();
    let features: Vec<Vec<String>> = features
        .map(|feature| {
            let value = feature
                .value
                .map_or("missing".to_owned(), |it| format!("{it:.4}"));
            vec![format!("   {}", feature.name), value]
        })
        .collect();
    lines.push(table(&features));
    if let Some(trace) = &explanation.signal_traceparent {
        lines.push(format!("   the trace of its document: {trace}"));
    }
    lines
}
