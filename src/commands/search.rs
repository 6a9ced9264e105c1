//! `millrace search QUERY`.

use std::process::ExitCode;

use clap::ValueEnum;
use millrace_index::{DEFAULT_BM25_WEIGHT, DEFAULT_K, DEFAULT_VECTOR_WEIGHT, Mode};

use crate::api::search::{self, MAX_K, SearchAnswer, SearchQuery};
use crate::cli::UsageError;
use crate::config::Config;
use crate::output::Output;
use crate::session::Session;
use crate::stack::Needs;

/// Find documents by text, by meaning, or by both.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Words or a question.
    query: String,
    #[command(flatten)]
    ranking: Ranking,
    /// How many documents.
    #[arg(short, default_value_t = DEFAULT_K, value_name = "N", value_parser = parse_k, allow_negative_numbers = true)]
    k: usize,
}

/// How documents are ranked; shared with `eval retrieval`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Ranking {
    /// Which sub-queries run.
    #[arg(long, value_enum, default_value_t = RankingMode::Hybrid)]
    pub mode: RankingMode,
    /// Weight of BM25 in a hybrid search. Default: 1 − vector weight, or 0.3.
    #[arg(long, value_name = "WEIGHT", value_parser = parse_weight, allow_negative_numbers = true)]
    bm25_weight: Option<f32>,
    /// Weight of the vectors in a hybrid search. Default: 1 − BM25 weight, or 0.7.
    #[arg(long, value_name = "WEIGHT", value_parser = parse_weight, allow_negative_numbers = true)]
    vector_weight: Option<f32>,
    /// Fuse by reciprocal rank instead of by weighted scores.
    #[arg(long, conflicts_with_all = ["bm25_weight", "vector_weight"])]
    rrf: bool,
}

/// Which sub-queries run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RankingMode {
    /// BM25 and vectors, fused.
    Hybrid,
    /// Vectors alone.
    Vector,
    /// BM25 alone.
    Text,
}

fn parse_k(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(k) if (1..=MAX_K).contains(&k) => Ok(k),
        _ => Err(format!("give 1 to {MAX_K}")),
    }
}

/// A weight, 0 to 1; `NaN` is in no range.
pub fn parse_weight(text: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(weight) if (0.0..=1.0).contains(&weight) => Ok(weight),
        _ => Err("a weight lies in 0 to 1".to_owned()),
    }
}

impl Ranking {
    /// Refuses weights that do not go together before anything is started.
    ///
    /// # Errors
    /// The two weights do not sum to 1.
    pub fn check(&self) -> Result<(), UsageError> {
        search::fusion(&self.query("", DEFAULT_K).ranking())
            .validate()
            .map_err(|error| UsageError(error.to_string()))
    }

    /// The search for `query` with this ranking.
    pub fn query(&self, query: &str, k: usize) -> SearchQuery {
        let (bm25_weight, vector_weight) = match (self.bm25_weight, self.vector_weight) {
            (None, None) => (DEFAULT_BM25_WEIGHT, DEFAULT_VECTOR_WEIGHT),
            (Some(bm25), None) => (bm25, 1.0 - bm25),
            (None, Some(vector)) => (1.0 - vector, vector),
            (Some(bm25), Some(vector)) => (bm25, vector),
        };
        SearchQuery {
            mode: match self.mode {
                RankingMode::Hybrid => Mode::Hybrid,
                RankingMode::Vector => Mode::Vector,
                RankingMode::Text => Mode::Text,
            },
            bm25_weight,
            vector_weight,
            rrf: self.rrf,
            k,
            ..SearchQuery::new(query)
        }
    }
}

pub async fn run(args: Args, config: Config, output: Output) -> anyhow::Result<ExitCode> {
    args.ranking.check()?;
    let session = Session::attach_or_start(&config, Needs::SEARCH).await?;
    let answer = session
        .api
        .search(&args.ranking.query(&args.query, args.k))
        .await;
    session.close().await;
    let answer = answer?;
    output.result(&answer, || text(&answer))?;
    Ok(ExitCode::SUCCESS)
}

/// The answer as a person reads it; `up --sample` prints it too.
pub fn text(answer: &SearchAnswer) -> String {
    if answer.hits.is_empty() {
        return "nothing found; is the index filled? `millrace ingest PATH` loads documents"
            .to_owned();
    }
    let score = |score: Option<f32>| score.map_or("–".to_owned(), |score| format!("{score:.3}"));
    let hits = answer.hits.iter().enumerate().map(|(place, hit)| {
        format!(
            "{:2}. {}\n    score {:.3} · text {} · vector {} · {}\n    {}",
            place + 1,
            hit.title.as_deref().unwrap_or(&hit.uri),
            hit.score,
            score(hit.text_score),
            score(hit.vector_score),
            hit.uri,
            hit.snippet
        )
    });
    hits.collect::<Vec<_>>().join("\n")
}
