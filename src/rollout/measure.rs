//! What the gates judge by: the two generations compared, searched and timed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::future::try_join_all;
use millrace_index::{Hit, IndexError, MAX_HEADERS, Record, SearchIndex};
use millrace_schemas::{DocId, RolloutGate};
use serde::{Deserialize, Serialize};

use super::gates::{self, Checksums, Coverage, Dimensions, Latencies, Retrieval};
use super::liking::Liking;
use crate::api::search::{SearchQuery, hits};
use crate::evaluation::judgements::Judgements;
use crate::evaluation::measures::ndcg_at_10;
use crate::evaluation::run::Run;
use crate::stack::generations::OpenGeneration;

/// How long what differs once both are level is looked at again: a write may be tried again, or have
/// come while it was read.
const ON_ITS_WAY: Duration = Duration::from_secs(15);
/// How often what differs is looked at again.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Records read by id in one go.
const PAGE: usize = 500;
/// Documents read, and judged queries asked, at a time: what serves meanwhile is to notice little of it.
const AT_ONCE: usize = 4;
/// How deep judged queries are searched.
const DEPTH: usize = 100;
/// Words of a sampled document that make a query where too few were asked.
const QUERY_WORDS: usize = 8;

/// Queries with what answers them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judged {
    /// Text by query.
    pub queries: BTreeMap<String, String>,
    /// Relevance by query and document: its URI, or of a line of a corpus its id.
    pub qrels: Judgements,
}

/// How the gates are to judge.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GateSettings {
    /// What the retrieval gate measures by.
    pub judged: Option<Judged>,
    /// By how much nDCG@10 may fall.
    pub epsilon: f64,
    /// How many times as long the new generation may take, at the 95th percentile.
    pub latency_factor: f64,
    /// Documents whose text and vectors are compared, and at most as many queries that are timed.
    pub sample: usize,
    /// Whether documents may have another text than in the old generation.
    pub text_may_change: bool,
}

impl Default for GateSettings {
    fn default() -> Self {
        Self {
            judged: None,
            epsilon: 0.01,
            latency_factor: 1.5,
            sample: 200,
            text_may_change: false,
        }
    }
}

/// What the generations are judged by.
pub struct JudgedBy<'a> {
    pub settings: &'a GateSettings,
    /// Queries that were really asked.
    pub queries: &'a [String],
    /// What users like, where this process knows that.
    pub liking: Option<&'a Liking>,
}

/// The two generations.
#[derive(Clone, Copy)]
pub struct Pair<'a> {
    /// The one that serves.
    pub old: &'a OpenGeneration,
    /// The one that is to.
    pub new: &'a OpenGeneration,
}

/// A document as a header tells of it.
struct Known {
    uri: String,
    version: i64,
}

