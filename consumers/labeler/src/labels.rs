//! What becomes of answers and clicks in one partition, without any input or output.
//!
//! A batch of records and what the state holds of their requests go in; changes of the state and records
//! to publish come out. Nothing here reads a clock or waits, so a test can play any interleaving.
//!
//! An answer's record is published at the first whole minute after its window, and again whenever a click
//! is counted later. Its revision counts the clicks in it, so it says which clicks these are: the first
//! so many on this answer in the topic's order.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;
use millrace_schemas::{BehaviorEvent, Impression, Origin, TrainingExample};
use millrace_state::{Change, Table};
use millrace_stateful::{BrokenValue, read, write};

use crate::config::LabelerConfig;
use crate::stats::Done;
use crate::values::{
    CLOSING, EarlyClick, FORGETTING, PROGRESS, Progress, REQUESTS, Request, event_key, hour,
    minute, minute_after, start_ms,
};
use crate::watermarks::Watermarks;

/// Clicks on an answer that has not come that are kept: whoever invents request ids must not fill the
/// state.
const MAX_EARLY: usize = 1_000;

/// An answer that can be read.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub impression: Impression,
    pub origin: Origin,
}

/// A click that can be read, on the answer that it names.
#[derive(Clone, Debug)]
pub(crate) struct Click {
    pub request_id: String,
    pub event: BehaviorEvent,
}

/// What both topics gave, each in its order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inputs {
    pub answers: Vec<Answer>,
    pub clicks: Vec<Click>,
}

/// What a batch comes to.
#[derive(Debug, Default)]
pub(crate) struct Labelled {
    pub changes: Vec<Change>,
    pub examples: Vec<TrainingExample>,
    pub done: Done,
}

/// One partition's answers. Made from the state, and thrown away where a write fails.
pub(crate) struct Labels {
    window_ms: i64,
    correction_ms: i64,
    progress: Progress,
    watermarks: Watermarks,
    /// The batch's own, from here on.
    requests: HashMap<String, Request>,
    changed: BTreeSet<String>,
    /// To be published, those whose windows have ended.
    due: BTreeSet<String>,
    parts: BTreeMap<(Table, String), bool>,
    labelled: Labelled,
}

impl Labels {
    /// From the value of [`PROGRESS`].
    pub fn open(
        config: &LabelerConfig,
        progress: Option<&[u8]>,
        now: Instant,
    ) -> Result<Self, BrokenValue> {
        let progress = progress.map(|value| read::<Progress>(PROGRESS, value));
        let progress = progress.transpose()?.unwrap_or_default();
        let idle_after = Duration::from_millis(config.idle_ms);
        Ok(Self {
            window_ms: config.window_ms,
            correction_ms: config.correction_hours.saturating_mul(3_600_000),
            watermarks: Watermarks::new(progress.reached, idle_after, now),
            progress,
            requests: HashMap::new(),
            changed: BTreeSet::new(),
            due: BTreeSet::new(),
            parts: BTreeMap::new(),
            labelled: Labelled::default(),
        })
    }

    /// ms since 1970; `None` before the first answer.
    pub fn watermark_ms(&self) -> Option<i64> {
        self.progress.reached.both_ms
    }

    /// The requests that [`Labels::load`] must be given before [`Labels::apply`].
    pub fn wanted(inputs: &Inputs) -> Vec<String> {
        let answers = inputs.answers.iter();
        let answers = answers.map(|answer| &answer.impression.request_id);
        let clicks = inputs.clicks.iter().map(|click| &click.request_id);
        let ids: BTreeSet<&String> = answers.chain(clicks).collect();
        ids.into_iter().cloned().collect()
    }

    /// Whether the batch has this request already, which may be newer than the state's.
    pub fn knows(&self, request_id: &str) -> bool {
        self.requests.contains_key(request_id)
    }

    /// Takes what the state holds of requests.
    pub fn load(
        &mut self,
        request_ids: Vec<String>,
        values: Vec<Option<Bytes>>,
    ) -> Result<(), BrokenValue> {
        for (request_id, value) in request_ids.into_iter().zip(values) {
            let request = value.map(|value| read(REQUESTS, &value)).transpose()?;
            self.requests
                .insert(request_id, request.unwrap_or_default());
        }
        Ok(())
    }

