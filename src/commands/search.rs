//! `millrace search QUERY`.

use std::process::ExitCode;

use clap::ValueEnum;
use millrace_index::{DEFAULT_BM25_WEIGHT, DEFAULT_K, DEFAULT_VECTOR_WEIGHT, Mode};

use crate::api::search::{SearchAnswer, SearchQuery};
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
    #[arg(short, default_value_t = DEFAULT_K, value_name = "N")]
    k: usize,
}

/// How documents are ranked; shared with `eval retrieval`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Ranking {
    /// Which sub-queries run.
    #[arg(long, value_enum, default_value_t = RankingMode::Hybrid)]
    pub mode: RankingMode,
    /// Weight of BM25 in a hybrid search. Default: 1 − vector weight, or 0.3.
    #[arg(long, value_name = "WEIGHT")]
    bm25_weight: Option<f32>,
    /// Weight of the vectors in a hybrid search. Default: 1 − BM25 weight, or 0.7.
    #[arg(long, value_name = "WEIGHT")]
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

impl Ranking {
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
