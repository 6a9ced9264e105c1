//! Who is explored, where, and how likely that was.

use millrace_ranker::exploration::{ColdItem, Exploration, ExplorationError, Explored};
use proptest::prelude::*;

fn item(impressions: u64, clicks: u64) -> ColdItem {
    ColdItem {
        impressions,
        clicks,
    }
}

fn choose(
    exploration: &Exploration,
    request: usize,
    items: &[ColdItem],
    count: usize,
) -> Vec<Explored> {
    let id = format!("request-{request}");
    exploration.choose(&id, items, count).unwrap()
}

#[test]
fn an_answer_can_be_recomputed_from_its_request_id() {
    let items = [item(0, 0); 8];
    let exploration = Exploration::default();
    let first: Vec<_> = (0..50)
        .map(|request| choose(&exploration, request, &items, 10))
        .collect();
    let again: Vec<_> = (0..50)
        .map(|request| choose(&exploration, request, &items, 10))
        .collect();
    assert_eq!(first, again);
    let distinct: std::collections::BTreeSet<usize> =
        first.iter().flatten().map(|e| e.item).collect();
    assert!(distinct.len() > 4, "requests explore alike: {distinct:?}");
}

/// The identity that counterfactual estimates rest on: an item's outcomes, each weighted by one over
/// its propensity, count every request once. Items here differ tenfold in their chances. An estimate
/// from finitely many draws is right on average but its inverse is a little too great, by about
/// (1 − p)/(p · draws): 3 % for the least likely item.
#[test]
fn inverse_propensities_count_every_request_once() {
    let items = [item(0, 0), item(40, 8), item(60, 1), item(5, 1)];
    let exploration = Exploration {
        draws: 400,
        ..Exploration::default()
    };
    for (count, requests) in [(10, 2000), (4, 4000)] {
        let mut weights = [0.0; 4];
        let mut places = 0;
        for request in 0..requests {
            for explored in choose(&exploration, request, &items, count) {
                assert_eq!(explored.place, count - 1);
                weights[explored.item] += 1.0 / explored.propensity;
                places += 1;
            }
        }
        let expected = requests as f64 * count as f64 / 10.0;
        assert!(
            (f64::from(places) - expected).abs() <= 0.05 * expected,
            "{places}"
        );
        for (item, weight) in weights.iter().enumerate().filter(|(item, _)| *item != 2) {
            let share = weight / requests as f64;
            assert!(
                (share - 1.0).abs() < 0.12,
                "item {item} of {count} places: {share}"
            );
        }
    }
}

#[test]
fn alike_items_are_equally_likely() {
    let exploration = Exploration {
        draws: 2000,
        ..Exploration::default()
    };
    for explored in choose(&exploration, 1, &[item(3, 1); 5], 20) {
        assert!((explored.propensity - 0.2).abs() < 0.04, "{explored:?}");
    }
    // What is almost never chosen keeps the floor's propensity.
    let unlikely = [item(1_000_000, 500_000), item(1_000_000, 1)];
    let explored = choose(&exploration, 1, &unlikely, 20);
    assert_eq!(explored[0].item, 0);
    assert!((explored[0].propensity - 1.0).abs() < 1e-12);
    assert_eq!(explored[1].item, 1);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn one_place_in_ten_each_item_once(
        id in any::<String>(),
        shown in prop::collection::vec((any::<u32>(), any::<u32>()), 0..12),
        count in 0..64usize,
    ) {
        let items: Vec<ColdItem> = shown
            .iter()
            .map(|(a, b)| item(u64::from(*a.max(b)), u64::from(*a.min(b))))
            .collect();
        let exploration = Exploration { draws: 20, ..Exploration::default() };
        let explored = exploration.choose(&id, &items, count).unwrap();
        let least = (count / 10).min(items.len());
        let most = count.div_ceil(10).min(items.len());
        prop_assert!((least..=most).contains(&explored.len()), "{} of {count}", explored.len());
        for (tens, explored) in explored.iter().enumerate() {
            prop_assert!(explored.item < items.len());
            prop_assert_eq!(explored.place, (tens * 10 + 9).min(count - 1));
            prop_assert!(explored.propensity >= 0.01 && explored.propensity <= 1.0);
        }
        let mut chosen: Vec<usize> = explored.iter().map(|explored| explored.item).collect();
        chosen.sort_unstable();
        chosen.dedup();
        prop_assert_eq!(chosen.len(), explored.len());
    }
}

#[test]
fn settings_and_items_without_sense_are_refused() {
    let default = Exploration::default();
    let refused = default.choose("r", &[item(0, 0), item(1, 2)], 10);
    assert!(matches!(
        refused,
        Err(ExplorationError::Clicks { item: 1, .. })
    ));
    for (exploration, named) in [
        (
            Exploration {
                prior_clicks: 0.0,
                ..default
            },
            "prior_clicks",
        ),
        (
            Exploration {
                prior_impressions: 1.0,
                ..default
            },
            "prior_impressions",
        ),
        (
            Exploration {
                prior_impressions: f64::NAN,
                ..default
            },
            "prior_impressions",
        ),
        (
            Exploration {
                draws: 0,
                ..default
            },
            "draws",
        ),
        (
            Exploration {
                floor: 0.0,
                ..default
            },
            "floor",
        ),
    ] {
        let error = exploration
            .choose("r", &[item(0, 0)], 10)
            .unwrap_err()
            .to_string();
        assert!(error.contains(named), "{error}");
    }
}
