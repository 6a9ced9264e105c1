//! The join over a recording: no topics, no store, no clock.
//!
//! It drives the same `Join` that a partition's writer drives, in the same order of steps, and keeps
//! what that would write in memory. So whoever evaluates or trains on a recording sees the feedback
//! and the counters that the pipeline would have made of it.

use std::collections::HashMap;
use std::time::Instant;

use bytes::Bytes;
use millrace_schemas::{
    BehaviorByItem, BehaviorEvent, Feedback, ItemStats, Origin, Signal, UnmatchedBehavior,
};
use millrace_state::{Change, FIRST_GENERATION, Table};
use millrace_stateful::BrokenValue;

use crate::batch::{Batch, BehaviorInput, Output, SignalInput};
use crate::config::{InvalidConfig, JoinerConfig};
use crate::join::{Join, Writer};
use crate::tables::{FORGETTING, Offsets};

/// What became of records, in the order in which it would be published.
#[derive(Clone, Debug, Default)]
pub struct Joined {
    /// Events with their items.
    pub feedback: Vec<Feedback>,
    /// Counters that changed, those of all items ([`ItemStats::totals_id`] of partition 0) last.
    pub stats: Vec<ItemStats>,
    /// Events whose item had no signal within the grace.
    pub unmatched: Vec<UnmatchedBehavior>,
    /// Events that had come before.
    pub duplicates: u64,
}

/// All items in one partition, whose state is in memory. Event time moves with the events alone.
pub struct OfflineJoin {
    join: Join,
    state: HashMap<(Table, Vec<u8>), Bytes>,
    next: Offsets,
    /// The clock stands: a recording has no idle time.
    now: Instant,
}

impl OfflineJoin {
    /// An empty state.
    ///
    /// # Errors
    /// A setting that cannot work.
    pub fn new(config: &JoinerConfig) -> Result<Self, InvalidConfig> {
        config.validate()?;
        let writer = Writer {
            generation: FIRST_GENERATION,
            epoch: 1,
            partition: 0,
            topic: "behavior.by-item".to_owned(),
        };
        let now = Instant::now();
        let join = Join::open(config, writer, None, &[], now)
            .unwrap_or_else(|_| unreachable!("an empty state has no value to misread"));
        Ok(Self {
            join,
            state: HashMap::new(),
            next: Offsets {
                behavior: Some(0),
                signals: Some(0),
            },
            now,
        })
    }

    /// Takes signals, and then events, as one batch.
    pub fn step(&mut self, signals: Vec<Signal>, behavior: Vec<BehaviorEvent>) -> Joined {
        let signals: Vec<SignalInput> = signals
            .into_iter()
            .map(|signal| SignalInput::Signal(Box::new(signal)))
            .collect();
        let first = self.next.behavior.unwrap_or(0);
        let behavior: Vec<BehaviorInput> = (first..)
            .zip(behavior)
            .map(|(offset, event)| BehaviorInput {
                offset,
                record: BehaviorByItem {
                    event,
                    origin: Origin {
                        topic: "behavior".to_owned(),
                        partition: 0,
                        offset,
                    },
                },
                traceparent: None,
            })
            .collect();
        let count = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
        let next = Offsets {
            behavior: Some(first + count(behavior.len())),
            signals: Some(self.next.signals.unwrap_or(0) + count(signals.len())),
        };
        let mut joined = Joined::default();
        self.batch(
            Batch {
                signals,
                behavior,
                next,
            },
            &mut joined,
        );
        joined
    }

    /// No event will come any more: what waits for a signal is unmatched.
    pub fn end_of_input(&mut self) -> Joined {
        self.join.end_of_input();
        let mut joined = Joined::default();
        let batch = Batch {
            next: self.next,
            ..Batch::default()
        };
        self.batch(batch, &mut joined);
        joined
    }

    /// Joins a batch, and whatever else is to be given up or forgotten after it.
    fn batch(&mut self, batch: Batch, joined: &mut Joined) {
        self.next = batch.next;
        let keys = self.join.wanted(&batch);
        self.load(&keys);
        self.join.apply(batch, self.now);
        loop {
            let keys = self.join.wanted_to_expire();
            self.load(&keys);
            let more = self.join.expire();
            let forgotten = self.forget();
            let step = self.join.finish(self.next, !(more || forgotten));
            joined.duplicates += step.done.duplicates;
            for output in step.outputs {
                match output {
                    Output::Feedback(feedback, _) => joined.feedback.push(*feedback),
                    Output::Stats(stats) => joined.stats.push(*stats),
                    Output::Unmatched(unmatched, _) => joined.unmatched.push(*unmatched),
                }
            }
            self.keep(step.changes);
            if !(more || forgotten) {
                return;
            }
        }
    }

