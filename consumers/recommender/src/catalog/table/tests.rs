//! What the table knows, whatever the order in which it was told.

use proptest::prelude::*;

use super::*;
use crate::samples::{clicks, signal};

const HOUR_MS: i64 = 3_600_000;

fn ids<'a>(listed: impl Iterator<Item = (&'a str, f64)>) -> Vec<&'a str> {
    listed.map(|(id, _)| id).collect()
}

#[test]
fn the_newest_version_holds_and_a_deleted_item_stays_gone() {
    let mut table = Table::new(1 << 30);
    table.put_signal(signal("a", 5), None);
    table.put_signal(signal("a", 3), Some("late"));
    assert_eq!(table.get("a").unwrap().signal.document_version, 5);
    assert_eq!(table.get("a").unwrap().traceparent, None);
    let mut gone = signal("a", 6);
    gone.deleted = true;
    table.put_signal(gone, None);
    assert!(table.get("a").is_none());
    table.put_signal(signal("a", 5), None);
    assert!(table.get("a").is_none(), "an older signal came late");
    assert_eq!((table.len(), ids(table.fresh())), (0, vec![]));
    table.put_signal(signal("a", 7), None);
    assert!(table.get("a").is_some());
    table.forget("a");
    assert_eq!(table.bytes(), 0);
}

#[test]
fn what_trends_is_what_was_acted_on_lately() {
    let mut table = Table::new(1 << 30);
    for id in ["old", "new", "shown", "unknown-yet"] {
        if id != "unknown-yet" {
            table.put_signal(signal(id, 1), None);
        }
    }
    let hour = 1_000;
    table.put_stats(clicks("old", 1, &[(hour - 48, 0, 30)]));
    table.put_stats(clicks("new", 1, &[(hour - 24, 9, 4), (hour, 9, 6)]));
    table.put_stats(clicks("shown", 1, &[(hour, 50, 0)]));
    table.put_stats(clicks("unknown-yet", 1, &[(hour, 50, 20)]));
    let now_ms = hour * HOUR_MS + 5;
    let weights: Vec<(&str, f64)> = table.trending(now_ms).collect();
    assert_eq!(weights.len(), 2);
    assert!((weights[0].1 - 8.0).abs() < 1e-9 && weights[0].0 == "new");
    assert!((weights[1].1 - 7.5).abs() < 1e-9 && weights[1].0 == "old");
    // Its signal comes later than its counters.
    table.put_signal(signal("unknown-yet", 1), None);
    assert_eq!(ids(table.trending(now_ms)), ["unknown-yet", "new", "old"]);
    // An older writer's record comes late.
    table.put_stats(clicks("new", 0, &[(hour, 900, 900)]));
    assert_eq!(ids(table.trending(now_ms)), ["unknown-yet", "new", "old"]);
    assert_eq!(table.get("new").unwrap().clicked, 10);
    // After three weeks nothing of it is left.
    assert_eq!(table.trending(now_ms + 21 * 24 * HOUR_MS).count(), 0);
    table.forget_stats("new");
    assert_eq!(ids(table.trending(now_ms)), ["unknown-yet", "old"]);
}

#[test]
fn the_oldest_items_make_room() {
    let one = {
        let mut table = Table::new(1 << 30);
        table.put_signal(signal("item-000", 1), None);
        table.bytes()
    };
    let mut table = Table::new(10 * one);
    for n in 0..25_i64 {
        table.put_signal(signal(&format!("item-{n:03}"), n << 20), None);
    }
    assert_eq!((table.len(), table.evicted), (10, 15));
    assert!(table.bytes() <= 10 * one);
    assert_eq!(ids(table.fresh())[0], "item-024");
    assert!(table.get("item-014").is_none() && table.get("item-015").is_some());
}

#[test]
fn removals_are_remembered_but_not_without_end() {
    let mut table = Table::new(1 << 30);
    for n in 0..=MAX_REMOVALS {
        let mut gone = signal(&format!("{n}"), n as i64 + 1);
        (gone.deleted, gone.vector) = (true, Vec::new());
        table.put_signal(gone, None);
    }
    assert_eq!(
        (table.gone.len(), table.items.len()),
        (MAX_REMOVALS, MAX_REMOVALS)
    );
    table.put_signal(signal("1", 1), None);
    assert!(table.get("1").is_none(), "remembered");
    table.put_signal(signal("0", 1), None);
    assert!(table.get("0").is_some(), "forgotten: the least version");
}

#[test]
fn totals_stand_apart() {
    let mut table = Table::new(1 << 30);
    table.put_stats(clicks("*@0", 1, &[(1, 100, 10)]));
    table.put_stats(clicks("*@1", 1, &[(1, 100, 20)]));
    table.put_stats(clicks("*@1", 0, &[(1, 1, 1)]));
    assert_eq!(table.totals().count(), 2);
    assert_eq!((table.counted(), table.totals_revision), (0, 2));
}

#[derive(Clone, Debug)]
enum Step {
    Signal {
        item: usize,
        version: i64,
        deleted: bool,
    },
    Stats {
        item: usize,
        revision: i64,
        clicks: i64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let signal = (0..5_usize, 0..8_i64, any::<bool>()).prop_map(|(item, version, deleted)| {
        // A version says one thing.
        let deleted = deleted && version % 3 == 0;
        Step::Signal {
            item,
            version,
            deleted,
        }
    });
    let stats = (0..5_usize, 0..8_i64).prop_map(|(item, revision)| Step::Stats {
        item,
        revision,
        clicks: revision,
    });
    prop::collection::vec(prop_oneof![signal, stats], 0..60)
}

fn apply(steps: &[Step]) -> Table {
    let mut table = Table::new(1 << 30);
    for step in steps {
        match *step {
            Step::Signal {
                item,
                version,
                deleted,
            } => {
                let mut signal = signal(&format!("i{item}"), version << 20);
                signal.deleted = deleted || version % 3 == 0;
                table.put_signal(signal, None);
            }
            Step::Stats {
                item,
                revision,
                clicks: count,
            } => {
                table.put_stats(clicks(&format!("i{item}"), revision, &[(5, 0, count)]));
            }
        }
    }
    table
}

proptest! {
    #[test]
    fn no_order_of_arrival_changes_what_is_known(steps in steps(), turn in any::<prop::sample::Index>()) {
        let mut other = steps.clone();
        other.reverse();
        if !other.is_empty() {
            let turn = turn.index(other.len());
            other.rotate_left(turn);
        }
        let (one, two) = (apply(&steps), apply(&other));
        let listed = |table: &Table| {
            let fresh: Vec<String> = table.fresh().map(|(id, _)| id.to_owned()).collect();
            let trending: Vec<String> = table.trending(5 * HOUR_MS).map(|(id, _)| id.to_owned()).collect();
            (fresh, trending, table.len(), table.counted(), table.bytes())
        };
        prop_assert_eq!(listed(&one), listed(&two));
        prop_assert_eq!(one.fresh().count(), one.len());
        prop_assert_eq!(one.matrix().rows().count(), one.len());
        for (_, _, signal) in one.matrix().rows() {
            let known = one.get(&signal.item_id).map(|item| item.signal);
            prop_assert_eq!(known.as_ref(), Some(signal));
        }
    }
}
