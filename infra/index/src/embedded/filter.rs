//! The filter, once for the scan of vectors and once for tantivy: both must mean the same.

use std::collections::HashMap;
use std::ops::Bound;

use tantivy::Term;
use tantivy::query::{
    AllQuery, BooleanQuery, ConstScoreQuery, Occur, Query, RangeQuery, TermQuery, TermSetQuery,
};
use tantivy::schema::{Field, IndexRecordOption};

use super::schema::Fields;
use crate::{Filter, Record};

/// Numbers for names that repeat in many chunks.
#[derive(Debug, Default)]
pub(super) struct Names(HashMap<Box<str>, u32>);

impl Names {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.0.get(name) {
            return *number;
        }
        let number = self.0.len() as u32;
        self.0.insert(name.into(), number);
        number
    }
}

/// What a filter asks about a chunk.
#[derive(Clone, Debug)]
pub(super) struct ChunkFacts {
    doc_id: Box<str>,
    uri: Box<str>,
    tags: Box<[u32]>,
    categories: Box<[u32]>,
    language: Option<u32>,
    media_type: Option<u32>,
    published_at_ms: Option<i64>,
}

impl ChunkFacts {
    pub(super) fn of(record: &Record, names: &mut Names) -> Self {
        let numbers =
            |list: &[String], names: &mut Names| list.iter().map(|n| names.number(n)).collect();
        Self {
            doc_id: record.doc_id.as_str().into(),
            uri: record.uri.as_str().into(),
            tags: numbers(&record.tags, names),
            categories: numbers(&record.categories, names),
            language: record.language.as_deref().map(|n| names.number(n)),
            media_type: record.media_type.as_deref().map(|n| names.number(n)),
            published_at_ms: record.published_at_ms,
        }
    }
}

/// A filter in the numbers of [`Names`].
#[derive(Debug)]
pub(super) struct MirrorFilter {
    /// A required name that no chunk has.
    nothing: bool,
    empty: bool,
    tags: Vec<u32>,
    categories: Vec<u32>,
    language: Option<u32>,
    media_type: Option<u32>,
    filter: Filter,
}

impl MirrorFilter {
    pub(super) fn compile(filter: &Filter, names: &Names) -> Self {
        let number = |name: &String| names.0.get(name.as_str()).copied();
        let all = |list: &[String]| list.iter().map(number).collect::<Vec<_>>();
        let tags = all(&filter.tags);
        let categories: Vec<u32> = all(&filter.categories).into_iter().flatten().collect();
        let language = filter.language.as_ref().map(number);
        let media_type = filter.media_type.as_ref().map(number);
        Self {
            nothing: tags.contains(&None)
                || (categories.is_empty() && !filter.categories.is_empty())
                || language == Some(None)
                || media_type == Some(None),
            empty: filter.is_empty(),
            tags: tags.into_iter().flatten().collect(),
            categories,
            language: language.flatten(),
            media_type: media_type.flatten(),
            filter: filter.clone(),
        }
    }

    #[inline]
    pub(super) fn passes(&self, chunk: &ChunkFacts) -> bool {
        if self.empty {
            return true;
        }
        let filter = &self.filter;
        let published = |test: &dyn Fn(i64) -> bool| chunk.published_at_ms.is_some_and(test);
        !self.nothing
            && self.tags.iter().all(|tag| chunk.tags.contains(tag))
            && (self.categories.is_empty()
                || self.categories.iter().any(|c| chunk.categories.contains(c)))
            && (self.language.is_none() || self.language == chunk.language)
            && (self.media_type.is_none() || self.media_type == chunk.media_type)
            && filter
                .published_from_ms
                .is_none_or(|from| published(&|at| at >= from))
            && filter
                .published_before_ms
                .is_none_or(|before| published(&|at| at < before))
            && filter
                .uri_prefix
                .as_deref()
                .is_none_or(|prefix| chunk.uri.starts_with(prefix))
            && !filter
                .exclude_doc_ids
                .iter()
                .any(|id| **id == *chunk.doc_id)
    }
}

/// `query` restricted by `filter`, scores unchanged.
pub(super) fn restrict(query: Box<dyn Query>, filter: &Filter, fields: &Fields) -> Box<dyn Query> {
    if filter.is_empty() {
        return query;
    }
    let mut clauses: Vec<(Occur, Box<dyn Query>)> = vec![(Occur::Must, query)];
    let mut must = |condition: Box<dyn Query>| {
        clauses.push((Occur::Must, Box::new(ConstScoreQuery::new(condition, 0.0))));
    };
    for tag in &filter.tags {
        must(is(fields.tags, tag));
    }
    if !filter.categories.is_empty() {
        must(one_of(fields.categories, &filter.categories));
    }
    if let Some(language) = &filter.language {
        must(is(fields.language, language));
    }
    if let Some(media_type) = &filter.media_type {
        must(is(fields.media_type, media_type));
    }
    if let Some(prefix) = filter.uri_prefix.as_deref().filter(|p| !p.is_empty()) {
        must(starts_with(fields.uri, prefix));
    }
    if filter.published_from_ms.is_some() || filter.published_before_ms.is_some() {
        let term = |ms| Term::from_field_i64(fields.published_at_ms, ms);
        let from = filter.published_from_ms.map_or(i64::MIN, |ms| ms);
        let to = filter.published_before_ms;
        must(Box::new(RangeQuery::new(
            Bound::Included(term(from)),
            to.map_or(Bound::Included(term(i64::MAX)), |ms| {
                Bound::Excluded(term(ms))
            }),
        )));
    }
    if !filter.exclude_doc_ids.is_empty() {
        clauses.push((
            Occur::MustNot,
            one_of(fields.doc_id, &filter.exclude_doc_ids),
        ));
    }
    Box::new(BooleanQuery::new(clauses))
}

fn is(field: Field, value: &str) -> Box<dyn Query> {
    let term = Term::from_field_text(field, value);
    Box::new(TermQuery::new(term, IndexRecordOption::Basic))
}

pub(super) fn one_of(field: Field, values: &[String]) -> Box<dyn Query> {
    Box::new(TermSetQuery::new(
        values
            .iter()
            .map(|value| Term::from_field_text(field, value)),
    ))
}

fn starts_with(field: Field, prefix: &str) -> Box<dyn Query> {
    let from = Term::from_field_text(field, prefix);
    // The least string greater than all that start with the prefix; terms are compared bytewise.
    let mut end = prefix.as_bytes().to_vec();
    while end.pop_if(|byte| *byte == u8::MAX).is_some() {}
    match end.last_mut() {
        Some(byte) => *byte += 1,
        None => return Box::new(AllQuery),
    }
    let mut to = Term::from_field_text(field, "");
    to.append_bytes(&end);
    Box::new(RangeQuery::new(Bound::Included(from), Bound::Excluded(to)))
}
