//! What feedback makes of a profile.

use std::collections::BTreeMap;

use millrace_features::{
    FeatureSet, FeedbackPosition, Field, Profile, ProfileFormatError, ProfileSettings,
    RECENT_ITEMS, SESSION_GAP_MS,
};
use millrace_schemas::{BehaviorKind, Feedback};
use proptest::prelude::*;

use crate::samples::{DAY_MS, HOUR_MS, MODEL, NOW_MS, feedback, item_id, vector};

fn settings() -> ProfileSettings {
    FeatureSet::default_for(MODEL).profile_settings()
}

fn profile_of<'a>(events: impl IntoIterator<Item = &'a Feedback>) -> Profile {
    let (mut profile, settings) = (Profile::new("u", MODEL), settings());
    for event in events {
        profile.apply(event, &settings);
    }
    profile
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Feedback as a hostile world may send it: any order of time, any vector, any text.
pub fn hostile_feedback() -> impl Strategy<Value = Feedback> {
    let kind = prop::sample::select(BehaviorKind::ALL.to_vec());
    let time = prop_oneof![
        8 => NOW_MS - 40 * DAY_MS..NOW_MS,
        1 => Just(i64::MIN),
        1 => Just(i64::MAX),
        1 => any::<i64>(),
    ];
    let expected = prop_oneof![
        4 => (0.0..1.0_f64).prop_map(Some),
        1 => Just(None),
        1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, -3.0, 7.0]).prop_map(Some),
    ];
    let vector = prop_oneof![
        6 => (0..24_usize).prop_map(vector),
        1 => Just(vec![]),
        1 => prop::collection::vec(any::<f32>(), 0..30),
        1 => Just(vec![0.0; 24]),
        1 => Just(vec![f32::NAN; 24]),
        1 => Just(vec![f32::MAX; 24]),
        1 => Just(vec![f32::MIN_POSITIVE; 24]),
    ];
    let model = prop_oneof![6 => Just(MODEL.to_owned()), 1 => Just("model-2".to_owned())];
    let word = prop_oneof![
        "[a-e]",
        Just(String::new()),
        Just("line\nbreak\0".to_owned()),
        Just("x".repeat(100_000)),
    ];
    let words = prop::collection::vec(word, 0..4);
    let item = (0..30_usize, words.clone(), words, vector, model);
    (kind, time, expected, item).prop_map(|(kind, time, expected, item)| {
        let (n, categories, tags, vector, model_version) = item;
        let mut feedback = feedback(kind, n, time);
        feedback.expected_ctr = expected;
        feedback.event.item_id = if n == 29 {
            "an\nid".to_owned()
        } else {
            item_id(n)
        };
        feedback
            .item
            .metadata
            .insert("author".to_owned(), tags.join(","));
        feedback.item.categories = categories;
        feedback.item.tags = tags;
        feedback.item.vector = vector;
        feedback.item.model_version = model_version;
        feedback
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Stored and read again after every event, or never: the same bits.
    #[test]
    fn batches_change_no_bit(events in prop::collection::vec(hostile_feedback(), 0..60)) {
        let settings = settings();
        let mut stored = Profile::new("u", MODEL).to_bytes();
        for event in &events {
            let mut profile = Profile::from_bytes(&stored).unwrap();
            profile.apply(event, &settings);
            stored = profile.to_bytes();
        }
        prop_assert_eq!(stored, profile_of(&events).to_bytes());
    }

    /// JSON, for those who look at a profile, loses nothing either.
    #[test]
    fn json_keeps_a_profile(events in prop::collection::vec(hostile_feedback(), 0..20)) {
        let profile = profile_of(&events);
        let json = serde_json::to_string(&profile).unwrap();
        prop_assert_eq!(serde_json::from_str::<Profile>(&json).unwrap(), profile);
    }

    #[test]
    fn vectors_have_length_1_or_are_missing(events in prop::collection::vec(hostile_feedback(), 0..60)) {
        let profile = profile_of(&events);
        let vectors = [profile.long_term(), profile.session(i64::MIN), profile.residual()];
        for vector in vectors.into_iter().flatten() {
            prop_assert!((dot(vector, vector) - 1.0).abs() < 1e-4, "{vector:?}");
        }
        for recent in profile.recent() {
            if let Some(vector) = recent.vector() {
                prop_assert!((dot(&vector, &vector) - 1.0).abs() < 1e-4, "{vector:?}");
            }
        }
    }

    /// A store's broken value is an error, never a panic.
    #[test]
    fn any_bytes_are_a_profile_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200), broken in any::<prop::sample::Index>()) {
        let _ = Profile::from_bytes(&bytes);
        let mut stored = profile_of(&[feedback(BehaviorKind::Click, 1, NOW_MS)]).to_bytes();
        let at = broken.index(stored.len());
        stored[at] ^= 0x55;
        let _ = Profile::from_bytes(&stored);
        stored.truncate(at);
        prop_assert!(Profile::from_bytes(&stored).is_err());
    }
}

