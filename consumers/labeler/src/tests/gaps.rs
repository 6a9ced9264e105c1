//! Real clocks have gaps: minutes between answer and click, a quiet night, a topic that is idle.

use std::time::Duration;

use crate::config::LabelerConfig;
use crate::tests::play::{Play, answer, click};

fn revisions(play: &Play) -> Vec<(String, i32)> {
    let of = |example: &millrace_schemas::TrainingExample| {
        (example.request_id.clone(), example.revision)
    };
    play.examples.iter().map(of).collect()
}

#[test]
fn an_answer_is_labelled_when_its_window_ends_and_corrected_by_what_comes_later() {
    let answers = vec![answer(0, 0), answer(1, 20), answer(2, 45)];
    let clicks = vec![
        click(0, 0, 2, 5),
        click(0, 0, 2, 5),  // doubled
        click(1, 1, 1, 30), // moves time on, while the window of 0 is open
        click(2, 0, 4, 30), // not shown
        click(3, 9, 1, 30), // of no answer
        click(4, 2, 1, 46), // the window of 0 has ended
        click(5, 0, 2, 29), // late, and in its window
        click(6, 0, 2, 31), // after it
        click(5, 0, 2, 29), // doubled
    ];
    let mut play = Play::new(LabelerConfig::default(), answers, clicks);
    let mut writer = play.claim();
    play.write(&mut writer, 3, 0);
    assert!(play.examples.is_empty(), "clicks may still come");
    play.write(&mut writer, 0, 5);
    assert!(
        play.examples.is_empty(),
        "minute 31 is whole when it is over"
    );
    assert_eq!(
        (play.done.clicks.counted, play.done.clicks.duplicates),
        (2, 1)
    );
    assert_eq!(play.done.clicks.not_shown, 1);
    play.write(&mut writer, 0, 1);
    assert_eq!(revisions(&play), [("r-0".to_owned(), 2)]);
    let example = &play.examples[0];
    let clicked: Vec<i32> = example.items.iter().map(|item| item.clicks).collect();
    assert_eq!(clicked, [0, 1, 0]);
    assert_eq!(
        example.items[1].first_click_ms,
        Some(example.served_at_ms + 5 * 60_000)
    );
    assert!(example.items[0].features[1].is_nan());

    // A restart in between forgets nothing.
    let mut writer = play.claim();
    play.write(&mut writer, 0, 3);
    assert_eq!(play.done.corrections, 1);
    assert_eq!(
        (play.done.clicks.outside, play.done.clicks.duplicates),
        (1, 1)
    );
    assert_eq!(revisions(&play)[1], ("r-0".to_owned(), 3));

    // Nothing comes for the rest of the night: the clock ends what is open.
    play.now += Duration::from_secs(29);
    writer.labels_mut().tick(play.now);
    play.write(&mut writer, 0, 0);
    assert_eq!(play.examples.len(), 2);
    play.now += Duration::from_secs(8 * 3_600);
    writer.labels_mut().tick(play.now);
    play.write(&mut writer, 0, 0);
    while writer.has_backlog() {
        play.write(&mut writer, 0, 0);
    }
    assert_eq!(
        revisions(&play)[2..],
        [("r-1".to_owned(), 2), ("r-2".to_owned(), 2)]
    );
    assert_eq!(play.latest(), play.model());
}

#[test]
fn an_answer_that_comes_after_its_clicks_and_its_window_is_labelled_at_once() {
    let answers = vec![answer(0, 500), answer(1, 1)];
    let clicks = vec![click(0, 1, 3, 2), click(1, 1, 3, 3), click(2, 0, 1, 501)];
    let mut play = Play::new(LabelerConfig::default(), answers, clicks);
    let mut writer = play.claim();
    play.write(&mut writer, 1, 3);
    assert!(play.examples.is_empty());
    play.write(&mut writer, 1, 0);
    assert_eq!(revisions(&play), [("r-1".to_owned(), 3)]);
    assert_eq!(play.examples[0].items[2].clicks, 2);
}

#[test]
fn an_answer_is_forgotten_after_the_time_of_corrections_and_not_before() {
    let config = LabelerConfig {
        correction_hours: 1,
        ..LabelerConfig::default()
    };
    let answers = vec![answer(0, 0), answer(1, 85), answer(2, 260), answer(3, 400)];
    let clicks = vec![
        click(0, 7, 1, 0), // of no answer
        click(1, 1, 1, 86),
        click(2, 0, 1, 10),  // late, in the hour of corrections
        click(3, 2, 1, 261), // time goes on: 0 and 7 are forgotten
        click(4, 0, 2, 11),  // later than that
        click(5, 3, 1, 401),
    ];
    let mut play = Play::new(config, answers, clicks);
    let mut writer = play.claim();
    play.write(&mut writer, 4, 2);
    play.write(&mut writer, 0, 1);
    assert_eq!(
        revisions(&play),
        [("r-0".to_owned(), 1), ("r-0".to_owned(), 2)]
    );
    let mut unanswered = 0;
    for _ in 0..3 {
        play.write(&mut writer, 0, 1);
        unanswered += play.done.clicks.unanswered;
        while writer.has_backlog() {
            play.write(&mut writer, 0, 0);
            unanswered += play.done.clicks.unanswered;
        }
    }
    let of_0 = revisions(&play).into_iter().filter(|(id, _)| id == "r-0");
    assert_eq!(of_0.count(), 2, "what comes later corrects nothing");
    assert_eq!(
        unanswered, 1,
        "that of 7; that of 0 is remembered until its own hour"
    );
}

#[test]
fn clicks_on_answers_that_never_come_are_kept_up_to_a_bound() {
    let clicks = (0..1_003).map(|id| click(id, 7, 1, 1)).collect();
    let mut play = Play::new(LabelerConfig::default(), Vec::new(), clicks);
    let mut writer = play.claim();
    play.write(&mut writer, 0, 1_003);
    assert_eq!(
        (play.done.clicks.waiting, play.done.clicks.unanswered),
        (1_000, 3)
    );
}
