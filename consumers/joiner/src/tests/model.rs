//! The join against its model: whatever is interleaved, doubled, crashed or taken over, the counters
//! are those of each event once, bit for bit, and so is the set of origins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use millrace_features::counters::count;
use millrace_schemas::{BehaviorByItem, BehaviorEvent, BehaviorKind, ItemCounters};
use millrace_state::{EmbeddedState, Shard, ShardWriter, StateError, StateStore};
use proptest::prelude::*;

use crate::batch::{Batch, BehaviorInput, Output, SignalInput, Step};
use crate::config::JoinerConfig;
use crate::tables::{COUNTERS, SEEN};
use crate::tests::samples::{self, origin};
use crate::writer::JoinWriter;

const HOUR_MS: i64 = 3_600_000;
const START_MS: i64 = 1_700_000_000_000;

/// One store for all cases, each in partitions of its own.
static STORE: LazyLock<(tempfile::TempDir, Arc<dyn StateStore>)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let state = EmbeddedState::open(folder.path()).unwrap();
    (folder, Arc::new(state))
});

fn new_shard() -> Shard {
    static NEXT: AtomicI32 = AtomicI32::new(0);
    Shard {
        generation: 1,
        partition: NEXT.fetch_add(1, Ordering::Relaxed),
    }
}

fn event(id: usize, item: usize, kind: BehaviorKind, event_time_ms: i64) -> BehaviorEvent {
    BehaviorEvent {
        event_id: format!("e-{id}"),
        user_id: format!("u-{}", id % 3),
        item_id: format!("item-{item}"),
        item: item.to_string(),
        ..samples::event(kind, event_time_ms, i32::try_from(id % 7).ok())
    }
}

fn signal(item: usize, version: i64, deleted: bool) -> SignalInput {
    let model = format!("m-{}", version % 2);
    let signal = samples::signal(&format!("item-{item}"), &model, version, deleted);
    SignalInput::Signal(Box::new(signal))
}

fn input(offset: usize, event: &BehaviorEvent) -> BehaviorInput {
    let offset = i64::try_from(offset).unwrap();
    BehaviorInput {
        offset,
        record: BehaviorByItem {
            event: event.clone(),
            origin: origin(offset),
        },
        traceparent: None,
    }
}

fn config(grace_ms: i64) -> JoinerConfig {
    JoinerConfig {
        grace_ms,
        deduplication_hours: grace_ms / HOUR_MS + 1,
        cached_items: 1,
        ..JoinerConfig::default()
    }
}

/// The two logs, and what became of them.
struct Play {
    runtime: tokio::runtime::Runtime,
    config: JoinerConfig,
    shard: Shard,
    behavior: Vec<BehaviorEvent>,
    signals: Vec<SignalInput>,
    now: Instant,
    feedback: BTreeSet<i64>,
    unmatched: BTreeSet<i64>,
}

impl Play {
    fn new(config: JoinerConfig, behavior: Vec<BehaviorEvent>, signals: Vec<SignalInput>) -> Self {
        Self {
            runtime: tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap(),
            config,
            shard: new_shard(),
            behavior,
            signals,
            now: Instant::now(),
            feedback: BTreeSet::new(),
            unmatched: BTreeSet::new(),
        }
    }

    fn claim(&self) -> JoinWriter {
        let state = Arc::clone(&STORE.1);
        let claim = async {
            let shard = ShardWriter::claim(state, self.shard).await?;
            JoinWriter::open(shard, "by-item", &self.config, None, self.now).await
        };
        self.runtime.block_on(claim).unwrap()
    }

