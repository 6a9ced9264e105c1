//! What every adapter must do: each scenario gets a fresh index of three dimensions.

mod generations;
mod searching;
mod writing;

use std::sync::Arc;

use millrace_index::{
    BulkAction, Generations, IndexSpec, ItemOutcome, KnnEngine, Record, SearchIndex, SearchRequest,
};

pub use generations::*;
pub use searching::*;
pub use writing::*;

/// Runs every scenario against what `$fresh` opens.
macro_rules! conformance_suite {
    ($fresh:expr) => {
        $crate::conformance::conformance_suite! { $fresh;
            an_equal_version_is_written_again_and_an_older_one_is_stale
            a_tombstone_refuses_a_late_older_update
            actions_of_one_batch_apply_in_order
            reads_by_id_are_realtime
            a_rejected_item_does_not_hold_its_neighbours_back
            headers_are_walked_in_the_order_of_their_uris
            a_sweep_removes_old_tombstones_only
            a_sweep_leaves_the_text_statistics_right
            counts_tell_documents_chunks_and_tombstones_apart
            a_document_is_one_hit_by_its_best_chunk
            headers_and_tombstones_are_not_found
            filters_restrict_every_mode
            text_scores_are_bm25
            tombstones_and_headers_do_not_change_bm25
            vector_scores_are_cosines
            hybrid_scores_are_min_max_and_the_weighted_mean
            rrf_scores_are_reciprocal_ranks
            requests_that_make_no_sense_are_refused
            ensure_twice_is_ensure_once
            an_index_of_another_dimension_is_refused
            an_index_of_another_model_is_refused
            two_generations_are_written_and_searched_at_once
            a_swap_moves_the_alias_and_no_search_that_has_begun
            an_alias_that_was_moved_is_left_where_it_is
            a_generation_is_removed_unless_it_serves
            nothing_works_before_ensure
        }
    };
    ($fresh:expr; $($scenario:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() -> anyhow::Result<()> {
                $crate::conformance::$scenario($fresh.await?).await
            }
        )*
    };
}
pub(crate) use conformance_suite;

/// A fresh, ensured index.
pub struct Fixture {
    pub index: Arc<dyn SearchIndex>,
    /// What opens others beside it.
    pub generations: Arc<dyn Generations>,
    /// Another handle to the same storage, not ensured.
    pub other_handle: Box<dyn Fn() -> anyhow::Result<Arc<dyn SearchIndex>>>,
    pub spec: IndexSpec,
    /// Whatever must outlive the index.
    pub _keep: Option<tempfile::TempDir>,
}

pub fn spec(name: String, dimension: usize) -> IndexSpec {
    IndexSpec {
        name,
        generation: 1,
        dimension,
        model_version: "test-1".to_owned(),
        model_fingerprint: "f00d".to_owned(),
        engine: KnnEngine::Lucene,
    }
}

pub fn header(doc_id: &str, version: i64, chunks: u32) -> Record {
    Record {
        id: doc_id.to_owned(),
        doc_id: doc_id.to_owned(),
        version,
        uri: format!("file:///data/{doc_id}"),
        model_version: "test-1".to_owned(),
        etag: Some(format!("etag-{version}")),
        chunk_count: Some(chunks),
        ..Record::default()
    }
}

pub fn chunk(doc_id: &str, number: u32, version: i64, text: &str, vector: [f32; 3]) -> Record {
    Record {
        id: format!("{doc_id}#{number}"),
        chunk: Some(number),
        text: Some(text.to_owned()),
        vector: Some(vector.to_vec()),
        etag: None,
        chunk_count: None,
        ..header(doc_id, version, 0)
    }
}

pub fn tombstone(record: &Record, version: i64) -> BulkAction {
    BulkAction::Tombstone {
        id: record.id.clone(),
        doc_id: record.doc_id.clone(),
        chunk: record.chunk,
        version,
        uri: record.uri.clone(),
    }
}

pub fn text_query(text: &str) -> SearchRequest {
    SearchRequest {
        text: Some(text.to_owned()),
        mode: millrace_index::Mode::Text,
        ..SearchRequest::default()
    }
}

pub fn vector_query(vector: [f32; 3]) -> SearchRequest {
    SearchRequest {
        vector: Some(vector.to_vec()),
        mode: millrace_index::Mode::Vector,
        ..SearchRequest::default()
    }
}

impl Fixture {
    /// Writes records that must all be taken, and makes them searchable.
    pub async fn load(&self, records: Vec<Record>) -> anyhow::Result<()> {
        let actions = records.into_iter().map(BulkAction::upsert).collect();
        let outcomes = self.index.bulk(actions).await?;
        anyhow::ensure!(
            outcomes.iter().all(|o| *o == ItemOutcome::Indexed),
            "not all were indexed: {outcomes:?}"
        );
        self.index.refresh().await?;
        Ok(())
    }

    pub async fn one(&self, action: BulkAction) -> anyhow::Result<ItemOutcome> {
        let mut outcomes = self.index.bulk(vec![action]).await?;
        anyhow::ensure!(outcomes.len() == 1);
        Ok(outcomes.remove(0))
    }

    pub async fn get(&self, id: &str) -> anyhow::Result<Option<Record>> {
        Ok(self.index.get(&[id.to_owned()]).await?.remove(0))
    }
}

pub fn close(got: f32, want: f64) {
    assert!(
        (f64::from(got) - want).abs() < 1e-5,
        "got {got}, want {want}"
    );
}
