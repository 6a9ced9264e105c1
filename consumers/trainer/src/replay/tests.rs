//! What a replay knows at each ranking, and what it must not.

use super::*;
use crate::evaluation::Judged;
use crate::samples::{event, shown, signal};

fn click(request: &str, user: &str, item: &str, at_ms: i64) -> Vec<BehaviorEvent> {
    vec![event(user, item, BehaviorKind::Click, at_ms, Some(request))]
}

fn replay(rows: impl IntoIterator<Item = Vec<BehaviorEvent>>) -> Replayed {
    let mut replay = started();
    let rows: Vec<_> = rows.into_iter().collect();
    let rankings = rows.iter().filter_map(|row| ranking_of(row));
    replay.announce(rankings.map(|ranking| ranking.request_id));
    for (line, row) in (10..).zip(rows) {
        replay.behavior(line, row).unwrap();
    }
    replay.finish()
}

/// Three items are told in lines 1 to 3.
fn started() -> Replay {
    let features = FeatureSet::default_for("m");
    let mut replay = Replay::new(&JoinerConfig::default(), features, "m").unwrap();
    let items = [
        ("a", "3", [1.0, 0.0]),
        ("b", "2", [0.0, 1.0]),
        ("c", "1", [0.6, 0.8]),
    ];
    for (line, (item, popularity, vector)) in (1..).zip(items) {
        let signal = signal(item, vector.to_vec(), &[(POPULARITY, popularity)]);
        replay.item(line, signal);
    }
    replay
}

fn bits(replayed: &Replayed, ranking: usize) -> Vec<u32> {
    let row = &replayed.rankings[ranking].features;
    row.iter().map(|value| value.to_bits()).collect()
}

/// By the names of features, of one ranking's item.
fn value(replayed: &Replayed, ranking: usize, item: usize, feature: &str) -> f32 {
    let names = &replayed.features.names;
    let column = names.iter().position(|name| name == feature).unwrap();
    replayed.rankings[ranking].features[item * names.len() + column]
}

/// Worked out by hand. `x` is shown and was never told.
#[test]
fn baselines_are_what_was_known_before_each_ranking() {
    let list = ["a", "b", "c", "x"];
    let replayed = replay([
        shown("r1", "u", 1_000, &list),
        click("r1", "u", "b", 2_000),
        shown("r2", "v", 3_000, &list),
        click("r2", "v", "c", 4_000),
        shown("r3", "u", 5_000, &list),
        click("r3", "u", "b", 6_000),
        shown("r4", "w", 7_000, &list),
    ]);
    let ctr = |ranking: usize| replayed.baselines[ranking].item_ctr.clone();
    assert_eq!(ctr(0), [0.0; 4], "nothing was shown before");
    // One click of four exposures; the prior is ten impressions at 1/4.
    let near = |found: &[f64], expected: [f64; 4]| {
        let near = found
            .iter()
            .zip(expected)
            .all(|(a, b)| (a - b).abs() < 1e-12);
        assert!(near, "{found:?} instead of {expected:?}");
    };
    near(&ctr(1), [2.5, 3.5, 2.5, 2.5].map(|clicks| clicks / 11.0));
    near(&ctr(2), [2.5, 3.5, 3.5, 2.5].map(|clicks| clicks / 12.0));
    near(&ctr(3), [2.5, 4.5, 3.5, 2.5].map(|clicks| clicks / 13.0));
    let popularity = &replayed.baselines[0].popularity;
    assert!(popularity[..3] == [3.0, 2.0, 1.0] && popularity[3].is_nan());

    let judged = Judged::new(&replayed.rankings, 0);
    assert_eq!((judged.len(), judged.skipped()), (3, 1));
    let by_ctr = judged.measure(|index, _| replayed.baselines[index].item_ctr.clone());
    let mean = judged.mean(&by_ctr).unwrap().ndcg_at_10;
    let place = |place: u32| 1.0 / f64::from(place + 1).log2();
    // All tied; `c` tied with two others behind `b`; `b` tied with `c` in front.
    let first = (1..=4).map(place).sum::<f64>() / 4.0;
    let second = (2..=4).map(place).sum::<f64>() / 3.0;
    let third = f64::midpoint(place(1), place(2));
    assert!(
        (mean - (first + second + third) / 3.0).abs() < 1e-12,
        "{mean}"
    );
    let by_popularity = judged.measure(|index, _| replayed.baselines[index].popularity.clone());
    let mean = judged.mean(&by_popularity).unwrap().ndcg_at_10;
    assert!(
        (mean - (place(2) + place(3) + place(2)) / 3.0).abs() < 1e-12,
        "{mean}"
    );

    let counts = replayed.counts;
    assert_eq!((counts.items, counts.events, counts.unmatched), (3, 19, 4));
    assert_eq!((counts.clicks.joined, counts.duplicates), (3, 0));
}

