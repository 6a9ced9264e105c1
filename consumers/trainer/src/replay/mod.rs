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

mod known;
mod outline;
mod play;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use known::Known;
use millrace_features::{FeatureSet, FeatureSpec};
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
    /// A feature has seen its own future: a mistake in this program, and no result.
    #[error(
        "features of the ranking {request_id} in line {line} know of line {knows_of}: the result would \
         be of no worth"
    )]
    Leak {
        /// The ranking.
        request_id: String,
        /// Its line.
        line: u64,
        /// The last line that a feature depends on.
        knows_of: u64,
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
    /// The columns of the rankings' features.
    pub features: FeatureSpec,
    /// What was read.
    pub counts: ReplayCounts,
}

/// A recording being played.
pub struct Replay {
    join: OfflineJoin,
    known: Known,
    ctr: ItemCtr,
    popularity: HashMap<String, f64>,
    rankings: ClickJoin,
    baselines: Vec<BaselineScores>,
    /// Requests whose ranking is still to come.
    announced: HashSet<String>,
    held: HashMap<String, Vec<(u64, BehaviorEvent)>>,
    lines: u64,
    counts: ReplayCounts,
}

impl Replay {
    /// Before the first event. `embedding_version` names the encoder of the signals' vectors.
    ///
    /// # Errors
    /// Settings of the join that cannot work.
    pub fn new(
        joiner: &JoinerConfig,
        features: FeatureSet,
        embedding_version: &str,
    ) -> Result<Self, InvalidConfig> {
        Ok(Self {
            join: OfflineJoin::new(joiner)?,
            known: Known::new(features, embedding_version),
            ctr: ItemCtr::default(),
            popularity: HashMap::new(),
            rankings: ClickJoin::default(),
            baselines: Vec::new(),
            announced: HashSet::new(),
            held: HashMap::new(),
            lines: 0,
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

    /// Rankings so far.
    #[must_use]
    pub fn rankings(&self) -> usize {
        self.baselines.len()
    }

    /// The last line read, numbered through all recordings.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Says that all lines up to this one were read.
    pub fn read_to(&mut self, line: u64) {
        self.lines = self.lines.max(line);
    }

    /// Greater than that of every item told so far.
    #[must_use]
    pub fn next_document_version(&self) -> i64 {
        i64::try_from(self.counts.items + 1).unwrap_or(i64::MAX)
    }

    /// An item is told, or told anew, in this line. Lines are numbered through all recordings.
    pub fn item(&mut self, line: u64, signal: Signal) {
        self.counts.items += 1;
        let popularity = signal.metadata.get(POPULARITY);
        if let Some(popularity) = popularity.and_then(|value| value.trim().parse().ok()) {
            self.popularity.insert(signal.item_id.clone(), popularity);
        }
        self.known.item(signal.clone(), line);
        self.take(line, vec![signal], vec![]);
    }

    /// A line of behavior: a ranking's exposures, which are one line, or a single event.
    ///
    /// # Errors
    /// [`ReplayError::Leak`] where a ranking comes after behavior of a later line.
    pub fn behavior(&mut self, line: u64, events: Vec<BehaviorEvent>) -> Result<(), ReplayError> {
        if let Some(ranking) = ranking_of(&events) {
            let request_id = ranking.request_id.clone();
            self.announced.remove(&request_id);
            self.rank(line, ranking)?;
            self.observe(line, events);
            for (told_in, event) in self.held.remove(&request_id).unwrap_or_default() {
                self.observe(told_in.max(line), vec![event]);
            }
            return Ok(());
        }
        for event in events {
            match &event.request_id {
                Some(request_id) if self.announced.contains(request_id) => {
                    let held = self.held.entry(request_id.clone()).or_default();
                    held.push((line, event));
                }
                _ => self.observe(line, vec![event]),
            }
        }
        Ok(())
    }

    /// Looks at a ranking with what is known before it.
    fn rank(&mut self, line: u64, mut ranking: Ranking) -> Result<(), ReplayError> {
        let rows = self.known.rows(&ranking);
        if rows.last_line >= line {
            return Err(ReplayError::Leak {
                request_id: ranking.request_id,
                line,
                knows_of: rows.last_line,
            });
        }
        ranking.features = rows.rows;
        let popularity = |item: &String| self.popularity.get(item).copied().unwrap_or(f64::NAN);
        let baselines = BaselineScores {
            popularity: ranking.items.iter().map(popularity).collect(),
            item_ctr: ranking.items.iter().map(|item| self.ctr.of(item)).collect(),
        };
        if self.rankings.add(ranking) {
            self.baselines.push(baselines);
        }
        Ok(())
    }

    /// Lets events be known.
    fn observe(&mut self, line: u64, events: Vec<BehaviorEvent>) {
        for event in &events {
            self.counts.events += 1;
            self.ctr.count(event);
            self.rankings.click(event);
        }
        self.take(line, vec![], events);
    }

    fn take(&mut self, line: u64, signals: Vec<Signal>, events: Vec<BehaviorEvent>) {
        let joined = self.join.step(signals, events);
        self.counts.duplicates += joined.duplicates;
        self.counts.unmatched += joined.unmatched.len() as u64;
        self.known.joined(joined, line);
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
            features: self.known.set().spec(),
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
        let mut replay = started();
        let rows: Vec<_> = rows.into_iter().collect();
        let rankings = rows.iter().filter_map(|row| ranking_of(row));
        replay.announce(rankings.map(|ranking| ranking.request_id));
        for (line, row) in (10..).zip(rows) {
            replay.behavior(line, row).unwrap();
        }
        replay.finish()
    }

    /// Three items are told in lines 1 to 3.
    fn started() -> Replay {
        let features = FeatureSet::default_for("m");
        let mut replay = Replay::new(&JoinerConfig::default(), features, "m").unwrap();
        let items = [
            ("a", "3", [1.0, 0.0]),
            ("b", "2", [0.0, 1.0]),
            ("c", "1", [0.6, 0.8]),
        ];
        for (line, (item, popularity, vector)) in (1..).zip(items) {
            let signal = signal(item, vector.to_vec(), &[(POPULARITY, popularity)]);
            replay.item(line, signal);
        }
        replay
    }

    fn bits(replayed: &Replayed, ranking: usize) -> Vec<u32> {
        let row = &replayed.rankings[ranking].features;
        row.iter().map(|value| value.to_bits()).collect()
    }

    /// By the names of features, of one ranking's item.
    fn value(replayed: &Replayed, ranking: usize, item: usize, feature: &str) -> f32 {
        let names = &replayed.features.names;
        let column = names.iter().position(|name| name == feature).unwrap();
        replayed.rankings[ranking].features[item * names.len() + column]
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
        assert_eq!(told_early.rankings[1].clicked, [false, false, true, false]);
        assert_eq!(bits(&told_early, 1), bits(&in_order, 1));
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

    #[test]
    fn features_are_those_of_the_moment_and_an_item_that_was_never_told_has_none() {
        let list = ["a", "b", "c", "x"];
        let replayed = replay([
            shown("r1", "u", 1_000, &list),
            click("r1", "u", "b", 2_000),
            shown("r2", "u", 3_000, &list),
            shown("r3", "v", 4_000, &list),
        ]);
        let clicks = |ranking| [0, 1, 2].map(|item| value(&replayed, ranking, item, "clicks_24h"));
        assert_eq!(clicks(0), [0.0; 3]);
        assert_eq!(clicks(1), [0.0, 1.0, 0.0]);
        assert_eq!(value(&replayed, 1, 1, "impressions_24h"), 1.0);
        let cosine =
            |ranking| [0, 1, 2].map(|item| value(&replayed, ranking, item, "cosine_long_term"));
        assert!(cosine(0).iter().all(|cosine| cosine.is_nan()));
        assert!((cosine(1)[1] - 1.0).abs() < 1e-6 && (cosine(1)[2] - 0.8).abs() < 1e-6);
        assert!(
            cosine(2).iter().all(|cosine| cosine.is_nan()),
            "another user"
        );
        for feature in ["cosine_long_term", "popularity", "coec"] {
            assert!(value(&replayed, 1, 3, feature).is_nan(), "{feature}");
        }
    }

    /// The guard: an evaluation that lets clicks be known before their ranking was looked at.
    #[test]
    fn a_feature_that_has_seen_its_own_future_ends_the_replay() {
        let list = ["a", "b", "c"];
        let (ranking, click) = (shown("r1", "u", 1_000, &list), click("r1", "u", "b", 2_000));
        let mut honest = started();
        honest.behavior(10, ranking.clone()).unwrap();
        honest.behavior(11, click.clone()).unwrap();
        assert_eq!(value(&honest.finish(), 0, 1, "clicks_24h"), 0.0);

        let mut leaking = started();
        leaking.behavior(11, click).unwrap();
        let refused = leaking.behavior(10, ranking).unwrap_err();
        let ReplayError::Leak {
            request_id,
            line,
            knows_of,
        } = refused
        else {
            panic!("{refused}");
        };
        assert_eq!((request_id.as_str(), line, knows_of), ("r1", 10, 11));

        // Nor may an item be told by its own ranking's line, or a user's other list be known early.
        let mut leaking = started();
        leaking.item(10, signal("a", vec![1.0, 0.0], &[]));
        let list_of = |user| shown("r1", user, 1_000, &list);
        assert!(leaking.behavior(10, list_of("u")).is_err());
        let mut leaking = started();
        leaking
            .behavior(12, shown("r2", "u", 1_000, &["b", "c"]))
            .unwrap();
        assert!(leaking.behavior(10, list_of("u")).is_err());
    }

    /// The same without trusting the guard: whatever comes after a ranking, its row is the same.
    #[test]
    fn no_row_depends_on_what_comes_after_it() {
        let items = ["a", "b", "c", "x"];
        let rows: Vec<_> = (0_u8..40)
            .map(|n| {
                let (user, at_ms) = (["u", "v", "w"][usize::from(n) % 3], i64::from(n) * 60_000);
                let request = format!("r{}", n / 2);
                if n % 2 == 0 {
                    shown(&request, user, at_ms, &items)
                } else {
                    let user = ["u", "v", "w"][usize::from(n - 1) % 3];
                    click(&request, user, items[usize::from(n / 2) % 4], at_ms)
                }
            })
            .collect();
        let whole = replay(rows.clone());
        assert_eq!(whole.rankings.len(), 20);
        for end in 1..rows.len() {
            let cut = replay(rows[..end].to_vec());
            let last = cut.rankings.len() - 1;
            assert_eq!(bits(&cut, last), bits(&whole, last), "cut after {end}");
            assert_eq!(cut.baselines[last].item_ctr, whole.baselines[last].item_ctr);
        }
    }
}
