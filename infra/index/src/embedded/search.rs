//! Searching one generation: BM25, nearest vectors, or both fused, then one hit a document.

use std::collections::{HashMap, HashSet};

use tantivy::collector::TopDocs;
use tantivy::query::{BooleanQuery, ConstScoreQuery, Occur, Query, TermQuery};
use tantivy::schema::IndexRecordOption;
use tantivy::{DocAddress, Searcher, Term};

use super::analyzer::tokens;
use super::filter::{one_of, restrict};
use super::statistics::TextStatistics;
use super::storage_error;
use super::store::{Committed, Shared};
use crate::fusion::fuse;
use crate::{Filter, Hit, IndexError, Mode, SearchRequest};

/// A chunk found: its rank score and id.
type Ranked = (f32, String);

/// Finds at most `request.k` documents. The request is valid.
pub(super) fn search(shared: &Shared, request: &SearchRequest) -> Result<Vec<Hit>, IndexError> {
    let committed = &*shared.committed();
    let text = || -> Result<Vec<Ranked>, IndexError> {
        let words = request.text.as_deref().unwrap_or_default();
        by_text(shared, committed, words, request.window, |query| {
            restrict(query, &request.filter, &shared.fields)
        })
    };
    let query = request.vector.as_deref().unwrap_or_default();
    let vector = || {
        committed
            .mirror
            .nearest(query, request.window, &request.filter)
    };
    let mut text_scores = HashMap::new();
    let ranked: Vec<Ranked> = match request.mode {
        Mode::Text => {
            let found = text()?;
            text_scores.extend(found.iter().map(|(score, id)| (id.clone(), *score)));
            found
        }
        Mode::Vector => owned(&vector()),
        Mode::Hybrid => {
            let found = text()?;
            let list: Vec<(f32, &str)> = found.iter().map(|(s, id)| (*s, id.as_str())).collect();
            // The engine fuses its own vector scores, (1 + cosine) / 2.
            let nearest: Vec<(f32, &str)> = vector()
                .into_iter()
                .map(|(cosine, id)| (f32::midpoint(1.0, cosine), id))
                .collect();
            let fused = owned(&fuse(&list, &nearest, request.fusion));
            text_scores.extend(found.into_iter().map(|(score, id)| (id, score)));
            fused
        }
    };
    let best = best_chunks(ranked, request.k);
    if request.mode == Mode::Hybrid {
        add_text_scores(shared, committed, request, &best, &mut text_scores)?;
    }
    hits(shared, committed, request, best, &text_scores)
}

fn owned(ranked: &[(f32, &str)]) -> Vec<Ranked> {
    ranked
        .iter()
        .map(|(score, id)| (*score, (*id).to_owned()))
        .collect()
}

/// The first chunk of each document, at most `k`.
fn best_chunks(ranked: Vec<Ranked>, k: usize) -> Vec<Ranked> {
    let mut seen = HashSet::new();
    let mut best = Vec::with_capacity(k);
    for (score, id) in ranked {
        let document = id
            .rsplit_once('#')
            .map_or(id.as_str(), |(document, _)| document);
        if best.len() < k && seen.insert(document.to_owned()) {
            best.push((score, id));
        }
    }
    best
}

/// The `window` best chunks by BM25, best first, ties by id.
fn by_text(
    shared: &Shared,
    committed: &Committed,
    words: &str,
    window: usize,
    restricted: impl Fn(Box<dyn Query>) -> Box<dyn Query>,
) -> Result<Vec<Ranked>, IndexError> {
    let failed = |error| storage_error(&shared.path, "the text cannot be searched", error);
    let Some(query) = any_word(shared, words) else {
        return Ok(Vec::new());
    };
    let searcher = &committed.searcher;
    let statistics = TextStatistics {
        searcher,
        counts: &committed.text_counts,
    };
    let collector = TopDocs::with_limit(window).order_by_score();
    let found = searcher
        .search_with_statistics_provider(&restricted(query), &collector, &statistics)
        .map_err(failed)?;
    let mut ranked = found
        .into_iter()
        .map(|(score, address)| Ok((score, id_at(searcher, address)?)))
        .collect::<tantivy::Result<Vec<Ranked>>>()
        .map_err(failed)?;
    ranked.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    Ok(ranked)
}

