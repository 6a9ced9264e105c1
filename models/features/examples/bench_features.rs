//! What a candidate's row of the default features costs, and what an event costs a profile.
//!
//! ```text
//! cargo run --release -p millrace-features --example bench_features
//! ```
//!
//! A user with 2,000 clicks and 10,000 exposures, 1,000 candidates with vectors of 384 components,
//! eight tags and key phrases each, and an event in each of the last 600 minutes, 160 hours and 56
//! days: as heavy as a user and an item get.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use millrace_features::counters::count;
use millrace_features::{Context, FeatureSet, Item, Profile, Scores, compute};
use millrace_schemas::{BehaviorEvent, BehaviorKind, Feedback, FeedbackItem, ItemCounters, Origin};

const NOW_MS: i64 = 1_700_000_000_000;
const MINUTE_MS: i64 = 60_000;
const CANDIDATES: usize = 1_000;
const MODEL: &str = "model";

fn main() {
    let set = FeatureSet::default_for(MODEL);
    let settings = set.profile_settings();
    let mut profile = Profile::new("user", MODEL);
    let events: Vec<Feedback> = (0..12_000).map(event).collect();
    let start = Instant::now();
    for event in &events {
        profile.apply(event, &settings);
    }
    let apply = start.elapsed() / u32::try_from(events.len()).unwrap();
    let start = Instant::now();
    let stored = profile.to_bytes();
    let write = start.elapsed();
    let start = Instant::now();
    let profile = Profile::from_bytes(&stored).unwrap();
    let read = start.elapsed();

    let [heavy, light] = [true, false].map(|heavy| counters(if heavy { 600 } else { 3 }));
    let items: Vec<FeedbackItem> = (0..CANDIDATES).map(|n| item(n * 7)).collect();
    let scores = Scores {
        text: Some(3.0),
        vector: Some(0.5),
        hybrid: Some(0.7),
        rank: Some(0.1),
    };
    let context = Context::of_totals([&heavy], NOW_MS);
    let mut rows = Vec::with_capacity(CANDIDATES * set.len());
    let mut time = |counters: &ItemCounters| {
        let once = || {
            rows.clear();
            let start = Instant::now();
            for item in &items {
                let candidate = Item {
                    item_id: "00112233445566778899aabbccddeeff",
                    model_version: &item.model_version,
                    vector: &item.vector,
                    categories: &item.categories,
                    tags: &item.tags,
                    key_phrases: &item.key_phrases,
                    language: item.language.as_deref(),
                    metadata: &item.metadata,
                    published_at_ms: item.published_at_ms,
                    counters,
                };
                compute(&set, &profile, &candidate, &scores, &context, &mut rows);
            }
            black_box(&rows);
            start.elapsed().as_secs_f64() * 1e6 / CANDIDATES as f64
        };
        let mut times: Vec<f64> = std::iter::repeat_with(once).take(21).collect();
        times.sort_by(f64::total_cmp);
        times[0]
    };
    println!("features                     {}", set.len());
    println!("row, item with few events    {:.2} µs", time(&light));
    println!("row, item with many events   {:.2} µs", time(&heavy));
    println!(
        "profile, apply an event      {:.2} µs",
        apply.as_secs_f64() * 1e6
    );
    println!("profile, size                {} KiB", stored.len() / 1024);
    println!(
        "profile, write, read         {:.0} µs, {:.0} µs",
        write.as_secs_f64() * 1e6,
        read.as_secs_f64() * 1e6
    );
}

fn event(n: usize) -> Feedback {
    let kind = if n % 6 == 5 {
        BehaviorKind::Click
    } else {
        BehaviorKind::Expose
    };
    Feedback {
        event: behavior(
            kind,
            n,
            NOW_MS - (12_000 - i64::try_from(n).unwrap()) * MINUTE_MS,
        ),
        origin: Origin {
            topic: String::new(),
            partition: 0,
            offset: 0,
        },
        expected_ctr: Some(0.2),
        item: item(n),
    }
}

fn behavior(kind: BehaviorKind, n: usize, event_time_ms: i64) -> BehaviorEvent {
    BehaviorEvent {
        event_id: String::new(),
        user_id: "user".to_owned(),
        item_id: format!("{n:032x}"),
        item: String::new(),
        kind,
        value: None,
        event_time_ms,
        request_id: None,
        trace_info: None,
        scene_id: None,
        position: Some(1 + i32::try_from(n % 24).unwrap()),
        attributes: BTreeMap::new(),
        source: String::new(),
    }
}

fn item(n: usize) -> FeedbackItem {
    let words = |kind: &str, step: usize| {
        (0..8)
            .map(|i| format!("some {kind} {}", (n * step + i * i) % 700))
            .collect()
    };
    FeedbackItem {
        document_version: 1,
        model_version: MODEL.to_owned(),
        vector: (0..384)
            .map(|i| ((n * 31 + i * 17) % 101) as f32 / 1000.0 - 0.05)
            .collect(),
        title: None,
        language: Some("en".to_owned()),
        categories: vec![
            format!("category {}", n % 20),
            format!("category {}", n % 13),
        ],
        tags: words("tag", 3),
        key_phrases: words("phrase", 11),
        near_duplicate_hash: 0,
        published_at_ms: Some(NOW_MS - 1_000_000),
        deleted: false,
        metadata: BTreeMap::from([
            ("author".to_owned(), format!("Author {}", n % 300)),
            ("popularity".to_owned(), "12.5".to_owned()),
        ]),
    }
}

fn counters(minutes: i64) -> ItemCounters {
    let mut counters = ItemCounters::default();
    for n in 0..minutes {
        for time_ms in [NOW_MS - n * MINUTE_MS, NOW_MS - n * 60 * MINUTE_MS] {
            let kind = if n % 6 == 5 {
                BehaviorKind::Click
            } else {
                BehaviorKind::Expose
            };
            count(
                &mut counters,
                &behavior(kind, usize::try_from(n).unwrap(), time_ms),
            );
        }
    }
    counters
}
