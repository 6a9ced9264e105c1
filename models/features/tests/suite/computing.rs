//! Rows of features.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_features::counters::count;
use millrace_features::rates::{HalfLife, coec, decayed, smoothed_ctr, velocity};
use millrace_features::{
    Context, FeatureDeclaration, FeatureKind, FeatureSet, Field, Item, Profile, ProfileVector,
    Scores, Transform, compute,
};
use millrace_schemas::{BehaviorKind, Bucket, Feedback, ItemCounters, PositionCounts};
use proptest::prelude::*;

use crate::profiles::hostile_feedback;
use crate::samples::{DAY_MS, HOUR_MS, MODEL, NOW_MS, context, feedback, item_id, of, vector};

const SCORES: Scores = Scores {
    text: Some(7.5),
    vector: Some(0.5),
    hybrid: None,
    rank: Some(0.25),
};

fn profile_of(set: &FeatureSet, events: &[Feedback]) -> Profile {
    let (mut profile, settings) = (Profile::new("u", MODEL), set.profile_settings());
    for event in events {
        profile.apply(event, &settings);
    }
    profile
}

fn row(
    set: &FeatureSet,
    profile: &Profile,
    item: &Item<'_>,
    context: &Context,
) -> BTreeMap<String, f32> {
    let mut row = Vec::new();
    compute(set, profile, item, &SCORES, context, &mut row);
    assert_eq!(row.len(), set.len());
    set.names().map(str::to_owned).zip(row).collect()
}

fn counters() -> ItemCounters {
    let mut counters = ItemCounters::default();
    for (n, kind) in [
        BehaviorKind::Expose,
        BehaviorKind::Click,
        BehaviorKind::Like,
    ]
    .into_iter()
    .cycle()
    .take(40)
    .enumerate()
    {
        let mut event = feedback(kind, 1, NOW_MS - i64::try_from(n).unwrap() * HOUR_MS / 2).event;
        event.position = Some(1 + i32::try_from(n % 4).unwrap());
        count(&mut counters, &event);
    }
    counters
}

fn near(found: f32, expected: f64) -> bool {
    (f64::from(found) - expected).abs() <= 1e-5 * expected.abs().max(1.0)
}