#[test]
fn a_profile_of_another_format_says_so() {
    let mut stored = Profile::new("u", MODEL).to_bytes();
    stored[0] = 99;
    let error = Profile::from_bytes(&stored).unwrap_err();
    assert!(matches!(error, ProfileFormatError::Format { found: 99 }));
    assert!(error.to_string().contains("rebuild profiles from feedback"));
}

#[test]
fn a_profile_of_the_format_before_is_read_without_a_position() {
    let profile = profile_of(&[feedback(BehaviorKind::Click, 1, NOW_MS)]);
    let mut stored = profile.to_bytes();
    // Neither a position nor whether vectors were made anew was kept.
    assert_eq!(stored.split_off(stored.len() - 2), [0, 0]);
    stored[0] = 1;
    let read = Profile::from_bytes(&stored).unwrap();
    assert_eq!((read.position(), read.is_rebuilt()), (None, true));
    assert_eq!(read.long_term(), profile.long_term());
    assert_eq!(read.events(), 1);
}

#[test]
fn a_profile_knows_where_it_stands() {
    let mut profile = profile_of(&[feedback(BehaviorKind::Click, 1, NOW_MS)]);
    let position = FeedbackPosition {
        partition: 3,
        offset: 8,
    };
    profile.stand_at(position);
    let read = Profile::from_bytes(&profile.to_bytes()).unwrap();
    assert_eq!(
        (read.position(), read.is_rebuilt()),
        (Some(position), false)
    );
    let moved = read.rebuilt("other", |_| None);
    assert_eq!(
        (moved.position(), moved.is_rebuilt()),
        (Some(position), true)
    );
}

#[test]
fn a_vector_goes_to_what_was_clicked_and_turns_with_time() {
    let old = feedback(BehaviorKind::Click, 1, NOW_MS - 60 * DAY_MS);
    let new = feedback(BehaviorKind::Click, 2, NOW_MS);
    let shown = feedback(BehaviorKind::Expose, 3, NOW_MS);
    let profile = profile_of([&old, &new, &shown]);
    let long_term = profile.long_term().unwrap();
    // Two half-lives: a fourth of the weight.
    let expected: Vec<f32> = vector(1)
        .iter()
        .zip(vector(2))
        .map(|(old, new)| 0.25 * old + new)
        .collect();
    let length = dot(&expected, &expected).sqrt();
    let cosine = dot(long_term, &expected) / length;
    assert!((cosine - 1.0).abs() < 1e-6, "{cosine}");
    // The session forgot the old one.
    let session = profile.session(NOW_MS).unwrap();
    assert!((dot(session, &vector(2)) - 1.0).abs() < 1e-6);
    assert!(profile.session(NOW_MS + SESSION_GAP_MS).is_some());
    assert_eq!(profile.session(NOW_MS + SESSION_GAP_MS + 1), None);
}

#[test]
fn an_event_that_comes_late_weighs_what_it_would_have() {
    let [old, new] = [(1, NOW_MS - 30 * DAY_MS), (2, NOW_MS)]
        .map(|(n, time_ms)| feedback(BehaviorKind::Click, n, time_ms));
    let in_order = profile_of([&old, &new]);
    let late = profile_of([&new, &old]);
    assert_eq!(late.updated_at_ms(), Some(NOW_MS));
    let cosine = dot(in_order.long_term().unwrap(), late.long_term().unwrap());
    assert!((cosine - 1.0).abs() < 1e-6, "{cosine}");
    for (a, b) in in_order.heaviest().iter().zip(late.heaviest()) {
        assert_eq!(a.0, b.0);
        assert!((a.1 - b.1).abs() < 1e-6);
    }
    assert_eq!(
        in_order
            .recent()
            .map(|item| &item.item_id)
            .collect::<Vec<_>>(),
        late.recent().map(|item| &item.item_id).collect::<Vec<_>>()
    );
}