#[test]
fn a_click_that_is_told_before_its_ranking_waits_for_it() {
    let list = ["a", "b", "c", "x"];
    let click_of_r2 = click("r2", "v", "c", 4_000);
    let in_order = replay([
        shown("r1", "u", 1_000, &list),
        shown("r2", "v", 3_000, &list),
        click_of_r2.clone(),
    ]);
    let told_early = replay([
        click_of_r2,
        shown("r1", "u", 1_000, &list),
        shown("r2", "v", 3_000, &list),
    ]);
    assert_eq!(told_early.rankings[1].clicked, [false, false, true, false]);
    assert_eq!(bits(&told_early, 1), bits(&in_order, 1));
    assert_eq!(
        told_early.baselines[1].item_ctr,
        in_order.baselines[1].item_ctr
    );
    assert_eq!(told_early.counts, in_order.counts);
    // One that names a request nobody tells of is history.
    let foreign = replay([
        click("elsewhere", "v", "c", 500),
        shown("r1", "u", 1_000, &list),
    ]);
    assert!(foreign.baselines[0].item_ctr[2] > foreign.baselines[0].item_ctr[0]);
}

#[test]
fn features_are_those_of_the_moment_and_an_item_that_was_never_told_has_none() {
    let list = ["a", "b", "c", "x"];
    let replayed = replay([
        shown("r1", "u", 1_000, &list),
        click("r1", "u", "b", 2_000),
        shown("r2", "u", 3_000, &list),
        shown("r3", "v", 4_000, &list),
    ]);
    let clicks = |ranking| [0, 1, 2].map(|item| value(&replayed, ranking, item, "clicks_24h"));
    assert_eq!(clicks(0), [0.0; 3]);
    assert_eq!(clicks(1), [0.0, 1.0, 0.0]);
    assert_eq!(value(&replayed, 1, 1, "impressions_24h"), 1.0);
    let cosine =
        |ranking| [0, 1, 2].map(|item| value(&replayed, ranking, item, "cosine_long_term"));
    assert!(cosine(0).iter().all(|cosine| cosine.is_nan()));
    assert!((cosine(1)[1] - 1.0).abs() < 1e-6 && (cosine(1)[2] - 0.8).abs() < 1e-6);
    assert!(
        cosine(2).iter().all(|cosine| cosine.is_nan()),
        "another user"
    );
    for feature in ["cosine_long_term", "popularity", "coec"] {
        assert!(value(&replayed, 1, 3, feature).is_nan(), "{feature}");
    }
}

/// The guard: an evaluation that lets clicks be known before their ranking was looked at.
#[test]
fn a_feature_that_has_seen_its_own_future_ends_the_replay() {
    let list = ["a", "b", "c"];
    let (ranking, click) = (shown("r1", "u", 1_000, &list), click("r1", "u", "b", 2_000));
    let mut honest = started();
    honest.behavior(10, ranking.clone()).unwrap();
    honest.behavior(11, click.clone()).unwrap();
    assert_eq!(value(&honest.finish(), 0, 1, "clicks_24h"), 0.0);

    let mut leaking = started();
    leaking.behavior(11, click).unwrap();
    let refused = leaking.behavior(10, ranking).unwrap_err();
    let ReplayError::Leak {
        request_id,
        line,
        knows_of,
    } = refused
    else {
        panic!("{refused}");
    };
    assert_eq!((request_id.as_str(), line, knows_of), ("r1", 10, 11));

    // Nor may an item be told by its own ranking's line, or a user's other list be known early.
    let mut leaking = started();
    leaking.item(10, signal("a", vec![1.0, 0.0], &[]));
    let list_of = |user| shown("r1", user, 1_000, &list);
    assert!(leaking.behavior(10, list_of("u")).is_err());
    let mut leaking = started();
    leaking
        .behavior(12, shown("r2", "u", 1_000, &["b", "c"]))
        .unwrap();
    assert!(leaking.behavior(10, list_of("u")).is_err());
}

/// The same without trusting the guard: whatever comes after a ranking, its row is the same.
#[test]
fn no_row_depends_on_what_comes_after_it() {
    let items = ["a", "b", "c", "x"];
    let rows: Vec<_> = (0_u8..40)
        .map(|n| {
            let (user, at_ms) = (["u", "v", "w"][usize::from(n) % 3], i64::from(n) * 60_000);
            let request = format!("r{}", n / 2);
            if n % 2 == 0 {
                shown(&request, user, at_ms, &items)
            } else {
                let user = ["u", "v", "w"][usize::from(n - 1) % 3];
                click(&request, user, items[usize::from(n / 2) % 4], at_ms)
            }
        })
        .collect();
    let whole = replay(rows.clone());
    assert_eq!(whole.rankings.len(), 20);
    for end in 1..rows.len() {
        let cut = replay(rows[..end].to_vec());
        let last = cut.rankings.len() - 1;
        assert_eq!(bits(&cut, last), bits(&whole, last), "cut after {end}");
        assert_eq!(cut.baselines[last].item_ctr, whole.baselines[last].item_ctr);
    }
}