#[test]
fn every_default_feature_has_its_value() {
    let set = FeatureSet::default_for(MODEL);
    let events = [
        feedback(BehaviorKind::Expose, 1, NOW_MS - 2 * HOUR_MS),
        feedback(BehaviorKind::Expose, 2, NOW_MS - 2 * HOUR_MS),
        feedback(BehaviorKind::Click, 2, NOW_MS - 2 * HOUR_MS),
        feedback(BehaviorKind::Click, 3, NOW_MS),
    ];
    let profile = profile_of(&set, &events);
    let counters = counters();
    let mut candidate = feedback(BehaviorKind::Expose, 2, NOW_MS);
    candidate.item.tags = vec!["tag-2".to_owned(), "tag-3".to_owned(), "new".to_owned()];
    let item = of(&candidate, &counters);
    let context = Context {
        position_rates: Context::of_totals([&counters], NOW_MS).position_rates,
        ..context(NOW_MS)
    };
    let row = row(&set, &profile, &item, &context);

    assert_eq!(
        (row["text_score"], row["vector_score"], row["rank_score"]),
        (7.5, 0.5, 0.25)
    );
    assert!(row["hybrid_score"].is_nan());
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    assert!(near(
        row["cosine_long_term"],
        dot(&vector(2), profile.long_term().unwrap())
    ));
    assert!(near(
        row["cosine_session"],
        dot(&vector(2), profile.session(NOW_MS).unwrap())
    ));
    assert!(near(
        row["cosine_residual"],
        dot(&vector(2), profile.residual().unwrap())
    ));
    // Σ residual · vector, from the events: 4 trials and a prior of 10; two hours decay little.
    let by_hand: f64 = [(1, -0.2), (2, -0.2), (2, 1.0), (3, 1.0)]
        .iter()
        .map(|(n, residual)| residual * dot(&vector(2), &vector(*n)))
        .sum();
    assert!((f64::from(row["residual_vector"]) - by_hand / 12.0).abs() < 1e-3);
    assert!((row["max_cosine_5"] - 1.0).abs() < 3e-3);

    for (name, half_life) in [
        ("1h", HalfLife::Hour),
        ("24h", HalfLife::Day),
        ("7d", HalfLife::Week),
    ] {
        let sum = |counted: fn(&Bucket) -> i64| decayed(&counters, half_life, NOW_MS, counted);
        assert!(near(
            row[&format!("impressions_{name}")],
            sum(|bucket| bucket.impressions)
        ));
        assert!(near(
            row[&format!("clicks_{name}")],
            sum(|bucket| bucket.clicks)
        ));
        let ctr = smoothed_ctr(&counters, half_life, NOW_MS, context.priors.day);
        assert!(near(row[&format!("ctr_{name}")], ctr));
    }
    assert!(near(
        row["coec"],
        coec(&counters, &context.position_rates, NOW_MS).unwrap()
    ));
    assert!(near(
        row["click_velocity"],
        velocity(&counters, NOW_MS, |bucket| bucket.clicks).unwrap()
    ));

    let decay = 2_f64.powf(-2.0 / 24.0 / 30.0);
    let interest = 1.0 + decay;
    assert!(near(row["category_affinity"], decay / (interest + 1.0)));
    // Items 2 and 3 have tag-2 and tag-3, twice each: as the fifth and the seventh tag.
    assert!(near(
        row["tag_affinity"],
        2.0 * (decay + 1.0) / (interest + 1.0)
    ));
    assert!(near(row["language_affinity"], interest / (interest + 1.0)));
    assert!(near(row["author_affinity"], decay / (interest + 1.0)));
    assert!(near(row["key_phrase_affinity"], decay / (interest + 1.0)));
    assert!(near(row["category_residual"], 0.8 * decay / (decay + 3.0)));
    let residual_tags = 2.0 * 0.8 * decay / (2.0 * decay + 3.0) + 2.0 / (2.0 + 3.0);
    assert!(
        near(row["tag_residual"], residual_tags),
        "{} {residual_tags}",
        row["tag_residual"]
    );
    assert!(near(
        row["key_phrase_residual"],
        0.8 * decay / (decay + 3.0)
    ));
    assert!(near(row["author_residual"], 0.8 * decay / (decay + 3.0)));
    assert!(near(row["age_hours"], 5.0));
    assert!(near(row["popularity"], 18.5_f64.ln()));
    assert!(near(row["user_clicks"], 2.0));
    assert!(near(row["user_ctr"], (interest + 2.0) / (interest + 10.0)));
    assert!(near(row["times_shown"], 1.0));
}

#[test]
fn what_is_missing_is_nan_and_what_never_happened_is_0() {
    let set = FeatureSet::default_for(MODEL);
    let (bare, none, metadata) = (
        Profile::new("u", MODEL),
        ItemCounters::default(),
        BTreeMap::new(),
    );
    let item = Item {
        item_id: "i",
        model_version: MODEL,
        vector: &[],
        categories: &[],
        tags: &[],
        key_phrases: &[],
        language: None,
        metadata: &metadata,
        published_at_ms: None,
        counters: &none,
    };
    let mut values = Vec::new();
    compute(
        &set,
        &bare,
        &item,
        &Scores::default(),
        &context(NOW_MS),
        &mut values,
    );
    let known: Vec<(&str, f32)> = set
        .names()
        .zip(values)
        .filter(|(_, value)| !value.is_nan())
        .collect();
    assert_eq!(
        known,
        [
            ("impressions_1h", 0.0),
            ("impressions_24h", 0.0),
            ("impressions_7d", 0.0),
            ("clicks_1h", 0.0),
            ("clicks_24h", 0.0),
            ("clicks_7d", 0.0),
            ("ctr_1h", 0.2),
            ("ctr_24h", 0.2),
            ("ctr_7d", 0.2),
            ("user_clicks", 0.0),
            ("user_ctr", 0.2),
            ("times_shown", 0.0),
        ]
    );
    // Somebody who only clicked has met no other category: 0, which is known.
    let clicked = profile_of(&set, &[feedback(BehaviorKind::Click, 0, NOW_MS)]);
    let other = feedback(BehaviorKind::Click, 1, NOW_MS);
    let row = row(&set, &clicked, &of(&other, &none), &context(NOW_MS));
    assert_eq!(
        (row["category_affinity"], row["category_residual"]),
        (0.0, 0.0)
    );
}

