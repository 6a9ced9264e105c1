//! A list that was shown, and which of it was clicked.

use std::collections::{HashMap, HashSet};

use millrace_schemas::{BehaviorEvent, BehaviorKind};

/// How long after a list was shown a click on it counts, ms of event time.
pub const CLICK_WINDOW_MS: i64 = 30 * 60 * 1000;

/// A list that was shown to a user, in its order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranking {
    /// What behavior names as its `request_id`.
    pub request_id: String,
    /// Who saw it.
    pub user_id: String,
    /// When, ms since 1970.
    pub shown_at_ms: i64,
    /// The items.
    pub items: Vec<String>,
    /// `[items, features]`, as they were when the list was shown.
    pub features: Vec<f32>,
    /// Which items were clicked in time.
    pub clicked: Vec<bool>,
}

impl Ranking {
    /// Relevance of each item: 1 where it was clicked.
    #[must_use]
    pub fn grades(&self) -> Vec<u8> {
        self.clicked
            .iter()
            .map(|&clicked| u8::from(clicked))
            .collect()
    }

    /// Whether anything was clicked: an order can only be judged then.
    #[must_use]
    pub fn has_click(&self) -> bool {
        self.clicked.contains(&true)
    }
}

/// What became of clicks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ClickCounts {
    /// On an item of their list, in time.
    pub joined: u64,
    /// After the window.
    pub too_late: u64,
    /// Without a list that is known, or on an item that was not in it.
    pub unknown: u64,
    /// The same list's same item again.
    pub repeated: u64,
}

/// Lists by request id, and the clicks on them. The order of clicks makes no difference: one that is
/// delivered late corrects its list's labels as any other does.
#[derive(Clone, Debug, Default)]
pub struct ClickJoin {
    rankings: Vec<Ranking>,
    by_request: HashMap<String, usize>,
    counts: ClickCounts,
    repeated_requests: u64,
}

impl ClickJoin {
    /// Adds a list. `false` where its request id has one already: which of the two a click is about
    /// could not be told, so the first one stays.
    pub fn add(&mut self, ranking: Ranking) -> bool {
        if self.by_request.contains_key(&ranking.request_id) {
            self.repeated_requests += 1;
            return false;
        }
        self.by_request
            .insert(ranking.request_id.clone(), self.rankings.len());
        self.rankings.push(ranking);
        true
    }

    /// Labels what was clicked; of any other kind of behavior nothing follows.
    pub fn click(&mut self, event: &BehaviorEvent) {
        if event.kind != BehaviorKind::Click {
            return;
        }
        let request_id = event.request_id.as_deref().unwrap_or_default();
        let ranking = self.by_request.get(request_id).copied();
        let Some(ranking) = ranking.and_then(|index| self.rankings.get_mut(index)) else {
            self.counts.unknown += 1;
            return;
        };
        let Some(place) = ranking.items.iter().position(|id| *id == event.item_id) else {
            self.counts.unknown += 1;
            return;
        };
        // Clocks differ: a click from before its list was shown is one on it all the same.
        if event.event_time_ms.saturating_sub(ranking.shown_at_ms) > CLICK_WINDOW_MS {
            self.counts.too_late += 1;
        } else if ranking.clicked[place] {
            self.counts.repeated += 1;
        } else {
            ranking.clicked[place] = true;
            self.counts.joined += 1;
        }
    }

    /// What became of the clicks so far.
    #[must_use]
    pub fn counts(&self) -> ClickCounts {
        self.counts
    }

    /// Lists whose request id had one before.
    #[must_use]
    pub fn repeated_requests(&self) -> u64 {
        self.repeated_requests
    }

    /// The lists, in the order in which they were added.
    #[must_use]
    pub fn into_rankings(self) -> Vec<Ranking> {
        self.rankings
    }
}

/// The first ranking of each user, by position.
pub(crate) fn first_of_users(rankings: &[Ranking]) -> Vec<bool> {
    let mut users = HashSet::new();
    rankings
        .iter()
        .map(|ranking| users.insert(ranking.user_id.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn click(request: &str, item: &str, at_ms: i64) -> BehaviorEvent {
        crate::samples::event("u", item, BehaviorKind::Click, at_ms, Some(request))
    }

    #[test]
    fn clicks_label_their_list_within_half_an_hour_in_any_order() {
        let list = Ranking {
            request_id: "r".to_owned(),
            items: vec!["a".to_owned(), "b".to_owned(), "c".to_owned()],
            clicked: vec![false; 3],
            shown_at_ms: 1_000,
            ..Ranking::default()
        };
        let clicks = [
            click("r", "b", 1_000 + CLICK_WINDOW_MS),
            click("r", "c", 1_001 + CLICK_WINDOW_MS),
            click("r", "b", 2_000),
            click("r", "d", 2_000),
            click("s", "a", 2_000),
        ];
        let joined = |clicks: &mut dyn Iterator<Item = &BehaviorEvent>| {
            let mut join = ClickJoin::default();
            assert!(join.add(list.clone()));
            assert!(!join.add(list.clone()));
            clicks.for_each(|click| join.click(click));
            assert_eq!(join.repeated_requests(), 1);
            (join.counts(), join.into_rankings())
        };
        let (counts, rankings) = joined(&mut clicks.iter());
        assert_eq!(rankings[0].clicked, [false, true, false]);
        let expected = ClickCounts {
            joined: 1,
            too_late: 1,
            unknown: 2,
            repeated: 1,
        };
        assert_eq!(counts, expected);
        assert_eq!(joined(&mut clicks.iter().rev()), (counts, rankings));
    }
}