impl Pair<'_> {
    /// All gates. `level` ends once both generations have what the topic had when it was first polled, which
    /// it is where documents differ.
    ///
    /// # Errors
    /// A generation can't be read or searched.
    pub async fn gates(
        &self,
        by: &JudgedBy<'_>,
        level: impl Future<Output = ()> + Send,
    ) -> anyhow::Result<Vec<RolloutGate>> {
        let settings = by.settings;
        for open in [self.old, self.new] {
            open.index.refresh().await?;
        }
        let old = live(&*self.old.index).await?;
        let coverage = self.coverage(&old, level).await?;
        let sampled = self.sampled(&old, settings.sample).await?;
        let retrieval = match &settings.judged {
            Some(judged) => Some(self.retrieval(judged).await?),
            None => None,
        };
        let ranking = self.ranking(by).await?;
        let mut queries = by.queries.to_vec();
        queries.extend(sampled.queries);
        queries.truncate(settings.sample.max(1));
        let latencies = self.latencies(&queries).await?;
        Ok(vec![
            gates::coverage(&coverage),
            gates::checksums(&sampled.checksums, settings.text_may_change),
            gates::dimension(&sampled.dimensions),
            gates::retrieval(retrieval.as_ref(), settings.epsilon),
            ranking,
            gates::latency(&latencies, settings.latency_factor),
        ])
    }

    async fn ranking(&self, by: &JudgedBy<'_>) -> anyhow::Result<RolloutGate> {
        if self.is_one_model() {
            return Ok(gates::same_rankings());
        }
        let rankings = match by.liking {
            Some(liking) => {
                let (old, new) = (self.old.encoder.version(), self.new.encoder.version());
                Some(liking.rankings(old, new).await?)
            }
            None => None,
        };
        Ok(gates::ranking(rankings.as_ref(), by.settings.epsilon))
    }

    /// Whether both generations are of one model, as in a backfill.
    pub fn is_one_model(&self) -> bool {
        self.old.spec.model_fingerprint == self.new.spec.model_fingerprint
    }

    async fn coverage(
        &self,
        old: &BTreeMap<String, Known>,
        level: impl Future<Output = ()> + Send,
    ) -> anyhow::Result<Coverage> {
        let new = live(&*self.new.index).await?;
        let differs = |(id, known): &(&String, &Known)| {
            new.get(*id)
                .is_none_or(|found| found.version < known.version)
        };
        let lacking = old.iter().filter(differs).map(|(id, _)| id);
        let extra = new.keys().filter(|id| !old.contains_key(*id));
        let mut suspects: Vec<String> = lacking.chain(extra).cloned().collect();
        if !suspects.is_empty() {
            level.await;
        }
        let deadline = Instant::now() + ON_ITS_WAY;
        let mut coverage = Coverage {
            documents: old.len() as u64,
            ..Coverage::default()
        };
        loop {
            let (left, found) = self.compare(suspects).await?;
            if left.is_empty() || Instant::now() > deadline {
                coverage.missing = found.missing;
                coverage.behind = found.behind;
                coverage.extra = found.extra;
                coverage.example = found.example;
                return Ok(coverage);
            }
            suspects = left;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Which of these documents differ now, and how.
    async fn compare(&self, ids: Vec<String>) -> anyhow::Result<(Vec<String>, Coverage)> {
        let (mut left, mut found) = (Vec::new(), Coverage::default());
        for page in ids.chunks(PAGE) {
            let old = self.old.index.get(page).await?;
            let new = self.new.index.get(page).await?;
            for ((id, old), new) in page.iter().zip(old).zip(new) {
                let is_live = |record: &Record| !record.deleted;
                let counter = match (old.filter(is_live), new.filter(is_live)) {
                    (Some(old), None) => {
                        found.example.get_or_insert(old.uri);
                        &mut found.missing
                    }
                    (Some(old), Some(new)) if new.version < old.version => {
                        found.example.get_or_insert(old.uri);
                        &mut found.behind
                    }
                    (None, Some(new)) => {
                        found.example.get_or_insert(new.uri);
                        &mut found.extra
                    }
                    _ => continue,
                };
                *counter += 1;
                left.push(id.clone());
            }
        }
        Ok((left, found))
    }

    /// Text and vectors of documents, evenly from all of them.
    async fn sampled(
        &self,
        old: &BTreeMap<String, Known>,
        wanted: usize,
    ) -> anyhow::Result<Sampled> {
        let step = old.len().div_ceil(wanted.max(1)).max(1);
        let mut sampled = Sampled {
            dimensions: Dimensions {
                model: self.new.encoder.dimension(),
                index: self.new.spec.dimension,
                ..Dimensions::default()
            },
            ..Sampled::default()
        };
        let mut suspects = Vec::new();
        let chosen: Vec<_> = old.values().step_by(step).collect();
        for page in chosen.chunks(AT_ONCE) {
            let read = try_join_all(page.iter().map(|known| self.both(&known.uri))).await?;
            for (old, new) in read.into_iter().flatten() {
                self.look_at(&old, &new, &mut sampled);
                match self.comparison(&old, &new) {
                    Comparison::Alike => {}
                    Comparison::CutElsewhere => sampled.checksums.cut_differently += 1,
                    Comparison::Different => suspects.push(old.header.uri),
                }
            }
        }
        let different = self.still_different(suspects).await?;
        sampled.checksums.different = different.len() as u64;
        sampled.checksums.example = different.into_iter().next();
        Ok(sampled)
    }

    /// A document as both have it; none while one of them is behind, or where it is gone.
    async fn both(&self, uri: &str) -> Result<Option<(Stored, Stored)>, IndexError> {
        let id = DocId::from_uri(uri);
        let old = chunks(&*self.old.index, &id, false).await?;
        let new = chunks(&*self.new.index, &id, true).await?;
        let both = old.zip(new);
        Ok(both.filter(|(old, new)| old.header.version == new.header.version))
    }

    /// Which of these differ still: what was written or removed while it was read is alike, or gone, in a
    /// moment.
    async fn still_different(&self, mut suspects: Vec<String>) -> anyhow::Result<Vec<String>> {
        let deadline = Instant::now() + ON_ITS_WAY;
        while !suspects.is_empty() && Instant::now() < deadline {
            tokio::time::sleep(LOOK_EVERY).await;
            let mut left = Vec::new();
            for uri in suspects {
                let both = self.both(&uri).await?;
                let differs = |(old, new): (Stored, Stored)| {
                    self.comparison(&old, &new) == Comparison::Different
                };
                if both.is_some_and(differs) {
                    left.push(uri);
                }
            }
            suspects = left;
        }
        Ok(suspects)
    }

    /// Notes the new vectors, and a query of the document's words.
    fn look_at(&self, old: &Stored, new: &Stored, sampled: &mut Sampled) {
        for vector in new.chunks.iter().filter_map(|chunk| chunk.vector.as_ref()) {
            sampled.dimensions.sampled += 1;
            let square: f32 = vector.iter().map(|component| component * component).sum();
            let is_right = vector.len() == self.new.spec.dimension
                && square.is_finite()
                && square > f32::EPSILON;
            sampled.dimensions.wrong += u64::from(!is_right);
        }
        let words: Vec<&str> = old
            .texts()
            .flat_map(str::split_whitespace)
            .take(QUERY_WORDS)
            .collect();
        if !words.is_empty() {
            sampled.queries.push(words.join(" "));
        }
        sampled.checksums.sampled += 1;
    }

    fn comparison(&self, old: &Stored, new: &Stored) -> Comparison {
        let is_same = |of: fn(&Record) -> &Option<String>| of(&old.header) == of(&new.header);
        let headers = is_same(|it| &it.title) && is_same(|it| &it.etag);
        let are_whole = old.is_whole() && new.is_whole();
        let texts = are_whole && old.texts().eq(new.texts());
        if headers && texts {
            Comparison::Alike
        } else if headers && are_whole && self.cuts_differently(old) {
            Comparison::CutElsewhere
        } else {
            Comparison::Different
        }
    }

    /// Whether the two models may cut this document in different places.
    fn cuts_differently(&self, old: &Stored) -> bool {
        let (a, b) = (self.old.encoder.tokenizer(), self.new.encoder.tokenizer());
        a.max_tokens() != b.max_tokens()
            || old
                .texts()
                .any(|text| a.encode(text).ok() != b.encode(text).ok())
    }

    async fn retrieval(&self, judged: &Judged) -> anyhow::Result<Retrieval> {
        // Judgements of queries that are not there would be nothing against nothing.
        let asked: Vec<_> = judged
            .qrels
            .iter()
            .filter_map(|(query, relevance)| Some((query, judged.queries.get(query)?, relevance)))
            .collect();
        let mut queries = Vec::with_capacity(asked.len());
        for page in asked.chunks(AT_ONCE) {
            let asked = page
                .iter()
                .map(|(query, text, relevance)| self.judged(query, text, relevance));
            queries.extend(try_join_all(asked).await?);
        }
        Ok(Retrieval { queries })
    }

    /// A query, with its nDCG@10 by the old and by the new generation.
    async fn judged(
        &self,
        query: &str,
        text: &str,
        relevance: &BTreeMap<String, u32>,
    ) -> anyhow::Result<(String, f64, f64)> {
        let mut ndcg = [0.0; 2];
        for (open, ndcg) in [self.old, self.new].into_iter().zip(&mut ndcg) {
            let found = hits(open, &SearchQuery::deep(text, DEPTH)).await;
            let found = found.with_context(|| format!("query {query}"))?;
            let mut run = Run::default();
            run.insert(query, found.into_iter().map(judged_document).collect());
            *ndcg = ndcg_at_10(&run, query, relevance);
        }
        let [old, new] = ndcg;
        Ok((query.to_owned(), old, new))
    }

    async fn latencies(&self, queries: &[String]) -> anyhow::Result<Latencies> {
        // What is cold now is warm by the time that it serves.
        for text in queries {
            for open in [self.old, self.new] {
                hits(open, &SearchQuery::new(text)).await?;
            }
        }
        let mut latencies = Latencies::default();
        for text in queries {
            // In turns, so that what else the machine does meets both.
            for (open, times) in [
                (self.old, &mut latencies.old_ms),
                (self.new, &mut latencies.new_ms),
            ] {
                let began = Instant::now();
                hits(open, &SearchQuery::new(text)).await?;
                times.push(began.elapsed().as_secs_f64() * 1e3);
            }
        }
        Ok(latencies)
    }
}

/// The document as judgements name it: a line of a corpus by its id.
fn judged_document(hit: Hit) -> (String, f32) {
    let name = hit.uri.rsplit_once('#').map(|(_, line)| line.to_owned());
    (name.unwrap_or(hit.uri), hit.score)
}

/// How a document of the two generations compares.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Alike,
    /// The new model's tokenizer cuts its text elsewhere.
    CutElsewhere,
    Different,
}