#[test]
fn a_vector_of_another_model_is_missing() {
    let set = FeatureSet::default_for(MODEL);
    let profile = profile_of(&set, &[feedback(BehaviorKind::Click, 1, NOW_MS)]);
    let none = ItemCounters::default();
    let mut other = feedback(BehaviorKind::Click, 1, NOW_MS);
    other.item.model_version = "model-2".to_owned();
    let row = row(&set, &profile, &of(&other, &none), &context(NOW_MS));
    for name in [
        "cosine_long_term",
        "cosine_session",
        "cosine_residual",
        "residual_vector",
        "max_cosine_5",
    ] {
        assert!(row[name].is_nan(), "{name}");
    }
    assert!(row["category_affinity"] > 0.0);
}

#[test]
fn a_refreshed_value_stays_until_its_time_and_an_expired_one_is_missing() {
    let declared = |name: &str, refresh_seconds, ttl_days, kind: FeatureKind| FeatureDeclaration {
        refresh_seconds,
        ttl_days,
        ..FeatureDeclaration::new(name, kind)
    };
    let clicks = || FeatureKind::Count {
        event: BehaviorKind::Click,
        half_life: HalfLife::Hour,
    };
    let long_term = || FeatureKind::Cosine {
        with: ProfileVector::LongTerm,
    };
    let set = FeatureSet::new(
        vec![
            declared("live", None, None, clicks()),
            declared("hourly", Some(3_600), None, clicks()),
            declared("mortal", None, Some(2), clicks()),
            declared("user", None, Some(2), long_term()),
        ],
        MODEL,
    )
    .unwrap();
    let start_ms = NOW_MS - NOW_MS % DAY_MS;
    let profile = profile_of(&set, &[feedback(BehaviorKind::Click, 1, start_ms)]);
    let mut counters = ItemCounters::default();
    count(
        &mut counters,
        &feedback(BehaviorKind::Click, 1, start_ms).event,
    );
    let item = feedback(BehaviorKind::Click, 1, start_ms);
    let at = |now_ms| row(&set, &profile, &of(&item, &counters), &context(now_ms));

    let (early, late) = (at(start_ms + HOUR_MS), at(start_ms + 2 * HOUR_MS - 1));
    assert!(late["live"] < early["live"]);
    assert_eq!(late["hourly"].to_bits(), early["hourly"].to_bits());
    assert!(near(at(start_ms + 2 * HOUR_MS)["hourly"], 0.25));
    for (now_ms, alive) in [
        (start_ms + 2 * DAY_MS, true),
        (start_ms + 3 * DAY_MS, false),
    ] {
        let row = at(now_ms);
        assert_eq!(
            (!row["mortal"].is_nan(), !row["user"].is_nan()),
            (alive, alive)
        );
        assert!(!row["live"].is_nan());
    }
}

#[test]
fn numbers_are_read_from_metadata_or_missing() {
    let set = FeatureSet::default_for(MODEL);
    let (profile, none) = (Profile::new("u", MODEL), ItemCounters::default());
    let popularity = |text: &str| {
        let mut item = feedback(BehaviorKind::Click, 1, NOW_MS);
        item.item
            .metadata
            .insert("popularity".to_owned(), text.to_owned());
        row(&set, &profile, &of(&item, &none), &context(NOW_MS))["popularity"]
    };
    assert!(near(popularity(" 3 "), 4_f64.ln()));
    assert_eq!(popularity("1e300"), 690.7755_f32);
    for text in ["", "many", "NaN", "inf", "-1", "1,5", &"9".repeat(1 << 20)] {
        let value = popularity(text);
        assert!(value.is_nan(), "{value}");
    }
}

