//! A recording played again as if it happened now: what every ranking could have known, and no more.
//!
//! ```text
//! item event ──► signal ─┐
//! ranking ──► scores and features from what is known ──► its exposures ─┤
//! interaction ───────────────────────────────────────────────────────────┴─► join ──► feedback, counters ──► known
//! ```
//!
//! Events are taken in the order of the file, which also orders those of one time. A ranking is
//! looked at before its own exposures and clicks are: *prequential* evaluation (Dawid, "Statistical
//! Theory: The Prequential Approach", 1984). Behavior that a file tells before the ranking that it
//! names waits for that ranking.

mod outline;
mod play;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use millrace_joiner::{InvalidConfig, JoinerConfig, OfflineJoin};
use millrace_producers::recording::RecordingError;
use millrace_schemas::{BehaviorEvent, BehaviorKind, Signal};
use millrace_vectorizer::PassageError;
use serde::Serialize;

use crate::baselines::ItemCtr;
use crate::ranking::{ClickCounts, ClickJoin, Ranking};

pub use outline::Outline;
pub use play::Player;

/// Metadata of an item that the baseline of this name ranks by.
pub const POPULARITY: &str = "popularity";

/// Why a recording cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It cannot be read.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// An item's text cannot be encoded.
    #[error(transparent)]
    Passage(#[from] PassageError),
    /// It was another file when it was first looked at.
    #[error("line {line} of {} was not there at the first look: the file was changed meanwhile", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
    },
}

/// What was read of a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReplayCounts {
    /// Items told.
    pub items: u64,
    /// Behavior events, of exposures one each.
    pub events: u64,
    /// Lines that could not be read.
    pub unreadable: u64,
    /// Events that had come before, by their ids.
    pub duplicates: u64,
    /// Events whose item was never told.
    pub unmatched: u64,
    /// Rankings whose request id another one had before.
    pub repeated_rankings: u64,
    /// Clicks on rankings.
    pub clicks: ClickCounts,
}

/// What simple orders say of one ranking, at its time.
#[derive(Clone, Debug, PartialEq)]
pub struct BaselineScores {
    /// The items' own field [`POPULARITY`]; NaN where they have none.
    pub popularity: Vec<f64>,
    /// [`ItemCtr`].
    pub item_ctr: Vec<f64>,
}

/// All rankings of recordings, in their order.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// With their clicks.
    pub rankings: Vec<Ranking>,
    /// One for each ranking.
    pub baselines: Vec<BaselineScores>,
    /// What was read.
    pub counts: ReplayCounts,
}

/// A recording being played.
pub struct Replay {
    join: OfflineJoin,
    ctr: ItemCtr,
    popularity: HashMap<String, f64>,
    rankings: ClickJoin,
    baselines: Vec<BaselineScores>,
    /// Requests whose ranking is still to come.
    announced: HashSet<String>,
    held: HashMap<String, Vec<BehaviorEvent>>,
    counts: ReplayCounts,
}

impl Replay {
    /// Before the first event.
    ///
    /// # Errors
    /// Settings of the join that cannot work.
    pub fn new(joiner: &JoinerConfig) -> Result<Self, InvalidConfig> {
        Ok(Self {
            join: OfflineJoin::new(joiner)?,
            ctr: ItemCtr::default(),
            popularity: HashMap::new(),
            rankings: ClickJoin::default(),
            baselines: Vec::new(),
            announced: HashSet::new(),
            held: HashMap::new(),
            counts: ReplayCounts::default(),
        })
    }

    /// Says which rankings will come: behavior that names one of them waits for it.
    pub fn announce(&mut self, request_ids: impl IntoIterator<Item = String>) {
        self.announced.extend(request_ids);
    }

    /// Counts a line that could not be read.
    pub fn unreadable(&mut self) {
        self.counts.unreadable += 1;
    }

    /// Greater than that of every item told so far.
    #[must_use]
    pub fn next_document_version(&self) -> i64 {
        i64::try_from(self.counts.items + 1).unwrap_or(i64::MAX)
    }