    /// Forgets the ids of one hour. `true` where there may be more.
    fn forget(&mut self) -> bool {
        let Some(hour) = self.join.hour_to_forget() else {
            return false;
        };
        let chunks: Vec<(Vec<u8>, Bytes)> = self
            .state
            .iter()
            .filter(|((table, _), _)| *table == FORGETTING.part(hour))
            .map(|((_, key), chunk)| (key.clone(), chunk.clone()))
            .collect();
        let ids = chunks
            .iter()
            .flat_map(|(_, chunk)| Join::ids_to_forget(chunk));
        let ids: Vec<_> = ids.filter(|key| !self.join.knows(key)).collect();
        self.load(&ids);
        self.join.forget(hour, &chunks, true);
        true
    }

    fn load(&mut self, keys: &[(Table, Vec<u8>)]) {
        let values = keys
            .iter()
            .map(|key| self.state.get(key).cloned())
            .collect();
        self.join
            .load(keys, values)
            .unwrap_or_else(|error: BrokenValue| {
                unreachable!("this process wrote the value: {error}")
            });
    }

    fn keep(&mut self, changes: Vec<Change>) {
        for Change { table, key, value } in changes {
            match value {
                Some(value) => self.state.insert((table, key), value.into()),
                None => self.state.remove(&(table, key)),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use millrace_schemas::{BehaviorKind, ItemStats};

    use super::*;
    use crate::tests::samples;

    const HOUR_MS: i64 = 3_600_000;

    fn event(id: u32, item: &str, kind: BehaviorKind, event_time_ms: i64) -> BehaviorEvent {
        BehaviorEvent {
            event_id: format!("e-{id}"),
            item_id: item.to_owned(),
            ..samples::event(kind, event_time_ms, Some(1))
        }
    }

    fn known(item: &str) -> Signal {
        samples::signal(item, "m", 1, false)
    }

    #[test]
    fn a_recording_is_joined_counted_once_and_what_stays_unknown_is_told() {
        let mut join = OfflineJoin::new(&JoinerConfig::default()).unwrap();
        let shown = event(1, "a", BehaviorKind::Expose, 0);
        let unknown = event(2, "b", BehaviorKind::Expose, 0);
        let first = join.step(vec![known("a")], vec![shown.clone(), unknown.clone()]);
        assert_eq!(first.feedback.len(), 1);
        assert_eq!(first.feedback[0].event, shown);
        let of = |joined: &Joined, id: &str| {
            let stats = joined.stats.iter().find(|stats| stats.item_id == id);
            stats.map(|stats| {
                let day = &stats.counters.days[0];
                (day.impressions, day.clicks)
            })
        };
        assert_eq!(of(&first, "a"), Some((1, 0)));
        assert_eq!(of(&first, &ItemStats::totals_id(0)), Some((1, 0)));
        let clicked = event(3, "a", BehaviorKind::Click, 5_000);
        let second = join.step(vec![], vec![clicked.clone(), clicked]);
        assert_eq!((second.feedback.len(), second.duplicates), (1, 1));
        assert_eq!(of(&second, "a"), Some((1, 1)));
        let end = join.end_of_input();
        assert_eq!(end.unmatched.len(), 1);
        assert_eq!(end.unmatched[0].event, unknown);
    }

    #[test]
    fn ids_are_forgotten_as_in_the_pipeline() {
        let config = JoinerConfig {
            grace_ms: 0,
            deduplication_hours: 1,
            ..JoinerConfig::default()
        };
        let mut join = OfflineJoin::new(&config).unwrap();
        let click = event(1, "a", BehaviorKind::Click, 0);
        let counts = [0, 1, 4, 4].map(|hour| {
            let now = event(
                100 + hour,
                "a",
                BehaviorKind::Expose,
                i64::from(hour) * HOUR_MS,
            );
            let joined = join.step(vec![known("a")], vec![now, click.clone()]);
            joined.feedback.len()
        });
        // Hour 4 forgets the first id after its batch; then its event is new again.
        assert_eq!(counts, [2, 1, 1, 1]);
    }
}
