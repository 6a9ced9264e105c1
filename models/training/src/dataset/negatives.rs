//! Hard negatives: what BM25 finds for a query and nobody said answers it.
//!
//! The embedded index itself finds them, in a folder that is gone afterwards: the words and scores
//! are those that a hybrid search will join the vectors with.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;

use millrace_index::{
    BulkAction, EmbeddedIndex, IndexError, IndexSpec, ItemOutcome, KnnEngine, MAX_WINDOW, Mode,
    Record, SearchIndex, SearchRequest,
};

use super::Pair;
use crate::error::DatasetError;

/// Passages a bulk request.
const BULK: usize = 500;

/// The passages at these ranks of BM25, from 1, for each query of `pairs`; ranks are counted over the
/// passages that do not answer the query, each text once.
pub(crate) async fn hard_negatives(
    pairs: &[Pair],
    passages: &[String],
    ranks: &RangeInclusive<usize>,
    progress: &mut (dyn FnMut(usize, usize) + Send),
) -> Result<HashMap<String, Vec<String>>, DatasetError> {
    let mut relevant: HashMap<&str, HashSet<&str>> = HashMap::new();
    for pair in pairs {
        relevant
            .entry(&pair.query)
            .or_default()
            .insert(&pair.positive);
    }
    let folder = tempfile::tempdir().map_err(|source| DatasetError::Write {
        path: std::env::temp_dir(),
        source,
    })?;
    let index = EmbeddedIndex::open(folder.path())?;
    fill(&index, passages).await?;
    let mut negatives = HashMap::new();
    for (done, (query, of_query)) in relevant.iter().enumerate() {
        let k = MAX_WINDOW.min(ranks.end() + of_query.len());
        let found = index
            .search(&SearchRequest {
                text: Some((*query).to_owned()),
                mode: Mode::Text,
                k,
                window: k,
                ..SearchRequest::default()
            })
            .await?;
        let others: Vec<String> = found
            .into_iter()
            .map(|hit| hit.text)
            .filter(|text| !of_query.contains(text.as_str()))
            .skip(ranks.start() - 1)
            .take(ranks.end() + 1 - ranks.start())
            .collect();
        negatives.insert((*query).to_owned(), others);
        progress(done + 1, relevant.len());
    }
    Ok(negatives)
}

async fn fill(index: &EmbeddedIndex, passages: &[String]) -> Result<(), DatasetError> {
    // Vectors play no part; the index wants to know their length all the same.
    let spec = IndexSpec {
        name: "passages".to_owned(),
        generation: 1,
        dimension: 1,
        model_version: String::new(),
        model_fingerprint: String::new(),
        engine: KnnEngine::default(),
    };
    index.ensure(&spec).await?;
    for (batch, texts) in passages.chunks(BULK).enumerate() {
        let actions = texts.iter().enumerate().map(|(offset, text)| {
            let id = (batch * BULK + offset).to_string();
            BulkAction::upsert(Record {
                id: format!("{id}#0"),
                doc_id: id,
                chunk: Some(0),
                version: 1,
                text: Some(text.clone()),
                ..Record::default()
            })
        });
        for outcome in index.bulk(actions.collect()).await? {
            if outcome != ItemOutcome::Indexed {
                return Err(DatasetError::Index(IndexError::Unavailable {
                    what: format!("a passage was not indexed: {outcome:?}"),
                    source: None,
                }));
            }
        }
    }
    index.refresh().await?;
    Ok(())
}