    /// Applies a batch whose requests were loaded.
    pub fn apply(&mut self, inputs: Inputs, now: Instant) {
        for answer in inputs.answers {
            let served_at_ms = answer.impression.served_at_ms;
            self.watermarks.answers.observe(served_at_ms, now);
            self.answer(answer);
        }
        for click in inputs.clicks {
            self.watermarks
                .clicks
                .observe(click.event.event_time_ms, now);
            self.click(click);
        }
        self.progress.reached = self.watermarks.reached();
    }

    fn answer(&mut self, answer: Answer) {
        let request_id = answer.impression.request_id.clone();
        let request = self.requests.entry(request_id.clone()).or_default();
        if request.example.is_some() {
            // Which of the two a click is about could not be told: the first one stays.
            self.labelled.done.repeated_answers += 1;
            return;
        }
        let Answer { impression, origin } = answer;
        let ends_ms = impression.served_at_ms.saturating_add(self.window_ms);
        let example = TrainingExample::without_clicks(impression, self.window_ms, origin);
        request.example = Some(example);
        for early in std::mem::take(&mut request.early) {
            count(request, &early, &mut self.labelled.done);
        }
        let closes = minute_after(ends_ms);
        let came_ms = self.watermarks.ms().unwrap_or(ends_ms).max(ends_ms);
        self.schedule_closing(&request_id, closes);
        self.remember(request_id, came_ms);
    }

    fn click(&mut self, click: Click) {
        let Click { request_id, event } = click;
        let early = EarlyClick {
            event: event_key(&event.event_id),
            item_id: event.item_id,
            event_time_ms: event.event_time_ms,
        };
        let request = self.requests.entry(request_id.clone()).or_default();
        if request.example.is_none() {
            let is_new = request.early.iter().all(|known| known.event != early.event);
            if is_new && request.early.len() >= MAX_EARLY {
                self.labelled.done.clicks.unanswered += 1;
            } else if is_new {
                self.labelled.done.clicks.waiting += 1;
                request.early.push(early);
                let came_ms = self.watermarks.ms().unwrap_or(event.event_time_ms);
                let came_ms = came_ms.max(event.event_time_ms);
                self.remember(request_id, came_ms.saturating_add(self.window_ms));
            } else {
                self.labelled.done.clicks.duplicates += 1;
            }
            return;
        }
        if count(request, &early, &mut self.labelled.done) {
            if request.published > 0 {
                self.due.insert(request_id.clone());
            }
            self.changed.insert(request_id);
        }
    }

    fn schedule_closing(&mut self, request_id: &str, closes: i64) {
        self.progress.close_minutes.insert(closes);
        let part = (CLOSING.part(closes), request_id.to_owned());
        self.parts.insert(part, true);
    }

    /// Keeps a request for the time of corrections after `last_ms`.
    fn remember(&mut self, request_id: String, last_ms: i64) {
        let forget_hour = hour(last_ms.saturating_add(self.correction_ms)) + 1;
        if let Some(request) = self.requests.get_mut(&request_id)
            && request.forget_hour < forget_hour
        {
            request.forget_hour = forget_hour;
            self.progress.forget_hours.insert(forget_hour);
            let part = (FORGETTING.part(forget_hour), request_id.clone());
            self.parts.insert(part, true);
        }
        self.changed.insert(request_id);
    }

    /// Lets the watermark go on with the clock.
    pub fn tick(&mut self, now: Instant) {
        self.watermarks.tick(now);
        self.progress.reached = self.watermarks.reached();
    }

    /// Nothing will come any more: all windows have ended.
    pub fn end_of_input(&mut self) {
        if let Some(&last) = self.progress.close_minutes.last() {
            self.watermarks.advance_to(start_ms(last));
            self.progress.reached = self.watermarks.reached();
        }
    }