/// What one candidate's row reads must not depend on who else was computed before.
#[test]
fn rows_stand_one_after_the_other() {
    let set = FeatureSet::default_for(MODEL);
    let profile = profile_of(&set, &[feedback(BehaviorKind::Click, 1, NOW_MS)]);
    let (none, some) = (ItemCounters::default(), counters());
    let [a, b] = [1, 2].map(|n| feedback(BehaviorKind::Click, n, NOW_MS));
    let context = context(NOW_MS);
    let mut rows = Vec::new();
    compute(&set, &profile, &of(&a, &some), &SCORES, &context, &mut rows);
    compute(&set, &profile, &of(&b, &none), &SCORES, &context, &mut rows);
    let mut alone = Vec::new();
    compute(
        &set,
        &profile,
        &of(&b, &none),
        &SCORES,
        &context,
        &mut alone,
    );
    let bits = |row: &[f32]| row.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&rows[set.len()..]), bits(&alone));
}

/// The event that a row is to predict must not be in it: what is applied after its row was computed
/// changes that row when it is applied before. A row that could see the future would pass neither.
#[test]
fn a_row_knows_what_was_applied_and_nothing_else() {
    let set = FeatureSet::default_for(MODEL);
    let shown = feedback(BehaviorKind::Expose, 1, NOW_MS);
    let clicked = feedback(BehaviorKind::Click, 1, NOW_MS);
    let none = ItemCounters::default();
    let before = profile_of(&set, std::slice::from_ref(&shown));
    let leaked = profile_of(&set, &[shown.clone(), clicked]);
    let honest = row(&set, &before, &of(&shown, &none), &context(NOW_MS));
    let planted = row(&set, &leaked, &of(&shown, &none), &context(NOW_MS));
    let changed: Vec<&str> = set
        .names()
        .filter(|name| honest[*name].to_bits() != planted[*name].to_bits())
        .collect();
    for name in [
        "cosine_long_term",
        "cosine_residual",
        "max_cosine_5",
        "category_residual",
        "user_clicks",
        "user_ctr",
    ] {
        assert!(changed.contains(&name), "{name} of {changed:?}");
    }
}

