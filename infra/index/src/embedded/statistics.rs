//! What BM25 knows about the collection.
//!
//! tantivy counts every stored document, so headers and tombstones, which have no text, would
//! raise N and lower the average length. As in Lucene, N here is the number of documents with at
//! least one term. Replaced chunks count until their segment is merged, in Lucene as here.

use std::collections::HashMap;

use tantivy::query::Bm25StatisticsProvider;
use tantivy::schema::Field;
use tantivy::{Searcher, SegmentReader, Term, index::SegmentId};

/// Documents with text in each segment; segments never change, so each is counted once.
#[derive(Clone, Debug, Default)]
pub(super) struct TextCounts(HashMap<SegmentId, u64>);

impl TextCounts {
    /// The counts for the segments of `searcher`, reusing those already known.
    pub(super) fn update(&self, searcher: &Searcher, text: Field) -> tantivy::Result<Self> {
        let mut counts = HashMap::new();
        for segment in searcher.segment_readers() {
            let id = segment.segment_id();
            let count = match self.0.get(&id) {
                Some(count) => *count,
                None => documents_with_text(segment, text)?,
            };
            counts.insert(id, count);
        }
        Ok(Self(counts))
    }

    fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

fn documents_with_text(segment: &SegmentReader, text: Field) -> tantivy::Result<u64> {
    let Some(lengths) = segment.fieldnorms_readers().get_field(text)? else {
        return Ok(0);
    };
    let with_text = (0..segment.max_doc()).filter(|doc| lengths.fieldnorm_id(*doc) > 0);
    Ok(with_text.count() as u64)
}

/// The statistics for one search.
pub(super) struct TextStatistics<'a> {
    pub(super) searcher: &'a Searcher,
    pub(super) counts: &'a TextCounts,
}

impl Bm25StatisticsProvider for TextStatistics<'_> {
    fn total_num_tokens(&self, field: Field) -> tantivy::Result<u64> {
        self.searcher.total_num_tokens(field)
    }

    fn total_num_docs(&self) -> tantivy::Result<u64> {
        Ok(self.counts.total())
    }

    fn doc_freq(&self, term: &Term) -> tantivy::Result<u64> {
        self.searcher.doc_freq(term)
    }
}
