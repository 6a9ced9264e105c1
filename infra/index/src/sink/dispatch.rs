//! The sink's one task: cuts batches, sends them, and decides about every item that comes back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::concurrency::Aimd;
use super::poison::PoisonWatch;
use super::{SinkConfig, SinkState};
use crate::{BulkAction, FinalOutcome, IndexError, ItemOutcome, Obstacle, Rejection, SearchIndex};
use millrace_retry::{FullJitter, error_chain};

/// An item on its way.
#[derive(Debug)]
pub(super) struct Item {
    action: BulkAction,
    bytes: usize,
    reply: oneshot::Sender<FinalOutcome>,
    attempts: u32,
    jitter: Option<FullJitter>,
    last_failed: Option<Instant>,
    /// How long it has been failing while others passed.
    failing_alone: Duration,
    _permit: OwnedSemaphorePermit,
}

impl Item {
    pub(super) fn new(
        action: BulkAction,
        bytes: usize,
        reply: oneshot::Sender<FinalOutcome>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            action,
            bytes,
            reply,
            attempts: 0,
            jitter: None,
            last_failed: None,
            failing_alone: Duration::ZERO,
            _permit: permit,
        }
    }

    fn finish(self, outcome: FinalOutcome) {
        // Nobody waiting any more is no error: the offset then stays where it is.
        let _ = self.reply.send(outcome);
    }
}

/// Why nothing is sent but probes.
enum Halt {
    /// The index refuses everything.
    Refused,
    /// Most items are rejected.
    Poison,
}

struct Halted {
    why: Halt,
    jitter: FullJitter,
    probe_at: Instant,
}

struct Answer {
    items: Vec<Item>,
    result: Result<Vec<ItemOutcome>, IndexError>,
}

pub(super) struct Dispatcher {
    index: Arc<dyn SearchIndex>,
    config: SinkConfig,
    arrivals: mpsc::Receiver<Item>,
    state: watch::Sender<SinkState>,
    open: bool,
    pending: VecDeque<Item>,
    pending_bytes: usize,
    oldest: Instant,
    newest: Instant,
    /// Batches are cut at this many bytes: the configured size, or less after a 413.
    batch_bytes: usize,
    later: Vec<(Instant, Item)>,
    in_flight: JoinSet<Answer>,
    concurrency: Aimd,
    poison: PoisonWatch,
    last_pass: Option<Instant>,
    halted: Option<Halted>,
}

impl Dispatcher {
    pub(super) fn new(
        index: Arc<dyn SearchIndex>,
        config: SinkConfig,
        arrivals: mpsc::Receiver<Item>,
        state: watch::Sender<SinkState>,
    ) -> Self {
        let now = Instant::now();
        Self {
            index,
            arrivals,
            state,
            open: true,
            pending: VecDeque::new(),
            pending_bytes: 0,
            oldest: now,
            newest: now,
            batch_bytes: config.batch_bytes,
            later: Vec::new(),
            in_flight: JoinSet::new(),
            concurrency: Aimd::new(config.max_concurrency),
            poison: PoisonWatch::new(
                config.poison_window,
                config.poison_at_least,
                config.poison_ratio,
            ),
            last_pass: None,
            halted: None,
            config,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            self.send_what_is_due();
            let idle = self.pending.is_empty() && self.later.is_empty();
            if !self.open && idle && self.in_flight.is_empty() {
                return;
            }
            let deadline = self.deadline();
            tokio::select! {
                arrival = self.arrivals.recv(), if self.open && !self.full() => match arrival {
                    Some(item) => self.arrived(item),
                    None => self.open = false,
                },
                Some(joined) = self.in_flight.join_next() => match joined {
                    Ok(answer) => self.answered(answer),
                    // The items went with the task; dropping their replies tells the submitters.
                    Err(error) => warn!(error = %error, "a bulk request panicked"),
                },
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {}
            }
        }
    }

    /// A batch waits already: leave the rest in the channel, where it holds the callers up.
    fn full(&self) -> bool {
        self.pending.len() >= self.config.batch_items || self.pending_bytes >= self.batch_bytes
    }

    fn arrived(&mut self, item: Item) {
        if item.bytes > self.config.item_bytes {
            let reason = format!(
                "the item has about {} bytes, the limit is {}",
                item.bytes, self.config.item_bytes
            );
            self.finish_rejected(item, too_large(reason));
            return;
        }
        let now = Instant::now();
        if self.pending.is_empty() {
            self.oldest = now;
        }
        self.newest = now;
        self.pending_bytes += item.bytes;
        self.pending.push_back(item);
    }

