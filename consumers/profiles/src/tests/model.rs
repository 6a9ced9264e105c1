//! Any interleaving of batches, crashes, takeovers and repetitions leaves the profiles of each origin
//! once, in the topic's order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, LazyLock};

use millrace_features::{Profile, ProfileSettings};
use millrace_state::{EmbeddedState, Shard, ShardWriter, StateError, StateStore};
use proptest::prelude::*;

use crate::apply::{Applies, Input, Step};
use crate::space::Space;
use crate::tests::samples::{HOUR_MS, MODEL, START, START_MS, feedback};
use crate::values::{FORGETTING, PROFILES, SEEN};
use crate::writer::ProfileWriter;

/// One store for all cases, each in a partition of its own.
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

/// A log of `feedback`, and its reader.
struct Play {
    runtime: tokio::runtime::Runtime,
    applies: Applies,
    shard: Shard,
    log: Vec<Input>,
}

impl Play {
    fn new(deduplication_hours: i64, mut log: Vec<Input>) -> Self {
        for (input, offset) in log.iter_mut().zip(1..) {
            input.position.offset = offset;
        }
        Self {
            runtime: tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap(),
            applies: Applies {
                settings: ProfileSettings::default(),
                model_version: MODEL.to_owned(),
                deduplication_hours,
                cached_users: 1,
            },
            shard: new_shard(),
            log,
        }
    }

    fn claim(&self) -> ProfileWriter {
        let state = Arc::clone(&STORE.1);
        let space = Space {
            model_version: MODEL.to_owned(),
            vectors: None,
        };
        let claim = async {
            let shard = ShardWriter::claim(state, self.shard).await?;
            ProfileWriter::open(shard, space, self.applies.clone()).await
        };
        self.runtime.block_on(claim).unwrap()
    }

    /// Applies the next records after where the writer stands, without writing.
    fn step(&self, writer: &mut ProfileWriter, records: usize) -> (Option<i64>, Step) {
        let from = usize::try_from(writer.offset().unwrap_or(0)).unwrap();
        let to = from.saturating_add(records).min(self.log.len());
        let next = i64::try_from(to).ok();
        let batch = self.log[from..to].to_vec();
        let step = self.runtime.block_on(writer.step(batch)).unwrap();
        (next, step)
    }

    fn write(&self, writer: &mut ProfileWriter, records: usize) -> Step {
        let (next, mut step) = self.step(writer, records);
        let changes = std::mem::take(&mut step.changes);
        self.runtime.block_on(writer.commit(next, changes)).unwrap();
        step
    }

    /// As the state holds it.
    fn profile(&self, user_id: &str) -> Option<Vec<u8>> {
        let key = (PROFILES, user_id.as_bytes().to_vec());
        let found = self.runtime.block_on(STORE.1.get(self.shard, vec![key]));
        let value = found.unwrap().into_iter().next().flatten();
        value.map(|value| value.to_vec())
    }

    /// One origin after the other, by the book.
    fn model(&self) -> BTreeMap<String, Profile> {
        let mut applied = BTreeSet::new();
        let mut profiles = BTreeMap::<String, Profile>::new();
        for Input {
            position, feedback, ..
        } in &self.log
        {
            if applied.insert(feedback.origin.clone()) {
                let user_id = &feedback.event.user_id;
                let profile = profiles
                    .entry(user_id.clone())
                    .or_insert_with(|| Profile::new(user_id, MODEL));
                profile.apply(feedback, &self.applies.settings);
                profile.stand_at(*position);
            }
        }
        profiles
    }
}

#[derive(Clone, Debug)]
enum Act {
    Write(usize),
    /// Nothing was written.
    CrashBeforeCommit(usize),
    /// The state is written, and the writer does not learn of it.
    LostAnswer(usize),
    /// Somebody else claims; the writer goes on for a write and is refused.
    TakenOver(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        5 => (0..6_usize).prop_map(Act::Write),
        1 => (0..6_usize).prop_map(Act::CrashBeforeCommit),
        1 => (0..6_usize).prop_map(Act::LostAnswer),
        1 => (0..6_usize).prop_map(Act::TakenOver),
    ];
    prop::collection::vec(act, 0..25)
}

fn log() -> impl Strategy<Value = Vec<Input>> {
    // Few origins, so that many are repetitions.
    let input = |number| Input {
        written_ms: START_MS,
        position: START,
        feedback: feedback(number),
    };
    prop::collection::vec((0..30_usize).prop_map(input), 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn no_batch_crash_repetition_or_takeover_changes_a_bit(log in log(), acts in acts()) {
        let play = Play::new(168, log);
        let mut writer = play.claim();
        for act in acts {
            match act {
                Act::Write(records) => drop(play.write(&mut writer, records)),
                Act::CrashBeforeCommit(records) => {
                    play.step(&mut writer, records);
                    writer = play.claim();
                }
                Act::LostAnswer(records) => {
                    play.write(&mut writer, records);
                    writer = play.claim();
                }
                Act::TakenOver(records) => {
                    let mut next = play.claim();
                    play.write(&mut next, 1);
                    let (position, step) = play.step(&mut writer, records);
                    let refused = play.runtime.block_on(writer.commit(position, step.changes));
                    prop_assert!(matches!(refused, Err(StateError::Refused { .. })), "{refused:?}");
                    writer = next;
                }
            }
        }
        play.write(&mut writer, usize::MAX);
        let mut model = play.model();
        for user in 0..3 {
            let user_id = format!("u-{user}");
            let expected = model.remove(&user_id).map(|profile| profile.to_bytes());
            prop_assert_eq!(play.profile(&user_id), expected);
        }
    }
}

#[test]
fn an_origin_is_forgotten_after_the_window_of_the_records_time_and_not_before() {
    let at = |number, hour| Input {
        written_ms: START_MS + hour * HOUR_MS,
        position: START,
        feedback: feedback(number),
    };
    let log = vec![
        at(0, 0),
        at(0, 1), // within the window
        at(1, 2), // one hour of window and the rest of an hour later 0 is forgotten
        at(0, 2), // so this one is taken for new
        at(0, 1), // a record's clock may be behind; it is known again
        at(2, 3), // a neighbour of 0, which keeps both
        at(3, 4), // as this one does for 1
        at(0, 4),
        at(1, 5), // nothing came beside 0 and 2 for a window, so they are forgotten
        at(2, 5),
    ];
    let play = Play::new(1, log);
    let mut writer = play.claim();
    let applied = (0..10).map(|_| play.write(&mut writer, 1).done.applied);
    assert_eq!(applied.collect::<Vec<_>>(), [1, 0, 1, 1, 0, 1, 1, 0, 0, 1]);
    // Of the two partitions one chunk each, and of the hours those to come.
    let scan = |table| play.runtime.block_on(STORE.1.scan(play.shard, table, 100));
    assert_eq!(scan(SEEN).unwrap().len(), 2);
    let first = START_MS.div_euclid(HOUR_MS);
    for hour in first..first + 6 {
        assert!(scan(FORGETTING.part(hour)).unwrap().is_empty(), "{hour}");
    }
    for hour in [first + 6, first + 7] {
        assert_eq!(scan(FORGETTING.part(hour)).unwrap().len(), 1, "{hour}");
    }
}