    /// The next records after where the writer stands.
    fn batch(&self, writer: &JoinWriter, behavior: usize, signals: usize) -> Batch {
        let at = |offset: Option<i64>| usize::try_from(offset.unwrap_or(0)).unwrap();
        let next = |end: usize| i64::try_from(end).ok();
        let position = writer.position();
        let (from, begin) = (at(position.behavior), at(position.signals));
        let to = (from + behavior).min(self.behavior.len());
        let end = (begin + signals).min(self.signals.len());
        let inputs = (from..to).map(|offset| input(offset, &self.behavior[offset]));
        let mut next_position = position;
        if to > from {
            next_position.behavior = next(to);
        }
        if end > begin {
            next_position.signals = next(end);
        }
        Batch {
            behavior: inputs.collect(),
            signals: self.signals[begin..end].to_vec(),
            next: next_position,
        }
    }

    fn step(&mut self, writer: &mut JoinWriter, batch: Batch) -> Step {
        let step = writer.step(batch, false, self.now);
        let step = self.runtime.block_on(step).unwrap();
        for output in &step.outputs {
            match output {
                Output::Feedback(feedback, _) => {
                    self.feedback.insert(feedback.origin.offset);
                }
                Output::Unmatched(unmatched, _) => {
                    self.unmatched.insert(unmatched.origin.offset);
                }
                Output::Stats(_) => {}
            }
        }
        step
    }

    fn write(&mut self, writer: &mut JoinWriter, behavior: usize, signals: usize) {
        let batch = self.batch(writer, behavior, signals);
        let next = batch.next;
        let step = self.step(writer, batch);
        self.runtime
            .block_on(writer.commit(next, step.changes))
            .unwrap();
    }

    fn finish(&mut self, writer: &mut JoinWriter) {
        self.write(writer, usize::MAX / 2, usize::MAX / 2);
        while writer.has_backlog() {
            self.write(writer, 0, 0);
        }
    }

    fn counters(&self, item: usize) -> ItemCounters {
        let key = (COUNTERS, format!("item-{item}").into_bytes());
        let found = STORE.1.get(self.shard, vec![key]);
        let found = self.runtime.block_on(found).unwrap().remove(0);
        found.map_or_else(ItemCounters::default, |value| {
            postcard::from_bytes(&value).unwrap()
        })
    }
}

#[derive(Clone, Debug)]
enum Act {
    Write {
        behavior: usize,
        signals: usize,
    },
    /// Outputs are out, the state is not written.
    CrashBeforeCommit {
        behavior: usize,
        signals: usize,
    },
    /// The state is written, and the writer does not learn of it.
    LostAnswer {
        behavior: usize,
        signals: usize,
    },
    /// Somebody else claims; the writer goes on for a write and is refused.
    TakenOver {
        behavior: usize,
        signals: usize,
    },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let some = || (0..6_usize, 0..4_usize);
    let act = prop_oneof![
        5 => some().prop_map(|(behavior, signals)| Act::Write { behavior, signals }),
        1 => some().prop_map(|(behavior, signals)| Act::CrashBeforeCommit { behavior, signals }),
        1 => some().prop_map(|(behavior, signals)| Act::LostAnswer { behavior, signals }),
        1 => some().prop_map(|(behavior, signals)| Act::TakenOver { behavior, signals }),
    ];
    prop::collection::vec(act, 0..20)
}

fn behavior() -> impl Strategy<Value = Vec<BehaviorEvent>> {
    // Few ids, so that many are duplicates; an id always stands for the same event.
    prop::collection::vec((0..25_usize, any::<u32>()), 0..40).prop_map(|ids| {
        let of = |(id, _): (usize, u32)| {
            let kind = BehaviorKind::ALL[id % 3];
            let time = START_MS + (i64::try_from(id).unwrap() * 7_919_999) % (20 * HOUR_MS);
            event(id, id % 6, kind, time)
        };
        ids.into_iter().map(of).collect()
    })
}

