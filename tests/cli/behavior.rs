//! `millrace publish behavior` and `POST /v1/events`, against a running `up` and without one.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::harness::{Pipeline, Target, Up, eventually, text};

const TEMPLATE: &str = "file:///films.jsonl.gz#{item}";

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

fn rows(user: &str, count: usize) -> String {
    let row = |n: usize| {
        json!({"user_id": user, "item": n, "kind": "click", "event_time_ms": now_ms()}).to_string()
    };
    (0..count).map(|n| row(n) + "\n").collect()
}

/// The items of all clicks of a user, in the order of the topic.
fn clicked(pipeline: &Pipeline, user: &str) -> anyhow::Result<Vec<String>> {
    let peeked = pipeline.json(&["peek", "behavior", "-n", "100000"])?;
    let records = peeked["records"].as_array().context("records")?;
    Ok(records
        .iter()
        .filter(|record| record["key"] == user)
        .filter_map(|record| record["value"]["item"].as_str().map(str::to_owned))
        .collect())
}

/// Status and body of a POST to `/v1/events`, through curl as an operator would.
fn post(up: &Up, body: &str) -> anyhow::Result<(u16, Value)> {
    let output = std::process::Command::new("curl")
        .args([
            "-sS",
            "--noproxy",
            "*",
            "-w",
            "\n%{http_code}",
            "--data-binary",
            body,
        ])
        .arg(format!("{}/v1/events", up.api()))
        .output()?;
    answer(&output.stdout)
}

fn answer(output: &[u8]) -> anyhow::Result<(u16, Value)> {
    let (body, status) = std::str::from_utf8(output)?
        .rsplit_once('\n')
        .context("curl wrote the status last")?;
    Ok((status.trim().parse()?, serde_json::from_str(body)?))
}

fn publishes_a_file(target: Target) -> anyhow::Result<()> {
    let pipeline = Pipeline::new(target)?;
    let file = pipeline.write("rows.jsonl", rows("u1", 300))?;
    let args = ["publish", "behavior", text(&file)?, "--item-uri", TEMPLATE];
    let dry = pipeline.json(&[&args[..], &["--dry-run"]].concat())?;
    ensure!(dry["dry_run"] == true && dry["events"] == 300, "{dry}");
    let done = pipeline.json(&args)?;
    ensure!(
        done["events"] == 300 && done["rejected"] == 0 && done["events_by_kind"]["click"] == 300,
        "{done}"
    );
    let expected: Vec<String> = (0..300).map(|n| n.to_string()).collect();
    ensure!(clicked(&pipeline, "u1")? == expected, "all, in order");
    Ok(())
}

/// Status and body of a GET under `/v1/`.
fn get(up: &Up, path: &str) -> anyhow::Result<(u16, Value)> {
    let output = std::process::Command::new("curl")
        .args(["-sS", "--noproxy", "*", "-w", "\n%{http_code}"])
        .arg(format!("{}/v1/{path}", up.api()))
        .output()?;
    answer(&output.stdout)
}

#[test]
fn a_file_is_published_without_an_up() -> anyhow::Result<()> {
    publishes_a_file(Target::Embedded)
}

mod real {
    use super::*;

    #[test]
    fn a_file_is_published_to_a_real_kafka() -> anyhow::Result<()> {
        publishes_a_file(Target::Real)
    }

    /// The role works where there is no model, and no index that answers.
    #[test]
    fn the_collector_needs_brokers_alone() -> anyhow::Result<()> {
        let mut pipeline = Pipeline::new(Target::Real)?;
        let models = pipeline.path("no-models");
        pipeline.set("MILLRACE_MODELS", text(&models)?);
        pipeline.set(
            "MILLRACE_INDEX__OPENSEARCH__NODES",
            "[\"http://127.0.0.1:9\"]",
        );
        pipeline.set("MILLRACE_BEHAVIOR__ITEM_URI", TEMPLATE);
        let collector = pipeline.serve(&["run", "collector"])?;
        let (status, answer) = post(&collector, &rows("u1", 3))?;
        ensure!(
            status == 202 && answer["accepted"] == 3,
            "{status} {answer}"
        );
        ensure!(clicked(&pipeline, "u1")?.len() == 3);
        Ok(())
    }

    /// Of the model they need its name, of the index nothing.
    #[test]
    fn joiner_and_profiles_need_no_index() -> anyhow::Result<()> {
        let mut pipeline = Pipeline::new(Target::Real)?;
        pipeline.set(
            "MILLRACE_INDEX__OPENSEARCH__NODES",
            "[\"http://127.0.0.1:9\"]",
        );
        pipeline.set("MILLRACE_STATE__VALKEY__URL", &millrace_servers::redis()?);
        for (role, part, other) in [
            ("joiner", "items/x/stats", "users/u/profile"),
            ("profiles", "users/u/profile", "items/x/stats"),
        ] {
            let served = pipeline.serve(&["run", role])?;
            let (status, answer) = get(&served, part)?;
            ensure!(status == 200 && answer["known"] == false, "{answer}");
            let (status, answer) = get(&served, other)?;
            ensure!(
                status == 404 && answer["error_type"] == "not_served_here",
                "{status} {answer}"
            );
        }
        Ok(())
    }
}

