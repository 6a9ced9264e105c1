//! `backfill`: the index made anew of its documents by the same model.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::harness::{Pipeline, Target, Up, eventually, on_both_targets, text};
use crate::rollout::{generation, phase, search, serve};

on_both_targets!(a_backfill_makes_the_index_anew_and_tells_no_signal_again);

const DOCUMENTS: usize = 12;
const SOON: Duration = Duration::from_secs(120);

fn line(number: usize, edition: &str) -> Value {
    let title = format!("Lamp {number}");
    let body = format!("The {edition} edition of lamp number {number} burns oil.");
    json!({"_id": format!("p{number}"), "title": title, "text": body})
}

fn corpus(pipeline: &Pipeline, edition: &str) -> anyhow::Result<String> {
    let lines: Vec<String> = (0..DOCUMENTS)
        .map(|number| line(number, edition).to_string())
        .collect();
    Ok(text(&pipeline.write("lamps.jsonl", lines.join("\n"))?)?.to_owned())
}

fn signals(pipeline: &Pipeline) -> anyhow::Result<usize> {
    let peeked = pipeline.json(&["peek", "signals", "-n", "1000"])?;
    Ok(peeked["records"].as_array().context("records")?.len())
}

/// All documents are found, each in its last edition, in this generation.
fn has_all(up: &Up, wanted: u32) -> anyhow::Result<()> {
    for number in 0..DOCUMENTS {
        let (status, answer) = search(up, &format!("second edition of lamp number {number}"))?;
        ensure!(status == 200, "{answer}");
        ensure!(generation(&answer)? == wanted, "{answer}");
        let hits = answer["hits"].as_array().context("hits")?;
        let found = hits.iter().find(|hit| {
            let uri = hit["uri"].as_str().unwrap_or_default();
            uri.ends_with(&format!("#p{number}"))
        });
        let found = found.with_context(|| format!("{number} is not found: {answer}"))?;
        let read = found["snippet"].as_str().unwrap_or_default();
        ensure!(read.contains("second"), "{found}");
    }
    Ok(())
}

#[test]
fn a_backfill_outlives_the_up_that_it_was_asked_of() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    let mut up = pipeline.up(&[])?;
    let lines: Vec<String> = (0..1_500)
        .map(|number| line(number, "only").to_string())
        .collect();
    let lamps = pipeline.write("lamps.jsonl", lines.join("\n"))?;
    pipeline.ingest(&lamps)?;
    let backfill = pipeline
        .command(&["backfill", "--no-switch", "--latency-factor", "20"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()?;
    eventually("it is being built", SOON, || {
        let status = pipeline.json(&["rollout", "status"])?;
        Ok((status["rollout"]["phase"] == "building").then_some(()))
    })?;
    up.signal("-KILL")?;
    up.wait(SOON)?;
    let up = pipeline.up(&[])?;
    let output = backfill.wait_with_output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {told}", output.status);
    ensure!(
        told.contains("waiting for the next one") && told.contains("building: read "),
        "{told}"
    );
    let report: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(phase(&report) == "ready", "{report}");
    up.leave()
}

fn a_backfill_makes_the_index_anew_and_tells_no_signal_again(target: Target) -> anyhow::Result<()> {
    let pipeline = Pipeline::new(target)?;
    let up = serve(&pipeline, target)?;
    for edition in ["first", "second"] {
        pipeline.json(&["ingest", &corpus(&pipeline, edition)?])?;
    }
    has_all(&up, 1)?;
    let told = eventually("all signals are there", SOON, || {
        let told = signals(&pipeline)?;
        Ok((told >= 2 * DOCUMENTS).then_some(told))
    })?;

    let plan = pipeline.json(&["backfill", "--dry-run"])?;
    ensure!(
        plan["documents"] == DOCUMENTS && plan["to"]["generation"] == 2,
        "{plan}"
    );
    ensure!(
        plan["from"]["model_version"] == plan["to"]["model_version"],
        "{plan}"
    );
    let looked = pipeline.json(&["backfill", "--no-switch", "--latency-factor", "20"])?;
    ensure!(
        looked["switched"] == false && phase(&looked) == "ready",
        "{looked}"
    );
    has_all(&up, 1)?;
    let refused = pipeline.failure(&["rollout", "start", "--model", "all-MiniLM-L6-v2"])?;
    ensure!(refused.contains("a rollout is ready already"), "{refused}");

    // It goes on where it was.
    let done = pipeline.json(&["backfill", "--latency-factor", "20"])?;
    ensure!(
        done["switched"] == true && phase(&done) == "switched",
        "{done}"
    );
    has_all(&up, 2)?;
    let refused = pipeline.failure(&["backfill"])?;
    ensure!(refused.contains("is switched already"), "{refused}");
    // A model's signals name no generation: those that the second one made would be those of the first
    // editions again, for a while.
    ensure!(signals(&pipeline)? == told, "signals were told again");

    let finished = pipeline.json(&["rollout", "finish", "--delete-old", "--yes"])?;
    ensure!(phase(&finished) == "finished", "{finished}");
    let again = pipeline.json(&[
        "backfill",
        "--latency-factor",
        "20",
        "--finish",
        "--delete-old",
        "--yes",
    ])?;
    ensure!(phase(&again) == "finished", "{again}");
    has_all(&up, 3)?;
    let refused = pipeline.failure(&["backfill", "--judged", "/nowhere"])?;
    ensure!(refused.contains("/nowhere"), "{refused}");
    ensure!(
        phase(&pipeline.json(&["rollout", "status"])?) == "finished",
        "nothing was begun"
    );
    up.leave()
}