fn signals() -> impl Strategy<Value = Vec<SignalInput>> {
    // Of items 0 to 3 of 6: some stay unknown.
    let one = (0..4_usize, 0..5_i64, any::<bool>());
    prop::collection::vec(
        one.prop_map(|(item, version, gone)| signal(item, version, gone)),
        0..12,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_interleaving_crash_or_takeover_changes_a_bit(behavior in behavior(), signals in signals(), acts in acts()) {
        // Longer than the events: who is joined does not depend on when signals come.
        let mut play = Play::new(config(48 * HOUR_MS), behavior, signals);
        let mut writer = play.claim();
        for act in acts {
            match act {
                Act::Write { behavior, signals } => play.write(&mut writer, behavior, signals),
                Act::CrashBeforeCommit { behavior, signals } => {
                    let batch = play.batch(&writer, behavior, signals);
                    play.step(&mut writer, batch);
                    writer = play.claim();
                }
                Act::LostAnswer { behavior, signals } => {
                    play.write(&mut writer, behavior, signals);
                    writer = play.claim();
                }
                Act::TakenOver { behavior, signals } => {
                    let mut next = play.claim();
                    play.write(&mut next, 1, 1);
                    let batch = play.batch(&writer, behavior, signals);
                    let position = batch.next;
                    let step = play.step(&mut writer, batch);
                    let refused = play.runtime.block_on(writer.commit(position, step.changes));
                    prop_assert!(matches!(refused, Err(StateError::Refused { .. })), "{refused:?}");
                    writer = next;
                }
            }
        }
        play.finish(&mut writer);
        writer.join_mut().end_of_input();
        play.finish(&mut writer);

        let known: BTreeSet<String> = play.signals.iter().map(|s| s.item_id().to_owned()).collect();
        let (mut seen, mut joined, mut unmatched) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut counters = BTreeMap::<String, ItemCounters>::new();
        for (offset, event) in play.behavior.iter().enumerate() {
            if !seen.insert(&event.event_id) {
                continue;
            }
            let offset = i64::try_from(offset).unwrap();
            if known.contains(&event.item_id) {
                joined.insert(offset);
                count(counters.entry(event.item_id.clone()).or_default(), event);
            } else {
                unmatched.insert(offset);
            }
        }
        prop_assert_eq!(&play.feedback, &joined);
        prop_assert_eq!(&play.unmatched, &unmatched);
        for item in 0..6 {
            let expected = counters.remove(&format!("item-{item}")).unwrap_or_default();
            prop_assert_eq!(play.counters(item), expected);
        }
    }
}

/// Real clocks have gaps: minutes between events, a quiet night, an hour that is idle.
#[test]
fn an_event_waits_for_its_grace_of_event_time_and_passes_when_it_is_driven_again() {
    const MINUTE_MS: i64 = 60_000;
    let click =
        |id, item, minute| event(id, item, BehaviorKind::Click, START_MS + minute * MINUTE_MS);
    let behavior = vec![
        click(0, 0, 0),  // waits
        click(1, 1, 9),  // waits; nobody is given up at minute 9
        click(2, 1, 5),  // late: came at 9, so it waits until 19 as well
        click(3, 0, 10), // gives up the first, whose grace ends at minute 10, and waits itself
        click(0, 0, 0),  // driven again
        click(0, 0, 0),  // and doubled
    ];
    let signals = vec![signal(1, 1, false), signal(0, 1, false)];
    let mut play = Play::new(config(10 * MINUTE_MS), behavior, signals);
    let mut writer = play.claim();
    play.write(&mut writer, 1, 0);
    play.write(&mut writer, 2, 0);
    assert_eq!((writer.join().waiting(), play.unmatched.len()), (3, 0));
    play.write(&mut writer, 1, 0);
    assert_eq!(play.unmatched, BTreeSet::from([0]));
    assert_eq!(writer.join().waiting(), 3);

    // The signal of item 1 comes in time for both, whatever restarted in between.
    let mut writer = play.claim();
    assert_eq!(writer.join().waiting(), 3);
    play.write(&mut writer, 0, 1);
    assert_eq!(play.feedback, BTreeSet::from([1, 2]));

    // Nothing comes for half an hour: the clock gives up what waits.
    play.now += Duration::from_secs(29);
    writer.join_mut().tick(play.now);
    play.write(&mut writer, 0, 0);
    assert_eq!(play.unmatched, BTreeSet::from([0]));
    play.now += Duration::from_secs(30 * 60);
    writer.join_mut().tick(play.now);
    play.write(&mut writer, 0, 0);
    assert_eq!(play.unmatched, BTreeSet::from([0, 3]));
    assert_eq!(writer.join().waiting(), 0);

    // Driven again it passes once, by its id, once the signal is there.
    play.write(&mut writer, 0, 1);
    play.write(&mut writer, 2, 0);
    assert_eq!(play.feedback, BTreeSet::from([1, 2, 4]));
    assert_eq!(play.counters(0).days[0].clicks, 1);
    assert_eq!(play.counters(1).days[0].clicks, 2);
}

#[test]
fn an_id_is_forgotten_after_the_window_of_event_time_and_not_before() {
    let click = |id, hour| event(id, 0, BehaviorKind::Click, START_MS + hour * HOUR_MS);
    let behavior = vec![
        click(0, 0),
        click(1, 1),
        click(0, 0), // within the window
        click(2, 2), // one hour of window and the rest of an hour later 0 is forgotten
        click(3, 4),
        click(0, 0), // seen anew, four hours late
        click(0, 0), // and remembered from its coming on
    ];
    let mut play = Play::new(config(HOUR_MS / 2), behavior, vec![signal(0, 1, false)]);
    let mut writer = play.claim();
    play.write(&mut writer, 0, 1);
    for _ in 0..7 {
        play.write(&mut writer, 1, 0);
        while writer.has_backlog() {
            play.write(&mut writer, 0, 0);
        }
    }
    assert_eq!(play.feedback, BTreeSet::from([0, 1, 3, 4, 5]));
    let seen = play
        .runtime
        .block_on(STORE.1.scan(play.shard, SEEN, usize::MAX));
    // 2 at hour 2 is remembered until hour 4, which has come; 3 and 0 are not forgotten yet.
    assert_eq!(seen.unwrap().len(), 2);
}

#[test]
fn feedback_tells_the_click_rate_that_was_expected_just_before_it() {
    let shown = |id, item| event(id, item, BehaviorKind::Expose, START_MS);
    let clicked = |id, item| event(id, item, BehaviorKind::Click, START_MS);
    let day = START_MS + 24 * HOUR_MS;
    let behavior = vec![
        shown(0, 0),
        clicked(1, 0),
        shown(2, 1),
        clicked(1, 0), // a duplicate, which counts nothing
        event(3, 0, BehaviorKind::Expose, day),
    ];
    let signals = vec![signal(0, 1, false), signal(1, 1, false)];
    let mut play = Play::new(config(HOUR_MS), behavior, signals);
    let mut writer = play.claim();
    let batch = play.batch(&writer, 5, 2);
    let step = play.step(&mut writer, batch);
    let expected = step.outputs.iter().filter_map(|output| match output {
        Output::Feedback(feedback, _) => feedback.expected_ctr,
        Output::Stats(_) | Output::Unmatched(..) => None,
    });
    let expected: Vec<f64> = expected.collect();
    // Clicks and impressions of the item and of all items, as weighed at the event's time.
    let ctr = |(clicks, impressions): (f64, f64), (all_clicks, all_impressions): (f64, f64)| {
        let prior = 10.0 * (all_clicks + 1.0) / (all_impressions + 20.0);
        (clicks + prior) / (impressions + 10.0)
    };
    let model = [
        ctr((0.0, 0.0), (0.0, 0.0)),
        ctr((0.0, 1.0), (0.0, 1.0)),
        ctr((0.0, 0.0), (1.0, 1.0)),
        ctr((0.5, 0.5), (0.5, 1.0)),
    ];
    assert_eq!(expected.len(), model.len());
    for (found, model) in expected.iter().zip(model) {
        assert!((found - model).abs() < 1e-12, "{found} is not {model}");
    }
}
