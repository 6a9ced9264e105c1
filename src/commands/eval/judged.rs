//! Judged queries over a corpus, searched with one ranking or several.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, bail};
use futures::{StreamExt, TryStreamExt};
use millrace_index::Filter;
use millrace_objects::ObjectStoresConfig;

use super::super::ingest::{ingest, source_uri};
use crate::api::search::RankingQuery;
use crate::api::sweep::{Searched, SweepQuery};
use crate::evaluation::judgements::{Judgements, read_qrels, read_queries};
use crate::evaluation::run::Run;
use crate::output::Output;
use crate::session::Session;

/// How deep a run goes: recall is measured at 100.
const DEPTH: usize = 100;
/// Queries at once: enough to keep both the encoder and the index busy.
const CONCURRENCY: usize = 2;

/// A corpus, and queries with judgements over it; `eval retrieval` and `sweep` take the same.
#[derive(Clone, Debug, clap::Args)]
pub struct JudgedArgs {
    /// Corpus in BEIR's layout (`_id`, `title`, `text` a line; `.gz` too); ingested where the index lacks it.
    #[arg(long, value_name = "FILE")]
    corpus: String,
    /// Queries in BEIR's layout (`_id`, `text` a line).
    #[arg(long, value_name = "FILE")]
    queries: PathBuf,
    /// Judgements, BEIR's or TREC's layout.
    #[arg(long, value_name = "FILE")]
    qrels: PathBuf,
}

/// Queries with judgements.
pub struct JudgedSet {
    corpus: String,
    /// Relevance of documents, by query.
    pub judgements: Judgements,
    texts: BTreeMap<String, String>,
}

impl JudgedArgs {
    /// Reads the files.
    ///
    /// # Errors
    /// A file can't be read, or is not what it should be; the line is named.
    pub fn read(&self) -> anyhow::Result<JudgedSet> {
        Ok(JudgedSet {
            corpus: self.corpus.clone(),
            judgements: read_qrels(&self.qrels)?,
            texts: read_queries(&self.queries)?,
        })
    }
}

/// What was searched, and what was found.
pub struct Retrieved {
    /// URI of the corpus.
    pub corpus: String,
    /// In which generation, and by which model.
    pub searched: Searched,
    /// A run a ranking, in their order.
    pub runs: Vec<Run>,
}

/// Documents and scores of a query, a list a ranking.
type Found = Vec<Vec<(String, f32)>>;

/// What answered a query; none where it has no words. And what it found.
type Answer = (Option<Searched>, Found);

impl JudgedSet {
    /// The words of each judged query, in the order of their ids; none where only judgements have it.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let text = |query| self.texts.get(query).map_or("", String::as_str);
        self.judgements.keys().map(text)
    }

    /// Searches for each judged query with each ranking; it is embedded once.
    ///
    /// # Errors
    /// The corpus can't be ingested or searched, nothing was found at all, or another generation began to
    /// serve meanwhile.
    pub async fn retrieve(
        &self,
        rankings: &[RankingQuery],
        session: &Session,
        objects: &ObjectStoresConfig,
        output: Output,
    ) -> anyhow::Result<Retrieved> {
        let corpus = source_uri(&self.corpus)?;
        let of_corpus = std::slice::from_ref(&corpus);
        let (ingested, _) = ingest(session, objects, of_corpus, true, output).await?;
        tracing::info!(
            documents = ingested.outcomes.documents,
            "ingested what the index lacked"
        );
        let prefix = format!("{corpus}#");
        let bar = output.progress(Some(self.judgements.len() as u64), "queries");
        let answers: Vec<(&String, Answer)> = futures::stream::iter(self.judgements.keys())
            .map(|id| {
                let (bar, prefix) = (&bar, &prefix);
                async move {
                    let found = self.find(id, rankings, prefix, session).await?;
                    bar.inc(1);
                    anyhow::Ok((id, found))
                }
            })
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await?;
        bar.finish_and_clear();
        if answers
            .iter()
            .all(|(_, (_, found))| found.iter().all(Vec::is_empty))
        {
            bail!(
                "no judged query found a document of {corpus}; is it a corpus, and are these its queries?"
            );
        }
        let mut searched: Vec<&Searched> = answers.iter().flat_map(|(_, (by, _))| by).collect();
        searched.dedup();
        let searched = match searched[..] {
            [searched] => searched.clone(),
            _ => bail!(
                "another generation began to serve while the queries were asked; run the command again"
            ),
        };
        let mut runs = vec![Run::default(); rankings.len()];
        for (query, (_, found)) in answers {
            for (run, documents) in runs.iter_mut().zip(found) {
                run.insert(query, documents);
            }
        }
        Ok(Retrieved {
            corpus: corpus.to_string(),
            searched,
            runs,
        })
    }

    async fn find(
        &self,
        id: &str,
        rankings: &[RankingQuery],
        prefix: &str,
        session: &Session,
    ) -> anyhow::Result<Answer> {
        let Some(text) = self.texts.get(id) else {
            tracing::warn!(query = %id, "judged but not among the queries; counts 0");
            return Ok((None, vec![Vec::new(); rankings.len()]));
        };
        let query = SweepQuery {
            query: text.clone(),
            rankings: rankings.to_vec(),
            k: DEPTH,
            filter: Filter {
                uri_prefix: Some(prefix.to_owned()),
                ..Filter::default()
            },
        };
        let answer = session.api.sweep(&query).await;
        let answer = answer.with_context(|| format!("query {id}"))?;
        let of_ranking = |documents: Vec<crate::api::sweep::RankedDocument>| {
            let documents = documents.into_iter().map(|found| {
                let id = found.uri.strip_prefix(prefix).unwrap_or(&found.uri);
                (id.to_owned(), found.score)
            });
            documents.collect()
        };
        let found = answer.rankings.into_iter().map(of_ranking).collect();
        Ok((Some(answer.searched), found))
    }
}