#[derive(Default)]
struct Sampled {
    checksums: Checksums,
    dimensions: Dimensions,
    queries: Vec<String>,
}

/// A document as it is stored.
struct Stored {
    header: Record,
    chunks: Vec<Record>,
}

impl Stored {
    /// Whether all chunks are there that the header counts, each with its text.
    fn is_whole(&self) -> bool {
        let counted = self.header.chunk_count.unwrap_or(0) as usize;
        self.texts().count() == counted
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        self.chunks.iter().filter_map(|chunk| chunk.text.as_deref())
    }
}

async fn chunks(
    index: &dyn SearchIndex,
    id: &DocId,
    with_vectors: bool,
) -> Result<Option<Stored>, IndexError> {
    let header = index.get(&[id.to_string()]).await?.into_iter().next();
    let Some(header) = header.flatten().filter(|header| !header.deleted) else {
        return Ok(None);
    };
    let numbers = 0..header.chunk_count.unwrap_or(0);
    let ids: Vec<String> = numbers.map(|number| id.chunk(number)).collect();
    let chunks = index.fetch(&ids, with_vectors).await?;
    Ok(Some(Stored {
        header,
        chunks: chunks.into_iter().flatten().collect(),
    }))
}

/// All documents of a generation, by id.
async fn live(index: &dyn SearchIndex) -> Result<BTreeMap<String, Known>, IndexError> {
    let mut found = BTreeMap::new();
    let mut after: Option<String> = None;
    loop {
        let page = index.headers("", after.as_deref(), MAX_HEADERS).await?;
        let Some(last) = page.last() else {
            return Ok(found);
        };
        after = Some(last.uri.clone());
        for header in page.into_iter().filter(|header| !header.deleted) {
            let known = Known {
                uri: header.uri,
                version: header.version,
            };
            found.insert(header.doc_id, known);
        }
    }
}
