//! The labels against their model: whatever is interleaved, doubled, crashed or taken over, the last
//! record of an answer is that of all clicks on it.

use millrace_schemas::{BehaviorEvent, Impression};
use millrace_state::StateError;
use proptest::prelude::*;

use crate::config::LabelerConfig;
use crate::tests::play::{Play, answer, click};

#[derive(Clone, Debug)]
enum Act {
    Write,
    /// Records are out, the state is not written.
    CrashBeforeCommit,
    /// The state is written, and the writer does not learn of it.
    LostAnswer,
    /// Somebody else claims; the writer goes on for a write and is refused.
    TakenOver,
}

fn acts() -> impl Strategy<Value = Vec<(Act, usize, usize)>> {
    let act = prop_oneof![
        5 => Just(Act::Write),
        1 => Just(Act::CrashBeforeCommit),
        1 => Just(Act::LostAnswer),
        1 => Just(Act::TakenOver),
    ];
    prop::collection::vec((act, 0..6_usize, 0..6_usize), 0..24)
}

fn answers() -> impl Strategy<Value = Vec<Impression>> {
    // Few requests, so that some come twice, the second time with another time.
    prop::collection::vec((0..8_usize, 0..200_i64), 0..20).prop_map(|answers| {
        let of = |(request, minute)| answer(request, minute);
        answers.into_iter().map(of).collect()
    })
}

fn clicks() -> impl Strategy<Value = Vec<BehaviorEvent>> {
    // Of items 1 to 4, of which answers have three, and of requests that some never come. An id always
    // stands for the same event.
    prop::collection::vec(0..60_usize, 0..60).prop_map(|ids| {
        let of = |id: usize| {
            let minute = i64::try_from(id).unwrap() * 7_919 % 240;
            click(id, id % 10, id % 4 + 1, minute)
        };
        ids.into_iter().map(of).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_interleaving_crash_or_takeover_changes_the_last_record(
        answers in answers(), clicks in clicks(), acts in acts(),
    ) {
        // Remembered for longer than all of it takes: who is corrected does not depend on when.
        let config = LabelerConfig { correction_hours: 48, ..LabelerConfig::default() };
        let mut play = Play::new(config, answers, clicks);
        let mut writer = play.claim();
        for (act, answers, clicks) in acts {
            match act {
                Act::Write => play.write(&mut writer, answers, clicks),
                Act::CrashBeforeCommit => {
                    play.step(&mut writer, answers, clicks);
                    writer = play.claim();
                }
                Act::LostAnswer => {
                    play.write(&mut writer, answers, clicks);
                    writer = play.claim();
                }
                Act::TakenOver => {
                    let mut next = play.claim();
                    play.write(&mut next, 1, 1);
                    let (position, labelled) = play.step(&mut writer, answers, clicks);
                    let refused = play.commit(&mut writer, position, labelled);
                    prop_assert!(matches!(refused, Err(StateError::Refused { .. })), "{refused:?}");
                    writer = next;
                }
            }
        }
        play.finish(&mut writer);
        prop_assert_eq!(play.latest(), play.model());
    }
}