    /// An item is told, or told anew.
    pub fn item(&mut self, signal: Signal) {
        self.counts.items += 1;
        let popularity = signal.metadata.get(POPULARITY);
        if let Some(popularity) = popularity.and_then(|value| value.trim().parse().ok()) {
            self.popularity.insert(signal.item_id.clone(), popularity);
        }
        self.take(vec![signal], vec![]);
    }

    /// A row of behavior: a ranking's exposures, which are one row, or a single event.
    pub fn behavior(&mut self, events: Vec<BehaviorEvent>) {
        if let Some(ranking) = ranking_of(&events) {
            let request_id = ranking.request_id.clone();
            self.announced.remove(&request_id);
            self.rank(ranking);
            self.observe(events);
            for event in self.held.remove(&request_id).unwrap_or_default() {
                self.observe(vec![event]);
            }
            return;
        }
        for event in events {
            match &event.request_id {
                Some(request_id) if self.announced.contains(request_id) => {
                    let held = self.held.entry(request_id.clone()).or_default();
                    held.push(event);
                }
                _ => self.observe(vec![event]),
            }
        }
    }

    /// Looks at a ranking with what is known before it.
    fn rank(&mut self, ranking: Ranking) {
        let popularity = |item: &String| self.popularity.get(item).copied().unwrap_or(f64::NAN);
        let baselines = BaselineScores {
            popularity: ranking.items.iter().map(popularity).collect(),
            item_ctr: ranking.items.iter().map(|item| self.ctr.of(item)).collect(),
        };
        if self.rankings.add(ranking) {
            self.baselines.push(baselines);
        }
    }

    /// Lets events be known.
    fn observe(&mut self, events: Vec<BehaviorEvent>) {
        for event in &events {
            self.counts.events += 1;
            self.ctr.count(event);
            self.rankings.click(event);
        }
        self.take(vec![], events);
    }

    fn take(&mut self, signals: Vec<Signal>, events: Vec<BehaviorEvent>) {
        let joined = self.join.step(signals, events);
        self.counts.duplicates += joined.duplicates;
        self.counts.unmatched += joined.unmatched.len() as u64;
    }

    /// The end of the recording.
    #[must_use]
    pub fn finish(mut self) -> Replayed {
        let joined = self.join.end_of_input();
        self.counts.unmatched += joined.unmatched.len() as u64;
        self.counts.clicks = self.rankings.counts();
        self.counts.repeated_rankings = self.rankings.repeated_requests();
        Replayed {
            rankings: self.rankings.into_rankings(),
            baselines: self.baselines,
            counts: self.counts,
        }
    }
}

