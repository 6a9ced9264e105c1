//! `eval ranking` and `train ranker`: recorded events and topics in, a judged model out.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use millrace_schemas::{TrainingExample, TrainingItem};
use serde_json::{Value, json};

use crate::answers;
use crate::harness::{Pipeline, Target, text};

const ITEMS: usize = 12;
const SHOWN: usize = 6;
const GENRES: [(&str, &str); 2] = [
    (
        "western",
        "A sheriff rides through the desert after an outlaw.",
    ),
    (
        "musical",
        "A young singer dances her way to the stage of Broadway.",
    ),
];

/// Users like westerns or musicals and click nothing else: only who knows the user can tell.
fn recording(rankings: std::ops::Range<usize>) -> String {
    let mut lines = String::new();
    let mut line = |value: Value| lines.push_str(&format!("{value}\n"));
    for item in 0..ITEMS {
        let (genre, story) = GENRES[item % 2];
        line(
            json!({"event": "item", "id": format!("e{item}"), "item": item.to_string(), "timestamp": "1600000000000",
            "fields": [{"name": "title", "value": format!("Film {item}")}, {"name": "genres", "value": [genre]},
                {"name": "description", "value": story}, {"name": "popularity", "value": item}]}),
        );
    }
    for n in rankings {
        let (request, user) = (format!("r{n}"), n % 30);
        let at_ms = 1_600_000_000_000 + n as u64 * 60_000;
        let shown: Vec<usize> = (0..SHOWN)
            .map(|place| (n * 7 + place * 5) % ITEMS)
            .collect();
        let items: Vec<Value> = shown
            .iter()
            .map(|item| json!({"id": item.to_string()}))
            .collect();
        line(
            json!({"event": "ranking", "id": request, "user": format!("u{user}"), "items": items,
            "timestamp": at_ms.to_string()}),
        );
        // One ranking in ten is left without a click.
        for item in shown
            .iter()
            .filter(|item| **item % 2 == user % 2 && n % 10 != 9)
        {
            line(
                json!({"event": "interaction", "id": format!("c{n}-{item}"), "ranking": request,
                "user": format!("u{user}"), "item": item.to_string(), "type": "click",
                "timestamp": (at_ms + 5_000).to_string()}),
            );
        }
    }
    lines
}

fn prepared() -> anyhow::Result<Pipeline> {
    let mut pipeline = Pipeline::new(Target::Embedded)?;
    let vectors = pipeline.path("vectors");
    pipeline.set("MILLRACE_VECTORS", text(&vectors)?);
    Ok(pipeline)
}

#[test]
fn a_ranker_that_knows_its_users_beats_what_all_click_and_is_the_same_again() -> anyhow::Result<()>
{
    let pipeline = prepared()?;
    let events = pipeline.write("events.jsonl", recording(0..400))?;
    let evaluate = ["eval", "ranking", "--events", text(&events)?];
    let report = pipeline.json(&evaluate)?;
    ensure!(
        report["rankings"] == 72 && report["skipped"] == 8,
        "{report:#}"
    );
    let number = |value: &Value| value.as_f64().context("a number");
    ensure!(number(&report["ndcg_at_10"])? > 0.99, "{report:#}");
    ensure!(
        number(&report["vs_item_ctr"]["ci95"][0])? > 0.0,
        "{report:#}"
    );
    for baseline in ["random", "popularity", "item_ctr"] {
        ensure!(number(&report["baselines"][baseline])? < 0.95, "{report:#}");
    }
    ensure!(
        report["cold"].is_null() && report["warm"]["rankings"] == 72,
        "{report:#}"
    );
    let again = pipeline.json(&evaluate)?;
    ensure!(again == report, "{again:#}\nis not\n{report:#}");

    // Of other users, after it: their first rankings are cold, and nothing is trained on them.
    let later = pipeline.write(
        "later.jsonl",
        recording(400..500).replace("\"user\":\"u", "\"user\":\"v"),
    )?;
    let after = pipeline.json(&[&evaluate[..], &["--test-events", text(&later)?]].concat())?;
    ensure!(after["training"]["rankings"] == 400, "{after:#}");
    ensure!(
        after["rankings"] == 90 && after["skipped"] == 10,
        "{after:#}"
    );
    ensure!(after["cold"]["rankings"] == 27, "{after:#}");
    let gap = number(&after["warm"]["ndcg_at_10"])? - number(&after["cold"]["ndcg_at_10"])?;
    ensure!(gap > 0.1, "{after:#}");

    let trained = pipeline.json(&["train", "ranker", "--events", text(&events)?])?;
    ensure!(
        trained["evaluation"]["ndcg_at_10"] == report["ndcg_at_10"],
        "{trained:#}"
    );
    let file = PathBuf::from(trained["file"].as_str().context("a file")?);
    ensure!(
        file.is_file() && file.extension().is_some_and(|e| e == "ranker"),
        "{trained:#}"
    );
    ensure!(
        trained["importance"][0]["gain"].as_f64() > Some(0.0),
        "{trained:#}"
    );
    Ok(())
}