fn hostile_counters() -> impl Strategy<Value = ItemCounters> {
    let number = prop_oneof![
        any::<i64>(),
        NOW_MS / DAY_MS - 60..NOW_MS / DAY_MS + 60,
        Just(i64::MAX),
        Just(i64::MIN)
    ];
    let counts = prop_oneof![0..1_000_i64, Just(i64::MAX), any::<i64>()];
    let bucket = (number, counts.clone(), counts, any::<i32>()).prop_map(
        |(number, impressions, clicks, position)| Bucket {
            number,
            impressions,
            clicks,
            others: BTreeMap::from([("like".to_owned(), clicks / 2)]),
            positions: vec![PositionCounts {
                position,
                impressions: impressions / 2,
                clicks: clicks / 2,
            }],
        },
    );
    let buckets = || prop::collection::vec(bucket.clone(), 0..4);
    (buckets(), buckets(), buckets()).prop_map(|(minutes, hours, days)| ItemCounters {
        minutes,
        hours,
        days,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn nothing_is_infinite_whatever_comes(
        events in prop::collection::vec(hostile_feedback(), 0..20),
        candidate in hostile_feedback(),
        counters in hostile_counters(),
        now_ms in prop_oneof![Just(NOW_MS), any::<i64>(), Just(i64::MIN), Just(i64::MAX)],
        published_at_ms in prop::option::of(any::<i64>()),
        score in prop::option::of(any::<f32>()),
    ) {
        let mut declarations = FeatureSet::default_for(MODEL).declarations().to_vec();
        for declared in declarations.clone() {
            let timeless = matches!(declared.kind, FeatureKind::Score { .. } | FeatureKind::Number { .. } | FeatureKind::Age);
            if !timeless {
                declarations.push(FeatureDeclaration {
                    name: format!("{}.aging", declared.name),
                    refresh_seconds: Some(604_800),
                    ttl_days: Some(3_650),
                    ..declared
                });
            }
        }
        let set = FeatureSet::new(declarations, MODEL).unwrap();
        let profile = profile_of(&set, &events);
        let mut candidate = candidate;
        candidate.item.published_at_ms = published_at_ms;
        let item = of(&candidate, &counters);
        let scores = Scores { text: score, vector: score, hybrid: score, rank: score };
        let context = Context::of_totals([&counters], now_ms);
        let mut row = Vec::new();
        compute(&set, &profile, &item, &scores, &context, &mut row);
        for (name, value) in set.names().zip(&row) {
            prop_assert!(!value.is_infinite(), "{name} is {value}");
            if name.starts_with("cosine") || name.starts_with("max_cosine") {
                prop_assert!(value.is_nan() || value.abs() <= 1.0, "{name} is {value}");
            }
        }
        // Stored and read again, the profile gives the same bits.
        let stored = Profile::from_bytes(&profile.to_bytes()).unwrap();
        let mut again = Vec::new();
        compute(&set, &stored, &item, &scores, &context, &mut again);
        let bits = |row: &[f32]| row.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        prop_assert_eq!(bits(&row), bits(&again));
    }
}

#[test]
fn an_id_with_a_line_break_is_an_id() {
    let set = FeatureSet::default_for(MODEL);
    let mut event = feedback(BehaviorKind::Expose, 1, NOW_MS);
    event.event.item_id = "a\nb".to_owned();
    let profile = profile_of(&set, std::slice::from_ref(&event));
    let none = ItemCounters::default();
    assert_eq!(
        row(&set, &profile, &of(&event, &none), &context(NOW_MS))["times_shown"],
        1.0
    );
    assert!(!profile.has_seen("a") && !profile.has_seen(&item_id(1)));
}

#[test]
fn what_upstream_says_of_a_user_is_a_number_or_matches_the_items_values() {
    let number = |user_field: &str, transform| FeatureKind::UserNumber {
        user_field: user_field.to_owned(),
        transform,
    };
    let matching = |user_field: &str, field| FeatureKind::UserMatch {
        user_field: user_field.to_owned(),
        field,
    };
    let set = FeatureSet::new(
        vec![
            FeatureDeclaration::new("age", number("age", Transform::Identity)),
            FeatureDeclaration::new("log_age", number("age", Transform::Log1p)),
            FeatureDeclaration::new("city_as_number", number("city", Transform::Identity)),
            FeatureDeclaration::new("tags", matching("tags", Field::Tags)),
            FeatureDeclaration::new("lines", matching("lines", Field::Tags)),
            FeatureDeclaration::new("language", matching("city", Field::Language)),
            FeatureDeclaration::new("nothing", matching("none", Field::Tags)),
            FeatureDeclaration::new("blank", matching("blank", Field::Tags)),
        ],
        MODEL,
    )
    .unwrap();
    assert!(set.reads_user_fields() && !FeatureSet::default_for(MODEL).reads_user_fields());
    let fields = [
        ("age", " 36 "),
        ("city", "Hangzhou"),
        ("tags", "sea, tag-2 ,,tag-9"),
        ("lines", "tag-2\ntag-3, tag-4\ntag-6"),
        ("blank", " , "),
    ];
    let fields = fields.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let context = Context {
        user_fields: Arc::new(fields.into()),
        ..context(NOW_MS)
    };
    let mut candidate = feedback(BehaviorKind::Expose, 2, NOW_MS);
    candidate.item.tags = ["tag-2", "tag-3", "tag-6", "sea"].map(str::to_owned).into();
    let counters = ItemCounters::default();
    let item = of(&candidate, &counters);
    let row = row(&set, &Profile::new("u", MODEL), &item, &context);
    assert!(
        near(row["age"], 36.0) && near(row["log_age"], 37.0_f64.ln()),
        "{row:?}"
    );
    assert!(near(row["tags"], 0.5) && near(row["lines"], 0.5), "{row:?}");
    assert!(near(row["language"], 0.0), "{row:?}");
    for missing in ["city_as_number", "nothing", "blank"] {
        assert!(row[missing].is_nan(), "{missing}: {row:?}");
    }
}
