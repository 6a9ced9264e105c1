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
    /// By event id: the origins that were given up, each once.
    unmatched: BTreeMap<String, BTreeSet<Origin>>,
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
        let mut unmatched = BTreeMap::<String, BTreeSet<Origin>>::new();
        for (record, _) in read_all::<UnmatchedBehavior>(kafka, names::BEHAVIOR_UNMATCHED).await? {
            let origins = unmatched.entry(record.event.event_id).or_default();
            origins.insert(record.origin);
        }
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
            unmatched,
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
            let feedback = self.feedback.get(event_id).map_or(&[][..], Vec::as_slice);
            let joined: BTreeSet<&Origin> = feedback.iter().map(|it| &it.origin).collect();
            let given_up = self.unmatched.get(event_id);
            let item_id = told.behavior.item_id();
            let known = topics.last_signals.contains_key(&item_id);
            if joined.is_empty() && given_up.is_none() && known && told.acknowledged {
                violation(
                    JOINED,
                    event_id,
                    format!("nothing tells of it; its item is {item_id}"),
                );
            }
            if joined.len() > 1 || is_contradicted(&joined, given_up) {
                let found = format!("joined as {joined:?}, given up as {given_up:?}");
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

/// Whether an event was given up once it had been joined. Given up before, it passes when it is told again.
fn is_contradicted(joined: &BTreeSet<&Origin>, given_up: Option<&BTreeSet<Origin>>) -> bool {
    let last = given_up.and_then(BTreeSet::last);
    last.is_some_and(|last| joined.iter().any(|joined| *joined <= last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_may_be_given_up_only_before_it_is_joined() {
        let at = |offset| Origin {
            topic: "behavior.by-item".to_owned(),
            partition: 2,
            offset,
        };
        let (first, second) = (at(0), at(3));
        let given_up = |origin: &Origin| BTreeSet::from([origin.clone()]);
        let joined = BTreeSet::from([&second]);
        assert!(!is_contradicted(&joined, None));
        assert!(!is_contradicted(&joined, Some(&given_up(&first))));
        assert!(is_contradicted(&joined, Some(&given_up(&second))));
        let joined = BTreeSet::from([&first]);
        assert!(is_contradicted(&joined, Some(&given_up(&second))));
        assert!(!is_contradicted(&BTreeSet::new(), Some(&given_up(&first))));
    }
}
