//! The user's vectors, and what is near to them: in memory, or in the index where there are many items.

use std::sync::Arc;
use std::time::Instant;

use futures::future::join_all;
use millrace_features::Profile;
use millrace_index::{MAX_WINDOW, Mode, SearchIndex, SearchRequest};

use super::words::{index_failure, listed};
use super::{Failure, Listed, Wanted, left, out_of_time};
use crate::admission::for_the_index;
use crate::answer::Source;
use crate::catalog::{Catalog, Query, nearest};
use crate::config::SourceConfig;

/// Items that the user acted on last, whose likes are looked for.
const LAST_ITEMS: usize = 3;
/// Documents asked of the index per item wanted: some of them have been seen, or may not be shown.
const ASKED_PER_ITEM: usize = 2;

/// What is near to a user.
pub(super) struct NearItems {
    /// To the user's own vector.
    pub semantic: Result<Vec<Listed>, Failure>,
    /// To what they acted on last.
    pub item_to_item: Result<Vec<Listed>, Failure>,
}

/// An item whose likes are looked for, with its vector.
pub(crate) type Liked = (String, Vec<f32>);

/// The vectors that items are compared with.
struct UserVectors {
    own: Option<Vec<f32>>,
    last: Vec<Liked>,
}

/// The vector that a user's interests have in common, `[dimension]`, length 1: the middle of the
/// long-term one and, while a session lasts, the session's. `None` for a profile without vectors.
pub(crate) fn own_vector(profile: &Profile, now_ms: i64) -> Option<Vec<f32>> {
    let long_term = profile.long_term()?;
    let Some(session) = profile
        .session(now_ms)
        .filter(|s| s.len() == long_term.len())
    else {
        return Some(long_term.to_vec());
    };
    let sum: Vec<f32> = long_term.iter().zip(session).map(|(a, b)| a + b).collect();
    let length = sum.iter().map(|x| x * x).sum::<f32>().sqrt();
    // Opposite directions have no middle.
    if length < 1e-3 {
        return Some(session.to_vec());
    }
    Some(sum.iter().map(|x| x / length).collect())
}

pub(super) async fn search(
    catalog: &Catalog,
    index: &Arc<dyn SearchIndex>,
    wanted: &Wanted<'_>,
    started: Instant,
) -> NearItems {
    let semantic = wanted.limit(&[Source::SemanticRecall, Source::Hybrid]);
    let item_to_item = wanted.limit(&[Source::ItemToItem]);
    let nothing = || NearItems {
        semantic: Ok(Vec::new()),
        item_to_item: Ok(Vec::new()),
    };
    let comparable = |profile: &&Profile| profile.model_version() == wanted.embedding_version;
    let profile = wanted.profile.filter(comparable);
    let own = |profile| own_vector(profile, wanted.admission.now_ms);
    let vectors = UserVectors {
        own: semantic.and(profile).and_then(own),
        last: match (item_to_item, profile) {
            (None, _) => Vec::new(),
            (Some(_), _) if !wanted.like.is_empty() => wanted.like.to_vec(),
            (Some(_), Some(profile)) => last_items(catalog, profile),
            (Some(_), None) => Vec::new(),
        },
    };
    if vectors.own.is_none() && vectors.last.is_empty() {
        return nothing();
    }
    if catalog.read().table.len() <= wanted.scan_items {
        return scan(catalog, wanted, &vectors, (semantic, item_to_item), started);
    }
    let ask = |vector: Vec<f32>, config: Option<SourceConfig>| async move {
        match config {
            Some(config) => ask_index(index, wanted, vector, config, started).await,
            None => Ok(Vec::new()),
        }
    };
    let own = async {
        match vectors.own.clone() {
            Some(vector) => ask(vector, semantic).await,
            None => Ok(Vec::new()),
        }
    };
    let last = vectors
        .last
        .iter()
        .map(|(_, vector)| ask(vector.clone(), item_to_item));
    let (semantic, last) = futures::join!(own, join_all(last));
    NearItems {
        semantic,
        item_to_item: greatest_of_each(last, &vectors),
    }
}

/// What the user acted on last, with the catalog's vectors: those of the profile are rounded.
fn last_items(catalog: &Catalog, profile: &Profile) -> Vec<Liked> {
    let inner = catalog.read();
    let with_vector = profile.recent().filter_map(|recent| {
        let known = inner.table.get(&recent.item_id);
        let vector = match known {
            Some(item) => Some(item.signal.vector.clone()),
            None => recent.vector(),
        };
        let vector = vector.filter(|vector| !vector.is_empty())?;
        Some((recent.item_id.clone(), vector))
    });
    with_vector.take(LAST_ITEMS).collect()
}

