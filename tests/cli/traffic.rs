//! From topics to traffic: what was answered and clicked trains the ranker that answers next.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::harness::{Pipeline, Target, Up, eventually, on_both_targets};
use crate::recommendations::{ITEMS, films, loaded, now_ms, post, recommend};

/// Windows of clicks end at whole minutes.
const SOON: Duration = Duration::from_secs(240);
/// The first of them are asked for before anything is known of items.
const FIRST_USERS: usize = 40;
const USERS: usize = 180;
/// What everybody clicks.
const GARDENS: &str = "#g";

fn is_of_gardens(item: &Value) -> bool {
    item["uri"]
        .as_str()
        .is_some_and(|uri| uri.contains(GARDENS))
}

/// Answers to users that nobody knows yet, and what they do with them: all is shown, two of gardens
/// are clicked.
fn answered(up: &Up, users: std::ops::Range<usize>) -> anyhow::Result<Vec<Value>> {
    let mut behavior = Vec::new();
    for n in users {
        let answer = recommend(up, &format!("user_id=visitor-{n}&count={}", ITEMS.len()))?;
        let items = answer["items"].as_array().context("items")?;
        ensure!(items.len() == ITEMS.len(), "{answer}");
        let event = |item: &Value, kind: &str| {
            json!({"user_id": format!("visitor-{n}"), "item": item["uri"], "kind": kind,
                "request_id": answer["request_id"], "position": item["position"], "event_time_ms": now_ms()})
        };
        behavior.extend(items.iter().map(|item| event(item, "expose")));
        let gardens = items.iter().filter(|item| is_of_gardens(item)).take(2);
        behavior.extend(gardens.map(|item| event(item, "click")));
    }
    Ok(behavior)
}

fn of_kind(behavior: &[Value], is_click: bool) -> Value {
    let of_kind = behavior
        .iter()
        .filter(|it| (it["kind"] == "click") == is_click);
    of_kind.cloned().collect()
}

fn tell(up: &Up, behavior: &Value) -> anyhow::Result<()> {
    // An argument of a command has at most 128 KiB.
    for part in behavior.as_array().context("events")?.chunks(200) {
        let (status, answer) = post(up, "/v1/events", &json!(part))?;
        ensure!(status == 202, "{status} {answer}");
    }
    Ok(())
}

/// Versions of the rankers whose answers the topic `impressions` has.
fn told_rankers(pipeline: &Pipeline) -> anyhow::Result<BTreeSet<String>> {
    let told = pipeline.json(&["peek", "impressions", "-n", "10000"])?;
    let records = told["records"].as_array().context("records")?;
    let versions = records
        .iter()
        .filter_map(|it| it["value"]["ranker_version"].as_str());
    Ok(versions.map(str::to_owned).collect())
}

/// Clicks on the last record of each answer on the topic `training`.
fn clicks_to_learn_from(pipeline: &Pipeline) -> anyhow::Result<u64> {
    let told = pipeline.json(&["peek", "training", "-n", "10000"])?;
    let records = told["records"].as_array().context("records")?;
    let mut last = BTreeMap::new();
    for value in records.iter().map(|record| &record["value"]) {
        let revision = value["revision"].as_i64();
        let items = value["items"].as_array().context("items")?;
        let clicks = items.iter().filter_map(|item| item["clicks"].as_u64());
        let known = last
            .entry(value["request_id"].to_string())
            .or_insert((None, 0));
        *known = (*known).max((revision, clicks.sum()));
    }
    Ok(last.into_values().map(|(_, clicks)| clicks).sum())
}

