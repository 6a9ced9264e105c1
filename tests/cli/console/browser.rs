//! The console in a headless Chromium: every page, the way from a search that finds nothing to a redrive, the way back from a
//! backfill, the sliders; keyboard, phone, dark, axe.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::json;

use super::LONG;
use crate::harness::Target;
use crate::harness::{eventually, text};
use crate::recommendations::{films, now_ms};

/// What the browser does; beside the tests' other Python.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/console.py");
const SCREENSHOTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/console-screenshots");

#[test]
fn pages_work_for_whoever_comes() -> anyhow::Result<()> {
    let python = std::env::var("MILLRACE_TEST_PYTHON")
        .context("MILLRACE_TEST_PYTHON is not set: run `make test`, which makes the venv")?;
    let (mut pipeline, corpus) = films(Target::Embedded)?;
    let docs = pipeline.path("docs");
    pipeline.write("docs/birds.txt", [0u8, 159, 146, 150, 0, 1, 2, 3])?;
    let summary = pipeline.ingest(&docs)?;
    ensure!(summary["dead_lettered"] == 1, "{summary}");
    pipeline.set(
        "MILLRACE_OBJECTS__ALLOWED_ROOTS",
        &format!("[{:?}]", text(&docs)?),
    );
    pipeline.set("MILLRACE_CANARY__EVERY_SECONDS", "5");
    let up = pipeline.up(&[])?;
    let summary = pipeline.ingest(Path::new(&corpus))?;
    ensure!(summary["indexed"] == 15, "{summary}");
    for item in ["s1", "s2", "s3"] {
        let event =
            json!({"user_id": "ada", "item": item, "kind": "click", "event_time_ms": now_ms()});
        let (status, answer) = up.http("/v1/events", &["-d", &event.to_string()])?;
        ensure!(status == 202, "{answer}");
    }
    eventually("the clicks are known", LONG, || {
        let profile = pipeline.json(&["profile", "ada"])?;
        Ok((profile["counts"]["click"] == 3).then_some(()))
    })?;
    let switched = pipeline.json(&["backfill", "--latency-factor", "20"])?;
    ensure!(switched["switched"] == true, "{switched}");
    // What failed is mended, and waits to be replayed.
    pipeline.write(
        "docs/birds.txt",
        "Penguins huddle together against the antarctic storm.\n",
    )?;
    let output = Command::new(python)
        .arg(SCRIPT)
        .arg(up.api())
        .arg(SCREENSHOTS)
        .output()?;
    ensure!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    println!("{}", String::from_utf8_lossy(&output.stdout).trim());
    let listed = pipeline.json(&["dlq", "list", "--all"])?;
    ensure!(listed["total"] == 0 && listed["replayed"] == 1, "{listed}");
    up.leave()
}