#[test]
fn a_residual_is_what_was_not_expected() {
    let categories = Field::Categories;
    let mut hit = feedback(BehaviorKind::Expose, 0, NOW_MS);
    hit.expected_ctr = Some(0.9);
    let mut clicked = feedback(BehaviorKind::Click, 0, NOW_MS);
    clicked.expected_ctr = Some(0.9);
    let passed_over = feedback(BehaviorKind::Expose, 1, NOW_MS);
    let mut unknown = feedback(BehaviorKind::Expose, 2, NOW_MS);
    unknown.expected_ctr = None;
    let profile = profile_of([&hit, &passed_over, &unknown, &clicked]);

    let residual = |value| {
        profile
            .affinity(&categories, value, NOW_MS)
            .map(|affinity| affinity.residual)
    };
    let near = |found: Option<f32>, expected: f32| {
        found.is_some_and(|found| (found - expected).abs() < 1e-6)
    };
    assert!(near(residual("category-0"), 0.1), "everybody clicks it");
    assert!(near(residual("category-1"), -0.2));
    assert!(near(residual("category-2"), 0.0), "no rate was told");
    assert_eq!(residual("category-9"), None);
    let vector_of_residuals = profile.residual().unwrap();
    assert!(dot(vector_of_residuals, &vector(0)) > dot(vector_of_residuals, &vector(2)));
    assert!(dot(vector_of_residuals, &vector(2)) > dot(vector_of_residuals, &vector(1)));

    let later = profile
        .affinity(&categories, "category-1", NOW_MS + 30 * DAY_MS)
        .unwrap();
    assert!((later.residual + 0.1).abs() < 1e-6 && (later.trials() - 0.5).abs() < 1e-6);
}

#[test]
fn caps_hold_and_keep_what_weighs() {
    let settings = ProfileSettings {
        fields: vec![Field::Tags, Field::KeyPhrases],
        items: 20,
        values: 10,
        seen: 30,
    };
    let mut profile = Profile::new("u", MODEL);
    for round in 0..3 {
        profile.apply(&feedback(BehaviorKind::Buy, 0, NOW_MS + round), &settings);
    }
    for n in 1..400 {
        let time_ms = NOW_MS + 10 + i64::try_from(n).unwrap();
        profile.apply(&feedback(BehaviorKind::Expose, n, time_ms), &settings);
        profile.apply(&feedback(BehaviorKind::Click, n, time_ms), &settings);
    }
    assert_eq!(profile.recent().len(), RECENT_ITEMS);
    assert_eq!(profile.recent().next().unwrap().item_id, item_id(399));
    assert_eq!(profile.heaviest().len(), 20);
    assert_eq!(profile.heaviest()[0].0, item_id(0));
    assert!(
        profile
            .affinity(&Field::KeyPhrases, "phrase 0", NOW_MS)
            .is_some()
    );
    assert!(
        profile
            .affinity(&Field::Categories, "category-0", NOW_MS)
            .is_none()
    );
    // Some sixty clicks each as one of five, and half as many as one of seven; then fifteen.
    let terms = profile.interest_terms(20);
    assert!(
        terms[..5].iter().all(|term| term.starts_with("tag-")),
        "{terms:?}"
    );
    assert_eq!(terms[7], "phrase 0");
    let seen = (0..400).filter(|n| profile.has_seen(&item_id(*n))).count();
    assert!((27..=30).contains(&seen), "{seen}");
    let values = |field| {
        (0..400)
            .filter(|n| {
                profile
                    .affinity(&field, &format!("phrase {n}"), NOW_MS)
                    .is_some()
            })
            .count()
    };
    assert!((9..=10).contains(&values(Field::KeyPhrases)));
    assert!(profile.has_seen(&item_id(399)) && !profile.has_seen(&item_id(1)));
    assert_eq!(profile.count(BehaviorKind::Click), 399);
    let bytes = profile.to_bytes().len();
    assert!(bytes < 10_000, "{bytes}");
}