fn a_ranker_of_what_was_clicked_answers_until_it_is_rolled_back(
    target: Target,
) -> anyhow::Result<()> {
    let (mut pipeline, corpus) = films(target)?;
    pipeline.set("MILLRACE_LABELER__WINDOW_MS", "5000");
    pipeline.set("MILLRACE_LABELER__IDLE_MS", "1000");
    let up = pipeline.up(&["--load", &corpus])?;
    loaded(&up)?;
    let first = answered(&up, 0..FIRST_USERS)?;
    tell(&up, &of_kind(&first, false))?;
    // Lists that nobody has clicked have one label.
    let refused = eventually("the windows of what was answered are over", SOON, || {
        let refused = pipeline.failure(&["train", "ranker"])?;
        // The first answers were given before there were items.
        let is_early = refused.contains("has no answers") || refused.contains("none of ");
        Ok((!is_early).then_some(refused))
    })?;
    ensure!(
        refused
            .contains("rankings was clicked: all items have one label, and no order can be learnt"),
        "{refused}"
    );

    tell(&up, &of_kind(&first, true))?;
    let clicked = of_kind(&first, true);
    let clicked = clicked[0]["item"].as_str().context("an item")?;
    eventually("clicks are counted", SOON, || {
        let stats = pipeline.json(&["stats", clicked])?;
        Ok((stats["clicks"].as_u64() > Some(0)).then_some(()))
    })?;
    let later = answered(&up, FIRST_USERS..USERS)?;
    tell(&up, &Value::Array(later))?;
    // The first users' clicks came after their windows, and made other records of those answers.
    eventually(
        "all answers are on the topic with their clicks",
        SOON,
        || Ok((clicks_to_learn_from(&pipeline)? == 2 * USERS as u64).then_some(())),
    )?;
    let trained = pipeline.json(&["train", "ranker"])?;
    ensure!(
        trained["topic"]["clicked"] == USERS && trained["topic"]["clicks"] == 2 * USERS,
        "{trained:#}"
    );
    let ndcg = trained["evaluation"]["ndcg_at_10"].as_f64();
    ensure!(ndcg > Some(0.5), "{trained:#}");

    let version = trained["ranker_version"].as_str().context("a version")?;
    let before = recommend(&up, "user_id=somebody&count=5&explain=true")?;
    ensure!(before["ranker_version"] == "weighted", "{before}");
    let status = pipeline.json(&["deploy", version])?;
    ensure!(
        status["deployed"] == version && status["previous"] == "weighted",
        "{status}"
    );
    let answer = recommend(&up, "user_id=somebody&count=5&explain=true")?;
    ensure!(answer["ranker_version"] == version, "{answer}");
    let items = answer["items"].as_array().context("items")?;
    let by_ranker = |item: &&Value| item["explanation"]["ranker_position"] == 1;
    let best = items.iter().find(by_ranker).context("the ranker's first")?;
    ensure!(is_of_gardens(best), "{answer}");
    ensure!(best["explanation"]["ranker_score"].is_number(), "{answer}");
    eventually("its answers are told under its name", SOON, || {
        Ok(told_rankers(&pipeline)?.contains(version).then_some(()))
    })?;

    let back = pipeline.json(&["deploy", "--rollback"])?;
    ensure!(
        back["deployed"] == "weighted" && back["previous"] == version,
        "{back}"
    );
    let answer = recommend(&up, "user_id=somebody&count=5")?;
    ensure!(answer["ranker_version"] == "weighted", "{answer}");
    let refused = pipeline.failure(&["deploy", "never-trained"])?;
    ensure!(
        refused.contains("there is no ranker model `never-trained` in `")
            && refused.contains(&format!("`; there are: {version}")),
        "{refused}"
    );
    let audited = pipeline.json(&["peek", "audit", "-n", "100"])?;
    let events = audited["records"].as_array().context("records")?;
    let phases = events.iter().map(|record| {
        let event = &record["value"];
        (event["action"].as_str(), event["phase"].as_str())
    });
    let told = [
        ("deploy", "begun"),
        ("deploy", "done"),
        ("rollback", "begun"),
        ("rollback", "done"),
        ("deploy", "begun"),
        ("deploy", "failed"),
    ];
    ensure!(
        phases.eq(told.map(|(action, phase)| (Some(action), Some(phase)))),
        "{audited:#}"
    );
    let deployed = &events[0]["value"];
    let argument = deployed["arguments"]["body"].as_str().unwrap_or_default();
    let who = deployed["who"].as_str().unwrap_or_default();
    ensure!(
        argument.contains(version) && who.contains('@'),
        "{deployed}"
    );
    up.leave()
}

on_both_targets!(a_ranker_of_what_was_clicked_answers_until_it_is_rolled_back);