    /// When something happens without an arrival or an answer.
    fn deadline(&self) -> Option<Instant> {
        let retry = self.later.iter().map(|(at, _)| *at).min();
        let send = if self.pending.is_empty() {
            None
        } else if let Some(halted) = &self.halted {
            // One probe at a time: its answer decides about the next.
            self.in_flight.is_empty().then_some(halted.probe_at)
        } else if self.in_flight.len() < self.concurrency.limit() {
            Some(self.flush_at())
        } else {
            None
        };
        [retry, send].into_iter().flatten().min()
    }

    fn flush_at(&self) -> Instant {
        if self.full() || !self.open {
            return self.oldest;
        }
        (self.oldest + self.config.batch_age).min(self.newest + self.config.idle)
    }

    fn send_what_is_due(&mut self) {
        let now = Instant::now();
        self.take_retries(now);
        if let Some(halted) = &self.halted {
            let wait = now < halted.probe_at || !self.in_flight.is_empty();
            let probe_items = match halted.why {
                Halt::Refused => 1,
                Halt::Poison => self.config.poison_at_least,
            };
            if !wait {
                self.send_batch(probe_items);
            }
            return;
        }
        while !self.pending.is_empty()
            && self.in_flight.len() < self.concurrency.limit()
            && self.flush_at() <= now
        {
            self.send_batch(self.config.batch_items);
        }
    }

    fn take_retries(&mut self, now: Instant) {
        if self.later.iter().all(|(at, _)| *at > now) {
            return;
        }
        let (due, later) = self.later.drain(..).partition(|(at, _)| *at <= now);
        self.later = later;
        self.put_back(
            Vec::into_iter(due)
                .map(|(_, item): (Instant, Item)| item)
                .collect(),
        );
    }

    /// Returns items to the front of the queue, in their order.
    fn put_back(&mut self, items: Vec<Item>) {
        if self.pending.is_empty() {
            let now = Instant::now();
            (self.oldest, self.newest) = (now, now);
        }
        for item in items.into_iter().rev() {
            self.pending_bytes += item.bytes;
            self.pending.push_front(item);
        }
    }

    fn send_batch(&mut self, at_most: usize) {
        let mut items: Vec<Item> = Vec::new();
        let mut bytes = 0;
        while let Some(next) = self.pending.front() {
            let abandoned = next.reply.is_closed();
            if !abandoned && !items.is_empty() && bytes + next.bytes > self.batch_bytes
                || items.len() >= at_most
            {
                break;
            }
            let Some(item) = self.pending.pop_front() else {
                break;
            };
            self.pending_bytes -= item.bytes;
            if !abandoned {
                bytes += item.bytes;
                items.push(item);
            }
        }
        // What stays is newer than what goes; its age is counted from here.
        self.oldest = Instant::now();
        if items.is_empty() {
            return;
        }
        let actions = items.iter().map(|item| item.action.clone()).collect();
        let index = Arc::clone(&self.index);
        self.in_flight.spawn(async move {
            let result = index.bulk(actions).await;
            Answer { items, result }
        });
    }

    fn answered(&mut self, answer: Answer) {
        let Answer { mut items, result } = answer;
        for item in &mut items {
            item.attempts += 1;
        }
        match result {
            Ok(outcomes) if outcomes.len() == items.len() => self.decide(items, outcomes),
            Ok(outcomes) => {
                let reason = format!("{} outcomes for {} items", outcomes.len(), items.len());
                self.decide_all(
                    items,
                    &ItemOutcome::Retry(obstacle("malformed_response", reason)),
                );
            }
            Err(IndexError::TooLarge { .. }) => self.split(items),
            Err(error) if error.is_transient() => {
                let outcome = ItemOutcome::Retry(obstacle("unavailable", error_chain(&error)));
                self.decide_all(items, &outcome);
            }
            Err(error) => {
                let outcome = ItemOutcome::Halt(obstacle("index_error", error_chain(&error)));
                self.decide_all(items, &outcome);
            }
        }
    }

    fn decide_all(&mut self, items: Vec<Item>, outcome: &ItemOutcome) {
        let outcomes = vec![outcome.clone(); items.len()];
        self.decide(items, outcomes);
    }

    /// Halves what the server found too large; a single item has no half.
    fn split(&mut self, mut items: Vec<Item>) {
        if items.len() == 1 {
            if let Some(item) = items.pop() {
                let reason = format!("the server takes no request of about {} bytes", item.bytes);
                self.finish_rejected(item, too_large(reason));
            }
            return;
        }
        let bytes: usize = items.iter().map(|item| item.bytes).sum();
        self.batch_bytes = self.batch_bytes.min(bytes / 2).max(1);
        warn!(
            bytes,
            now_at_most = self.batch_bytes,
            "the server found a bulk request too large"
        );
        self.put_back(items);
    }