/// One walk over all items, for whichever vectors there are.
fn scan(
    catalog: &Catalog,
    wanted: &Wanted<'_>,
    vectors: &UserVectors,
    (semantic, item_to_item): (Option<SourceConfig>, Option<SourceConfig>),
    started: Instant,
) -> NearItems {
    let own = vectors.own.as_deref().zip(semantic);
    let own = own.map(|(vector, config)| Query {
        vectors: vec![vector],
        limit: config.limit,
    });
    let last: Vec<&[f32]> = vectors.last.iter().map(|(_, vector)| &**vector).collect();
    let last = item_to_item
        .filter(|_| !last.is_empty())
        .map(|config| Query {
            vectors: last,
            // The items themselves are nearest to themselves.
            limit: config.limit + vectors.last.len(),
        });
    let is_own = own.is_some();
    let queries: Vec<Query<'_>> = own.into_iter().chain(last).collect();
    let Some(longest) = semantic
        .into_iter()
        .chain(item_to_item)
        .max_by_key(|c| c.timeout_ms)
    else {
        return NearItems {
            semantic: Ok(Vec::new()),
            item_to_item: Ok(Vec::new()),
        };
    };
    let deadline = Instant::now() + left(started, longest);
    let inner = catalog.read();
    let found = nearest(&inner.table, &queries, deadline, |signal| {
        wanted.admission.admits(signal)
    });
    drop(inner);
    let mut lists = match found {
        Ok(lists) => lists.into_iter(),
        Err(_) => {
            let failure = Failure {
                reason: out_of_time(longest),
                index: false,
            };
            return NearItems {
                semantic: Err(failure.clone()),
                item_to_item: Err(failure),
            };
        }
    };
    let mut next = || {
        let list = lists.next().unwrap_or_default();
        let list = list
            .into_iter()
            .map(|(score, signal)| (signal.item_id.clone(), score));
        list.collect::<Vec<Listed>>()
    };
    let semantic = if is_own { next() } else { Vec::new() };
    let mut item_to_item = next();
    item_to_item.retain(|(id, _)| !vectors.last.iter().any(|(last, _)| last == id));
    NearItems {
        semantic: Ok(semantic),
        item_to_item: Ok(item_to_item),
    }
}

async fn ask_index(
    index: &Arc<dyn SearchIndex>,
    wanted: &Wanted<'_>,
    vector: Vec<f32>,
    config: SourceConfig,
    started: Instant,
) -> Result<Vec<Listed>, Failure> {
    let admission = wanted.admission;
    let k = (ASKED_PER_ITEM * config.limit).min(MAX_WINDOW);
    let request = SearchRequest {
        vector: Some(vector),
        mode: Mode::Vector,
        k,
        window: k,
        filter: for_the_index(&admission.rules.filter, admission.caller),
        ..SearchRequest::default()
    };
    match tokio::time::timeout(left(started, config), index.search(&request)).await {
        Ok(Ok(hits)) => Ok(listed(hits)),
        Ok(Err(error)) => Err(index_failure(&error)),
        Err(_) => Err(Failure {
            reason: out_of_time(config),
            index: true,
        }),
    }
}

/// Several lists as one, each item by its greatest score; the first failure where all failed.
fn greatest_of_each(
    lists: Vec<Result<Vec<Listed>, Failure>>,
    vectors: &UserVectors,
) -> Result<Vec<Listed>, Failure> {
    let mut greatest = std::collections::BTreeMap::<String, f32>::new();
    let mut failure = None;
    let mut any = lists.is_empty();
    for list in lists {
        match list {
            Err(error) => failure = failure.or(Some(error)),
            Ok(list) => {
                any = true;
                for (id, score) in list {
                    let known = greatest.entry(id).or_insert(score);
                    *known = known.max(score);
                }
            }
        }
    }
    if let Some(failure) = failure.filter(|_| !any) {
        return Err(failure);
    }
    let mut list: Vec<Listed> = greatest.into_iter().collect();
    list.retain(|(id, _)| !vectors.last.iter().any(|(last, _)| last == id));
    list.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    Ok(list)
}

#[cfg(test)]
mod tests {
    use millrace_features::{ProfileSettings, SESSION_GAP_MS};
    use millrace_schemas::BehaviorKind::Click;

    use super::*;
    use crate::samples::{MODEL, feedback_of, signal};

    const NOW_MS: i64 = 1_700_000_000_000;

    fn clicked(vectors: &[([f32; 2], i64)]) -> Profile {
        let mut profile = Profile::new("u", MODEL);
        for (n, (vector, ago_ms)) in vectors.iter().enumerate() {
            let mut signal = signal(&n.to_string(), 1);
            signal.vector = vector.to_vec();
            let feedback = feedback_of(signal, Click, NOW_MS - ago_ms);
            profile.apply(&feedback, &ProfileSettings::default());
        }
        profile
    }

    #[test]
    fn a_session_turns_the_users_vector_until_it_is_over() {
        assert_eq!(own_vector(&Profile::new("u", MODEL), NOW_MS), None);
        let day_ms = 24 * 3_600_000;
        // Two clicks of yesterday, and one of now on something else.
        let profile = clicked(&[([1.0, 0.0], day_ms), ([1.0, 0.0], day_ms), ([0.0, 1.0], 0)]);
        let long_term = profile.long_term().unwrap().to_vec();
        assert!(long_term[0] > long_term[1]);
        let now = own_vector(&profile, NOW_MS).unwrap();
        assert!(now[1] > long_term[1], "{now:?} and {long_term:?}");
        assert!((now.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
        let later = own_vector(&profile, NOW_MS + SESSION_GAP_MS + 1);
        assert_eq!(later, Some(long_term));
    }

    #[test]
    fn of_several_lists_an_item_has_its_greatest_score() {
        let vectors = UserVectors {
            own: None,
            last: vec![("last".to_owned(), vec![1.0])],
        };
        let list = |items: &[(&str, f32)]| {
            let item = |(id, score): &(&str, f32)| ((*id).to_owned(), *score);
            Ok(items.iter().map(item).collect())
        };
        let failure = || {
            Err(Failure {
                reason: "away".to_owned(),
                index: true,
            })
        };
        let lists = vec![
            list(&[("last", 1.0), ("b", 0.5), ("a", 0.4)]),
            failure(),
            list(&[("a", 0.9), ("c", 0.5)]),
        ];
        let merged = greatest_of_each(lists, &vectors).unwrap();
        let ids: Vec<&str> = merged.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids, ["a", "b", "c"]);
        // One answer is enough; none is a failure.
        assert!(greatest_of_each(vec![failure(), failure()], &vectors).is_err());
        assert!(greatest_of_each(Vec::new(), &vectors).is_ok());
    }
}
