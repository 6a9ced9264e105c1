//! Each event is counted once, exactly where its feedback is published.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use anyhow::Context;
use millrace_features::counters::count;
use millrace_kafka::KafkaConfig;
use millrace_kafka::topics as names;
use millrace_schemas::{
    Feedback, ItemCounters, ItemStats, Message, Origin, UnmatchedBehavior, decode,
};

use super::Findings;
use super::topics::{Topics, read};
use crate::report::Violation;
use crate::target::Target;
use crate::workload::ledger::{Ledger, ToldBehavior};

/// For what the joiner still has in hand when the documents are worked off. Totals of a partition
/// are published once a second.
const JOINED_LIMIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(500);

const ONCE: &str = "an event is joined once";
const JOINED: &str = "an event whose item has a signal is joined";
const COUNTERS: &str = "counters are those of the events that were joined";

/// Reads what the joiner has published until nothing is wrong with it, or for a minute.
pub(super) async fn check(
    target: &Target,
    ledger: &Ledger,
    topics: &Topics,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let told = ledger.lock().behavior.clone();
    if told.is_empty() {
        return Ok(());
    }
    let deadline = Instant::now() + JOINED_LIMIT;
    loop {
        let joined = Joined::read(&target.kafka).await?;
        let violations = joined.compare(&told, topics);
        if violations.is_empty() || Instant::now() >= deadline {
            findings.violations.extend(violations);
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What the joiner has published.
struct Joined {
    /// By event id: each feedback that differs from the others of the event.
    feedback: BTreeMap<String, Vec<Feedback>>,
    unmatched: BTreeSet<String>,
    /// The greatest by [`ItemStats::order`] of each item, and of all items of a partition.
    stats: HashMap<String, (ItemStats, i32)>,
}

impl Joined {
    async fn read(kafka: &KafkaConfig) -> anyhow::Result<Self> {
        let mut feedback = BTreeMap::<String, Vec<Feedback>>::new();
        for (record, _) in read_all::<Feedback>(kafka, names::FEEDBACK).await? {
            let known = feedback.entry(record.event.event_id.clone()).or_default();
            // Repeated after a crash: the same origin, and the same but for what is known by then.
            if !known.iter().any(|known| known.origin == record.origin) {
                known.push(record);
            }
        }
        let unmatched = read_all::<UnmatchedBehavior>(kafka, names::BEHAVIOR_UNMATCHED).await?;
        let mut stats = HashMap::<String, (ItemStats, i32)>::new();
        for (record, origin) in read_all::<ItemStats>(kafka, names::ITEM_STATS).await? {
            let newer = stats
                .get(&record.item_id)
                .is_none_or(|(known, _)| known.order() <= record.order());
            if newer {
                stats.insert(record.item_id.clone(), (record, origin.partition));
            }
        }
        Ok(Self {
            feedback,
            unmatched: unmatched
                .into_iter()
                .map(|(record, _)| record.event.event_id)
                .collect(),
            stats,
        })
    }

    fn compare(&self, told: &BTreeMap<String, ToldBehavior>, topics: &Topics) -> Vec<Violation> {
        let mut violations = Vec::new();
        let mut violation = |promise, subject: &str, found: String| {
            violations.push(Violation {
                promise,
                subject: subject.to_owned(),
                found,
            });
        };
        for (event_id, told) in told {
            let joined = self.feedback.get(event_id).map_or(0, Vec::len);
            let unmatched = self.unmatched.contains(event_id);
            let item_id = told.behavior.item_id();
            let known = topics.last_signals.contains_key(&item_id);
            if joined == 0 && !unmatched && known && told.acknowledged {
                violation(
                    JOINED,
                    event_id,
                    format!("nothing tells of it; its item is {item_id}"),
                );
            }
            if joined > 1 || (joined == 1 && unmatched) {
                let found = format!("{joined} origins in feedback, unmatched: {unmatched}");
                violation(ONCE, event_id, found);
            }
        }
        let mut counters = HashMap::<String, ItemCounters>::new();
        for (event_id, feedback) in &self.feedback {
            let Some(told) = told.get(event_id) else {
                violation(
                    "nothing is joined that was not told",
                    event_id,
                    String::new(),
                );
                continue;
            };
            for feedback in feedback {
                if !is_what_was_told(feedback, told) {
                    violation(
                        "an event is joined as it was told",
                        event_id,
                        format!("{feedback:?}"),
                    );
                }
                count(
                    counters.entry(feedback.event.item_id.clone()).or_default(),
                    &feedback.event,
                );
                if let Some((_, partition)) = self.stats.get(&feedback.event.item_id) {
                    let totals = counters
                        .entry(ItemStats::totals_id(*partition))
                        .or_default();
                    count(totals, &feedback.event);
                }
            }
        }
        for (item_id, expected) in &counters {
            match self.stats.get(item_id) {
                Some((stats, _)) if stats.counters == *expected => {}
                Some((stats, _)) => violation(
                    COUNTERS,
                    item_id,
                    format!("{:?} instead of {expected:?}", stats.counters),
                ),
                None => violation(COUNTERS, item_id, "there are none".to_owned()),
            }
        }
        for item_id in self.stats.keys() {
            if !counters.contains_key(item_id) {
                violation(COUNTERS, item_id, "of an item without feedback".to_owned());
            }
        }
        violations
    }
}

fn is_what_was_told(feedback: &Feedback, told: &ToldBehavior) -> bool {
    let (event, behavior) = (&feedback.event, &told.behavior);
    event.user_id == behavior.user_id
        && event.item_id == behavior.item_id()
        && event.kind == behavior.kind
        && event.position == behavior.position
        && event.event_time_ms == told.event_time_ms
}

/// All messages of a topic, each with its own place on it.
pub(super) async fn read_all<M: Message>(
    kafka: &KafkaConfig,
    topic: &str,
) -> anyhow::Result<Vec<(M, Origin)>> {
    let mut messages = Vec::new();
    for record in read(kafka, topic).await? {
        let origin = record.origin();
        let value = record.value.as_deref();
        let value = value.with_context(|| format!("the record at {origin} has no value"))?;
        let message =
            decode(value).with_context(|| format!("the record at {origin} can't be read"))?;
        messages.push((message, origin));
    }
    Ok(messages)
}