#[test]
fn rejected_rows_are_told_and_exit_1() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    let file = pipeline.write(
        "rows.csv",
        format!(
            "user_id,item,kind,event_time_ms\nu1,1,click,{now}\nu1,2,glance,{now}\nu1,3,click,7\n",
            now = now_ms()
        ),
    )?;
    let args = ["publish", "behavior", text(&file)?, "--item-uri", TEMPLATE];
    let output = pipeline.output(&args)?;
    ensure!(output.status.code() == Some(1), "{:?}", output.status);
    let summary: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(
        summary["events"] == 1 && summary["rejected"] == 2,
        "{summary}"
    );
    ensure!(
        summary["first_rejected"][0]["row"] == 3
            && summary["first_rejected"][0]["reason"] == "unknown_kind"
            && summary["rejected_by_reason"]["event_time_too_old"] == 1,
        "{summary}"
    );
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(stderr.contains("behavior.dlq"), "{stderr}");
    let dead = pipeline.json(&["peek", "behavior.dlq"])?;
    ensure!(
        dead["records"].as_array().is_some_and(|r| r.len() == 2),
        "{dead}"
    );
    ensure!(dead.to_string().contains("glance"), "{dead}");
    Ok(())
}

#[test]
fn times_are_rebased_to_now() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    let row = |n: i64| {
        json!({"user_id": "u", "item": "1", "kind": "click", "event_time_ms": 1_000_000_000_000 + n}).to_string()
    };
    let file = pipeline.write("old.jsonl", format!("{}\n{}\n", row(0), row(5_000)))?;
    let args = ["publish", "behavior", text(&file)?, "--item-uri", TEMPLATE];
    ensure!(
        pipeline.output(&args)?.status.code() == Some(1),
        "too old as they are"
    );
    let before = now_ms();
    let done = pipeline.json(&[&args[..], &["--rebase-time", "now"]].concat())?;
    ensure!(done["events"] == 2, "{done}");
    let peeked = pipeline.json(&["peek", "behavior"])?;
    let times: Vec<i64> = peeked["records"]
        .as_array()
        .context("records")?
        .iter()
        .filter_map(|record| record["value"]["event_time_ms"].as_i64())
        .collect();
    ensure!(
        times.len() == 2 && times[1] - times[0] == 5_000,
        "{times:?}"
    );
    ensure!((before..=now_ms()).contains(&times[1]), "{times:?}");
    Ok(())
}

#[test]
fn standard_input_reaches_a_running_up() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(Target::Embedded)?;
    pipeline.set("MILLRACE_BEHAVIOR__ITEM_URI", TEMPLATE);
    let up = pipeline.up(&[])?;
    let mut child = pipeline
        .command(&["publish", "behavior", "-", "--rate", "1000/s"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("standard input is piped")?;
    stdin.write_all(rows("piped", 50).as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{:?}", output.status);
    let done: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(done["events"] == 50, "{done}");
    // 49 waits of a millisecond: the rate is kept, however fast the machine is.
    ensure!(
        done["seconds"].as_f64().is_some_and(|s| s >= 0.049),
        "{done}"
    );

    let body =
        json!([{"user_id": "posted", "item": "x", "kind": "like", "event_time_ms": now_ms()}, 7]);
    let (status, answer) = post(&up, &body.to_string())?;
    ensure!(
        status == 202 && answer["errors"][0]["error_type"] == "malformed_row",
        "{status} {answer}"
    );
    ensure!(clicked(&pipeline, "posted")? == ["x"]);
    ensure!(clicked(&pipeline, "piped")?.len() == 50);
    Ok(())
}

/// What was sent is waited for, the rest is left, and the code says so.
#[test]
fn an_interrupted_publication_tells_how_far_it_came() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    // More than can be sent at this rate before the deadline.
    let file = pipeline.write("rows.jsonl", rows("u", 5_000))?;
    let args = ["publish", "behavior", text(&file)?, "--rate", "50/s"];
    let child = pipeline
        .command(&[&args[..], &["--item-uri", TEMPLATE]].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    // The broker's folder appears before the first event is sent, which is when signals are heeded.
    eventually("the publication began", Duration::from_secs(30), || {
        let log = pipeline.path("data/broker");
        Ok(log.is_dir().then_some(()))
    })?;
    let pid = child.id().to_string();
    let status = std::process::Command::new("kill")
        .args(["-INT", &pid])
        .status()?;
    ensure!(status.success());
    let output = child.wait_with_output()?;
    ensure!(output.status.code() == Some(130), "{:?}", output.status);
    let done: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(done["interrupted"] == true, "{done}");
    let sent = done["events"].as_u64().context("events")?;
    ensure!(sent < 5_000, "{done}");
    ensure!(
        clicked(&pipeline, "u")?.len() as u64 == sent,
        "what was told is there"
    );
    Ok(())
}

#[test]
fn wrong_usage_says_what_is_right() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    let error = pipeline.failure(&["publish", "behavior", "none.jsonl"])?;
    ensure!(error.contains("none.jsonl"), "{error}");
    let error = pipeline.failure(&["publish", "behavior", "-", "--rebase-time", "now"])?;
    ensure!(error.contains("name a file"), "{error}");
    let error = pipeline.failure(&["publish", "behavior", "-", "--rate", "0"])?;
    ensure!(error.contains("more than 0"), "{error}");
    let error = pipeline.failure(&["publish", "behavior", "-", "--item-uri", "file:///films"])?;
    ensure!(error.contains("{item}"), "{error}");
    let error = pipeline.failure(&["run", "collector"])?;
    ensure!(error.contains("--profile cluster"), "{error}");
    Ok(())
}
