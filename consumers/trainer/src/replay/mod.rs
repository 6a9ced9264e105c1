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
mod tests;