    /// The first minute whose windows have ended.
    pub fn minute_to_close(&self) -> Option<i64> {
        let now = minute(self.watermark_ms()?);
        let first = self.progress.close_minutes.first().copied();
        first.filter(|&closes| closes <= now)
    }

    /// The requests that the batch itself has put into a part of a table.
    pub fn put_now(&self, table: &Table) -> Vec<String> {
        let parts = self.parts.iter().filter(|(_, put)| **put);
        let of_table = parts.filter(|((part, _), _)| part == table);
        of_table.map(|((_, id), _)| id.clone()).collect()
    }

    /// Publishes these loaded requests' first records; `all` where the minute has no others.
    pub fn close(&mut self, closes: i64, request_ids: Vec<String>, all: bool) {
        for request_id in request_ids {
            self.parts
                .insert((CLOSING.part(closes), request_id.clone()), false);
            let request = self.requests.get(&request_id);
            if request.is_some_and(|request| request.published == 0) {
                self.due.insert(request_id);
            }
        }
        if all {
            self.progress.close_minutes.remove(&closes);
        }
    }

    /// The first hour whose requests are to be forgotten now; none while windows are to be closed.
    pub fn hour_to_forget(&self) -> Option<i64> {
        let now = hour(self.watermark_ms()?);
        let first = self.progress.forget_hours.first().copied();
        first.filter(|&hour| hour <= now && self.minute_to_close().is_none())
    }

    /// Forgets these loaded requests, those of which nothing came since; `all` where the hour has no
    /// others.
    pub fn forget(&mut self, hour: i64, request_ids: Vec<String>, all: bool) {
        for request_id in request_ids {
            self.parts
                .insert((FORGETTING.part(hour), request_id.clone()), false);
            let Some(request) = self.requests.get_mut(&request_id) else {
                continue;
            };
            if request.forget_hour <= hour {
                self.labelled.done.clicks.unanswered += request.early.len() as u64;
                *request = Request::default();
                self.changed.insert(request_id);
            }
        }
        if all {
            self.progress.forget_hours.remove(&hour);
        }
    }

    /// Ends the batch: what to write and to publish.
    pub fn finish(&mut self) -> Labelled {
        let mut labelled = std::mem::take(&mut self.labelled);
        for request_id in std::mem::take(&mut self.due) {
            let Some(request) = self.requests.get_mut(&request_id) else {
                continue;
            };
            let Some(example) = &request.example else {
                continue;
            };
            if request.published == 0 {
                labelled.done.examples += 1;
            } else {
                labelled.done.corrections += 1;
            }
            request.published = example.revision;
            labelled.examples.push(example.clone());
            self.changed.insert(request_id);
        }
        let mut put = |table, key: String, value| {
            labelled.changes.push(Change {
                table,
                key: key.into_bytes(),
                value,
            });
        };
        for request_id in std::mem::take(&mut self.changed) {
            let request = self.requests.get(&request_id);
            let request = request.filter(|request| **request != Request::default());
            put(REQUESTS, request_id, request.map(write));
        }
        for ((table, request_id), is_there) in std::mem::take(&mut self.parts) {
            put(table, request_id, is_there.then(Vec::new));
        }
        put(PROGRESS, String::new(), Some(write(&self.progress)));
        self.requests.clear();
        labelled
    }
}

/// Counts a click on its answer. `false` where it counts nothing.
fn count(request: &mut Request, click: &EarlyClick, done: &mut Done) -> bool {
    let Some(example) = &mut request.example else {
        unreachable!("clicks are counted on answers that are there")
    };
    let place = example
        .items
        .iter()
        .position(|item| item.item_id == click.item_id);
    let Some(index) = place else {
        done.clicks.not_shown += 1;
        return false;
    };
    // Clocks differ: a click from before its answer is one on it all the same.
    let after_ms = click.event_time_ms.saturating_sub(example.served_at_ms);
    if after_ms > example.window_ms {
        done.clicks.outside += 1;
        return false;
    }
    if !request.counted.insert(click.event) {
        done.clicks.duplicates += 1;
        return false;
    }
    example.count_click(index, click.event_time_ms);
    done.clicks.counted += 1;
    true
}