/// Any of the words, a word that occurs twice counting twice, as a `match` query has it.
fn any_word(shared: &Shared, words: &str) -> Option<Box<dyn Query>> {
    let clauses: Vec<(Occur, Box<dyn Query>)> = tokens(words)
        .into_iter()
        .map(|token| {
            let term = Term::from_field_text(shared.fields.text, &token);
            let query = TermQuery::new(term, IndexRecordOption::WithFreqs);
            (Occur::Should, Box::new(query) as Box<dyn Query>)
        })
        .collect();
    (!clauses.is_empty()).then(|| Box::new(BooleanQuery::new(clauses)) as Box<dyn Query>)
}

fn id_at(searcher: &Searcher, address: DocAddress) -> tantivy::Result<String> {
    let segment = searcher.segment_reader(address.segment_ord);
    let mut id = String::new();
    if let Some(ids) = segment.fast_fields().str("id")?
        && let Some(ord) = ids.term_ords(address.doc_id).next()
    {
        ids.ord_to_str(ord, &mut id)?;
    }
    Ok(id)
}

/// BM25 of those best chunks that the text window did not hold.
fn add_text_scores(
    shared: &Shared,
    committed: &Committed,
    request: &SearchRequest,
    best: &[Ranked],
    scores: &mut HashMap<String, f32>,
) -> Result<(), IndexError> {
    let missing: Vec<String> = best
        .iter()
        .map(|(_, id)| id)
        .filter(|id| !scores.contains_key(*id))
        .cloned()
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let words = request.text.as_deref().unwrap_or_default();
    let only_these = |query: Box<dyn Query>| -> Box<dyn Query> {
        let these = ConstScoreQuery::new(one_of(shared.fields.id, &missing), 0.0);
        Box::new(BooleanQuery::new(vec![
            (Occur::Must, query),
            (Occur::Must, Box::new(these)),
        ]))
    };
    let found = by_text(shared, committed, words, missing.len(), only_these)?;
    scores.extend(found.into_iter().map(|(score, id)| (id, score)));
    Ok(())
}

fn hits(
    shared: &Shared,
    committed: &Committed,
    request: &SearchRequest,
    best: Vec<Ranked>,
    text_scores: &HashMap<String, f32>,
) -> Result<Vec<Hit>, IndexError> {
    let ids: Vec<String> = best.iter().map(|(_, id)| id.clone()).collect();
    let records = shared.fetch(&committed.searcher, &ids, false)?;
    let query = request
        .vector
        .as_deref()
        .filter(|_| request.mode != Mode::Text);
    let found = best
        .into_iter()
        .zip(records)
        .filter_map(|((score, id), record)| {
            let record = record?;
            Some(Hit {
                doc_id: record.doc_id,
                uri: record.uri,
                title: record.title,
                score,
                text_score: text_scores.get(&id).copied(),
                vector_score: query.and_then(|query| committed.mirror.cosine(&id, query)),
                text: record.text.unwrap_or_default(),
                chunk: record.chunk.unwrap_or_default(),
                version: record.version,
            })
        });
    Ok(found.collect())
}

/// Runs a search over everything, so that pages and caches are warm.
pub(super) fn warm_up(shared: &Shared) -> Result<(), IndexError> {
    let request = SearchRequest {
        text: Some("warm up".to_owned()),
        vector: Some(vec![1.0; shared.dimension]),
        filter: Filter::default(),
        ..SearchRequest::default()
    };
    search(shared, &request).map(|_| ())
}