/// The list that a row of exposures tells of.
fn ranking_of(events: &[BehaviorEvent]) -> Option<Ranking> {
    let first = events.first()?;
    let request_id = first.request_id.as_ref()?;
    let is_shown = |event: &BehaviorEvent| event.kind == BehaviorKind::Expose;
    // Single exposures come from dialects that have no rankings.
    (events.len() > 1 && events.iter().all(is_shown)).then(|| Ranking {
        request_id: request_id.clone(),
        user_id: first.user_id.clone(),
        shown_at_ms: first.event_time_ms,
        items: events.iter().map(|event| event.item_id.clone()).collect(),
        features: Vec::new(),
        clicked: vec![false; events.len()],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::Judged;
    use crate::samples::{event, shown, signal};

    fn click(request: &str, user: &str, item: &str, at_ms: i64) -> Vec<BehaviorEvent> {
        vec![event(user, item, BehaviorKind::Click, at_ms, Some(request))]
    }

    fn replay(rows: impl IntoIterator<Item = Vec<BehaviorEvent>>) -> Replayed {
        let mut replay = Replay::new(&JoinerConfig::default()).unwrap();
        let rows: Vec<_> = rows.into_iter().collect();
        let rankings = rows.iter().filter_map(|row| ranking_of(row));
        replay.announce(rankings.map(|ranking| ranking.request_id));
        for (item, popularity) in [("a", "3"), ("b", "2"), ("c", "1")] {
            replay.item(signal(item, vec![1.0, 0.0], &[(POPULARITY, popularity)]));
        }
        rows.into_iter().for_each(|row| replay.behavior(row));
        replay.finish()
    }

    /// Worked out by hand. `x` is shown and was never told.
    #[test]
    fn baselines_are_what_was_known_before_each_ranking() {
        let list = ["a", "b", "c", "x"];
        let replayed = replay([
            shown("r1", "u", 1_000, &list),
            click("r1", "u", "b", 2_000),
            shown("r2", "v", 3_000, &list),
            click("r2", "v", "c", 4_000),
            shown("r3", "u", 5_000, &list),
            click("r3", "u", "b", 6_000),
            shown("r4", "w", 7_000, &list),
        ]);
        let ctr = |ranking: usize| replayed.baselines[ranking].item_ctr.clone();
        assert_eq!(ctr(0), [0.0; 4], "nothing was shown before");
        // One click of four exposures; the prior is ten impressions at 1/4.
        let near = |found: &[f64], expected: [f64; 4]| {
            let near = found
                .iter()
                .zip(expected)
                .all(|(a, b)| (a - b).abs() < 1e-12);
            assert!(near, "{found:?} instead of {expected:?}");
        };
        near(&ctr(1), [2.5, 3.5, 2.5, 2.5].map(|clicks| clicks / 11.0));
        near(&ctr(2), [2.5, 3.5, 3.5, 2.5].map(|clicks| clicks / 12.0));
        near(&ctr(3), [2.5, 4.5, 3.5, 2.5].map(|clicks| clicks / 13.0));
        let popularity = &replayed.baselines[0].popularity;
        assert!(popularity[..3] == [3.0, 2.0, 1.0] && popularity[3].is_nan());

        let judged = Judged::new(&replayed.rankings, 0);
        assert_eq!((judged.len(), judged.skipped()), (3, 1));
        let by_ctr = judged.measure(|index, _| replayed.baselines[index].item_ctr.clone());
        let mean = judged.mean(&by_ctr).unwrap().ndcg_at_10;
        let place = |place: u32| 1.0 / f64::from(place + 1).log2();
        // All tied; `c` tied with two others behind `b`; `b` tied with `c` in front.
        let first = (1..=4).map(place).sum::<f64>() / 4.0;
        let second = (2..=4).map(place).sum::<f64>() / 3.0;
        let third = f64::midpoint(place(1), place(2));
        assert!(
            (mean - (first + second + third) / 3.0).abs() < 1e-12,
            "{mean}"
        );
        let by_popularity = judged.measure(|index, _| replayed.baselines[index].popularity.clone());
        let mean = judged.mean(&by_popularity).unwrap().ndcg_at_10;
        assert!(
            (mean - (place(2) + place(3) + place(2)) / 3.0).abs() < 1e-12,
            "{mean}"
        );

        let counts = replayed.counts;
        assert_eq!((counts.items, counts.events, counts.unmatched), (3, 19, 4));
        assert_eq!((counts.clicks.joined, counts.duplicates), (3, 0));
    }

    #[test]
    fn a_click_that_is_told_before_its_ranking_waits_for_it() {
        let list = ["a", "b", "c", "x"];
        let click_of_r2 = click("r2", "v", "c", 4_000);
        let in_order = replay([
            shown("r1", "u", 1_000, &list),
            shown("r2", "v", 3_000, &list),
            click_of_r2.clone(),
        ]);
        let told_early = replay([
            click_of_r2,
            shown("r1", "u", 1_000, &list),
            shown("r2", "v", 3_000, &list),
        ]);
        assert_eq!(told_early.rankings, in_order.rankings);
        assert_eq!(
            told_early.baselines[1].item_ctr,
            in_order.baselines[1].item_ctr
        );
        assert_eq!(told_early.counts, in_order.counts);
        // One that names a request nobody tells of is history.
        let foreign = replay([
            click("elsewhere", "v", "c", 500),
            shown("r1", "u", 1_000, &list),
        ]);
        assert!(foreign.baselines[0].item_ctr[2] > foreign.baselines[0].item_ctr[0]);
    }
}