    fn decide(&mut self, items: Vec<Item>, outcomes: Vec<ItemOutcome>) {
        let now = Instant::now();
        let passed = |o: &ItemOutcome| matches!(o, ItemOutcome::Indexed | ItemOutcome::Stale);
        let some_passed = outcomes.iter().any(passed);
        if some_passed {
            self.last_pass = Some(now);
        }
        let probing_poison = matches!(
            &self.halted,
            Some(Halted {
                why: Halt::Poison,
                ..
            })
        );
        let rejected = outcomes
            .iter()
            .filter(|o| matches!(o, ItemOutcome::Reject(_)))
            .count();
        let still_poisoned =
            probing_poison && rejected as f64 > self.config.poison_ratio * outcomes.len() as f64;
        let mut poisoned = still_poisoned;
        let mut refused: Option<Obstacle> = None;
        let mut retried: Option<Obstacle> = None;
        let mut kept = Vec::new();
        if probing_poison && !still_poisoned {
            self.poison.clear();
        }
        for (item, outcome) in items.into_iter().zip(outcomes) {
            match outcome {
                ItemOutcome::Indexed => {
                    self.poison.record(false);
                    item.finish(FinalOutcome::Indexed);
                }
                ItemOutcome::Stale => {
                    self.poison.record(false);
                    item.finish(FinalOutcome::Stale);
                }
                ItemOutcome::Reject(rejection) => {
                    // Beyond the ratio rejections are kept back: they are the mapping's fault.
                    poisoned = poisoned || self.poison.record(true);
                    if poisoned {
                        kept.push(item);
                    } else {
                        item.finish(FinalOutcome::Reject(rejection));
                    }
                }
                ItemOutcome::Halt(obstacle) => {
                    kept.push(item);
                    refused = Some(obstacle);
                }
                ItemOutcome::Retry(obstacle) => {
                    self.retry_later(item, &obstacle, now);
                    retried = Some(obstacle);
                }
            }
        }
        self.put_back(kept);
        if retried.is_some() {
            self.concurrency.overloaded();
        } else if refused.is_none() && !poisoned {
            self.concurrency.smooth();
        }
        if let Some(obstacle) = refused {
            self.halt(Halt::Refused, obstacle.to_string(), now);
        } else if poisoned {
            let reason = format!(
                "poison_ratio: more than {:.0} % of the last items were rejected; \
                 repair the mapping or the model, writing resumes by itself",
                self.config.poison_ratio * 100.0
            );
            self.halt(Halt::Poison, reason, now);
        } else if let Some(obstacle) = retried {
            if self.halted.is_none() {
                let reason = obstacle.to_string();
                self.state.send_replace(SinkState::Retrying { reason });
            } else {
                self.probe_later(now);
            }
        } else {
            if self.halted.take().is_some() {
                info!("the bulk sink resumes");
            }
            self.state.send_if_modified(|state| {
                let changed = *state != SinkState::Running;
                *state = SinkState::Running;
                changed
            });
        }
    }

    fn retry_later(&mut self, mut item: Item, obstacle: &Obstacle, now: Instant) {
        if let Some(failed) = item.last_failed
            && self.last_pass.is_some_and(|passed| passed > failed)
        {
            item.failing_alone += now - failed;
        }
        item.last_failed = Some(now);
        if item.failing_alone >= self.config.exhausted_after {
            let (attempts, last) = (item.attempts, obstacle.clone());
            item.finish(FinalOutcome::RetryExhausted { attempts, last });
            return;
        }
        let (first, longest) = (self.config.first_retry, self.config.longest_retry);
        let jitter = item
            .jitter
            .get_or_insert_with(|| FullJitter::new(first, longest));
        let at = now + jitter.next_delay();
        self.later.push((at, item));
    }

    fn halt(&mut self, why: Halt, reason: String, now: Instant) {
        match &mut self.halted {
            Some(halted) => halted.why = why,
            None => {
                warn!(reason, "the bulk sink halts");
                let (first, longest) = (self.config.first_retry, self.config.longest_retry);
                self.halted = Some(Halted {
                    why,
                    jitter: FullJitter::new(first, longest),
                    probe_at: now,
                });
            }
        }
        self.probe_later(now);
        self.state.send_replace(SinkState::Halted { reason });
    }

    fn probe_later(&mut self, now: Instant) {
        if let Some(halted) = &mut self.halted {
            halted.probe_at = now + halted.jitter.next_delay();
        }
    }

    fn finish_rejected(&mut self, item: Item, rejection: Rejection) {
        self.poison.record(true);
        item.finish(FinalOutcome::Reject(rejection));
    }
}

fn obstacle(error_type: &str, reason: String) -> Obstacle {
    Obstacle {
        error_type: error_type.to_owned(),
        reason,
        status: None,
    }
}

fn too_large(reason: String) -> Rejection {
    Rejection {
        error_type: "request_too_large".to_owned(),
        cause_type: None,
        reason,
        status: 413,
    }
}