#[test]
fn what_cannot_be_learnt_from_is_refused_with_the_reason() -> anyhow::Result<()> {
    let pipeline = prepared()?;
    let refused = |name: &str, content: &str, expected: &str| {
        let path = pipeline.write(name, content)?;
        let said = pipeline.failure(&["train", "ranker", "--events", text(&path)?])?;
        ensure!(said.contains(expected), "{said}");
        anyhow::Ok(())
    };
    let all = recording(0..200);
    let silent: Vec<&str> = all.lines().filter(|l| !l.contains("interaction")).collect();
    refused(
        "silent.jsonl",
        &silent.join("\n"),
        "nothing of 160 rankings was clicked",
    )?;
    refused("few.jsonl", &recording(0..50), "100 are needed")?;
    refused("none.jsonl", &recording(0..0), "tells of no ranking")?;
    let missing = pipeline.failure(&["eval", "ranking", "--events", "missing.jsonl"])?;
    ensure!(missing.contains("missing.jsonl"), "{missing}");
    Ok(())
}

fn example(n: usize, version: &str, columns: usize, at_ms: i64) -> TrainingExample {
    let liked = n * 5 % SHOWN;
    let item = |place: usize| TrainingItem {
        // The first feature says it; the others are missing.
        features: (0..columns)
            .map(|column| match column {
                0 => f32::from(u8::from(place == liked)),
                _ => f32::NAN,
            })
            .collect(),
        ..answers::item(
            &format!("i{place}"),
            i32::try_from(place + 1).unwrap_or(i32::MAX),
            0,
        )
    };
    let items = (0..SHOWN).map(item).collect();
    TrainingExample {
        feature_version: version.to_owned(),
        ..answers::answer(&format!("r{n}"), &format!("u{}", n % 20), at_ms, items)
    }
}

#[test]
fn a_ranker_is_trained_on_what_was_answered_and_clicked() -> anyhow::Result<()> {
    let pipeline = prepared()?;
    // What features there are, by a training that has nothing to do with the topics.
    let events = pipeline.write("events.jsonl", recording(0..200))?;
    let known = pipeline.json(&["train", "ranker", "--events", text(&events)?])?;
    let version = known["feature_version"].as_str().context("a version")?;
    let columns = known["importance"].as_array().context("importance")?.len();
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let start_ms = now_ms - 2 * 3_600_000;
    // A click that came late: the answer has two records.
    let examples = (0..300).flat_map(|n| {
        let version = if n % 10 == 0 { "older" } else { version };
        let shown = example(n, version, columns, start_ms + n as i64);
        let mut clicked = shown.clone();
        clicked.count_click(n * 5 % SHOWN, shown.served_at_ms + 60_000);
        [shown, clicked]
    });
    pipeline.with_kafka(|kafka| answers::publish(&kafka, examples))?;
    let trained = pipeline.json(&["train", "ranker"])?;
    let topic = &trained["topic"];
    ensure!(
        topic["answers"] == 300 && topic["other_feature_version"] == 30,
        "{trained:#}"
    );
    ensure!(
        topic["replaced"] == 300 && topic["clicked"] == 270 && topic["clicks"] == 270,
        "{trained:#}"
    );
    ensure!(trained["trained_on"] == 216, "{trained:#}");
    ensure!(
        trained["evaluation"]["ndcg_at_10"].as_f64() > Some(0.99),
        "{trained:#}"
    );
    ensure!(
        trained["evaluation"]["vs_item_ctr"].is_null(),
        "{trained:#}"
    );

    let nothing = pipeline.failure(&["train", "ranker", "--to", "2001-01-01T00:00:00Z"])?;
    ensure!(nothing.contains("has no answers of that time"), "{nothing}");
    let backwards = [
        "train",
        "ranker",
        "--from",
        "2002-01-01T00:00:00Z",
        "--to",
        "2001-01-01T00:00:00Z",
    ];
    let output = pipeline.output(&backwards)?;
    ensure!(output.status.code() == Some(2), "{:?}", output.status);
    Ok(())
}