#[test]
fn a_full_profile_stays_small() {
    let settings = settings();
    let mut profile = Profile::new("u", MODEL);
    for n in 0..3_000_usize {
        let mut event = feedback(BehaviorKind::Click, n, NOW_MS + i64::try_from(n).unwrap());
        event.event.item_id = format!("{n:032x}");
        event.item.vector = (0..384)
            .map(|i| if i == n % 384 { 0.8 } else { 0.03 })
            .collect();
        event.item.tags = (0..8).map(|i| format!("some tag {}", n * 8 + i)).collect();
        event.item.key_phrases = (0..8)
            .map(|i| format!("a key phrase {}", n * 8 + i))
            .collect();
        event
            .item
            .metadata
            .insert("author".to_owned(), format!("Author {n}"));
        profile.apply(&event, &settings);
    }
    let kib = profile.to_bytes().len() / 1024;
    assert!(kib < 160, "{kib} KiB");
}

#[test]
fn vectors_of_two_models_never_meet() {
    let mut other = feedback(BehaviorKind::Click, 2, NOW_MS + HOUR_MS);
    other.item.model_version = "model-2".to_owned();
    let one = feedback(BehaviorKind::Click, 1, NOW_MS);
    let profile = profile_of([&one, &other]);
    assert_eq!(profile.model_version(), MODEL);
    assert!((dot(profile.long_term().unwrap(), &vector(1)) - 1.0).abs() < 1e-6);
    assert!(
        profile
            .affinity(&Field::Categories, "category-2", NOW_MS)
            .is_some()
    );
    let recent: Vec<bool> = profile
        .recent()
        .map(|item| item.vector().is_some())
        .collect();
    assert_eq!(recent, [false, true]);

    // Rebuilt in the other space, both items are there.
    let known = BTreeMap::from([
        (item_id(1), vec![0.0, 3.0, 0.0]),
        (item_id(2), vec![0.0, 0.0, 3.0]),
    ]);
    let rebuilt = profile.rebuilt("model-2", |item_id| known.get(item_id).cloned());
    assert_eq!(rebuilt.model_version(), "model-2");
    let long_term = rebuilt.long_term().unwrap();
    assert_eq!(long_term.len(), 3);
    assert!(long_term[1] > 0.7 && long_term[2] > long_term[1]);
    assert!(rebuilt.session(NOW_MS + HOUR_MS).unwrap()[2] > 0.9);
    assert!(rebuilt.recent().all(|item| item.vector().is_some()));
    assert_eq!(rebuilt.heaviest(), profile.heaviest());

    // A profile without a vector takes the space that it meets.
    let met = profile_of([&other]);
    assert_eq!(met.model_version(), "model-2");
    assert!(met.long_term().is_some());
    // And one whose items nobody knows any more has none.
    let lost = profile.rebuilt("model-3", |_| None);
    assert_eq!(
        (lost.long_term(), lost.session(NOW_MS), lost.residual()),
        (None, None, None)
    );
}

#[test]
fn an_item_clicked_again_is_recent_once() {
    let events = [(1, 0), (2, 10), (1, 20), (2, 5)]
        .map(|(n, at)| feedback(BehaviorKind::Click, n, NOW_MS + at));
    let profile = profile_of(&events);
    let recent: Vec<(&str, i64)> = profile
        .recent()
        .map(|item| (item.item_id.as_str(), item.time_ms - NOW_MS))
        .collect();
    assert_eq!(recent, [("item-1", 20), ("item-2", 10)]);
    let seen = profile.seen(&item_id(1)).unwrap();
    assert_eq!((seen.shown, seen.acted, seen.last_ms), (0, 2, NOW_MS + 20));
}

#[test]
fn a_removed_item_counts_and_adds_no_vector() {
    let mut gone = feedback(BehaviorKind::Click, 1, NOW_MS);
    gone.item = millrace_schemas::FeedbackItem {
        deleted: true,
        document_version: 2,
        model_version: MODEL.to_owned(),
        ..Default::default()
    };
    let profile = profile_of([&gone]);
    assert_eq!(profile.long_term(), None);
    assert_eq!(profile.count(BehaviorKind::Click), 1);
    assert!(profile.has_seen(&item_id(1)));
    assert_eq!(profile.heaviest(), [("item-1", 1.0)]);
}
