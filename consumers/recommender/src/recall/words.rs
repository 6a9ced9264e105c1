//! What a user is interested in, searched for as words.

use std::sync::Arc;
use std::time::Duration;

use millrace_features::Profile;
use millrace_index::{Hit, IndexError, MAX_WINDOW, Mode, SearchIndex, SearchRequest};
use millrace_retry::error_chain;
use tokio::task::JoinHandle;

use super::{Failure, Listed, Wanted, out_of_time};
use crate::admission::for_the_index;
use crate::config::SourceConfig;

/// Categories, tags and key phrases that are searched for, by the interest shown in them.
const INTEREST_TERMS: usize = 12;
/// Documents asked for per item wanted: some of them have been seen, or may not be shown.
const ASKED_PER_ITEM: usize = 2;

/// A search under way.
pub(super) struct TextSearch {
    task: JoinHandle<Result<Result<Vec<Hit>, IndexError>, tokio::time::error::Elapsed>>,
    config: SourceConfig,
}

impl TextSearch {
    /// Begins to search; `None` where the user has shown no interest that has words.
    pub fn start(
        index: &Arc<dyn SearchIndex>,
        profile: &Profile,
        wanted: &Wanted<'_>,
        config: SourceConfig,
    ) -> Option<Self> {
        let text = profile.interest_terms(INTEREST_TERMS).join(" ");
        if text.trim().is_empty() {
            return None;
        }
        let admission = wanted.admission;
        let k = (ASKED_PER_ITEM * config.limit).min(MAX_WINDOW);
        let request = SearchRequest {
            text: Some(text),
            mode: Mode::Text,
            k,
            window: k,
            filter: for_the_index(&admission.rules.filter, admission.caller),
            ..SearchRequest::default()
        };
        let index = Arc::clone(index);
        let limit = Duration::from_millis(config.timeout_ms);
        // A task of its own, so that it runs while vectors are compared.
        let task =
            tokio::spawn(async move { tokio::time::timeout(limit, index.search(&request)).await });
        Some(Self { task, config })
    }

    /// What was found, or why nothing was.
    pub async fn finished(self) -> Result<Vec<Listed>, Failure> {
        match self.task.await {
            Ok(Ok(Ok(hits))) => Ok(listed(hits)),
            Ok(Ok(Err(error))) => Err(index_failure(&error)),
            Ok(Err(_)) => Err(Failure {
                reason: out_of_time(self.config),
                index: true,
            }),
            Err(error) => Err(Failure {
                reason: error.to_string(),
                index: false,
            }),
        }
    }
}

pub(super) fn listed(hits: Vec<Hit>) -> Vec<Listed> {
    let listed = |hit: Hit| (hit.doc_id, hit.score);
    hits.into_iter().map(listed).collect()
}

pub(super) fn index_failure(error: &IndexError) -> Failure {
    Failure {
        reason: error_chain(error),
        index: true,
    }
}
