//! What is said of a list that is not what the scene wants.

use std::collections::BTreeSet;

use super::plan::FALLBACK_SOURCES;
use crate::answer::{Fallback, FallbackReason, Source};
use crate::rank::Placed;

/// The reason where candidates could not be scored; the problem is logged.
pub(super) fn ranking_failed(problem: Option<String>) -> Option<FallbackReason> {
    let problem = problem?;
    tracing::error!(
        problem,
        "candidates can't be scored; they stand as they were found"
    );
    Some(FallbackReason::RankingFailed)
}

/// The reason, and what the list that there is was made of.
pub(super) fn fallback(reason: FallbackReason, placed: &[Placed]) -> Fallback {
    let sources = placed
        .iter()
        .flat_map(|placed| &placed.scored.candidate.sources)
        .map(|found| found.source);
    let mut sources: Vec<Source> = sources.collect::<BTreeSet<_>>().into_iter().collect();
    if sources.is_empty() {
        sources.extend(FALLBACK_SOURCES);
    }
    let message = match reason {
        FallbackReason::UnknownUser => "nothing is known of this user yet",
        FallbackReason::ColdUser => {
            "this user has done nothing yet that items could be compared with"
        }
        FallbackReason::NoCandidates if placed.is_empty() => {
            "no item may be shown here: there is none yet, or the scene's rules exclude all"
        }
        FallbackReason::NothingPassesTheFilter => {
            "of the items that may be shown here none passes the filter of the request"
        }
        FallbackReason::NoCandidates => {
            "nothing new may be shown to this user here; items that they have seen are among these"
        }
        FallbackReason::UnknownItems => {
            "none of the given items is known; the list is of what suits this user"
        }
        FallbackReason::ProfilesUnavailable => "the feature store does not answer",
        FallbackReason::IndexUnavailable => "the search index does not answer",
        FallbackReason::CatalogNotReady => "items are still being read after the start",
        FallbackReason::RankingFailed => {
            "candidates can't be scored; they stand as they were found"
        }
    };
    Fallback {
        reason,
        message: message.to_owned(),
        sources,
    }
}
