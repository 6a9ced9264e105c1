//! The canary: a document on its way again and again, which nobody else sees.

use std::time::Duration;

use anyhow::ensure;

use crate::harness::{Pipeline, Target, Up, eventually, on_both_targets, text};

const SOON: Duration = Duration::from_secs(120);

/// The value of a sample, by its name and labels as they are served.
fn sample(up: &Up, name: &str) -> anyhow::Result<f64> {
    let url = format!("{}/metrics", up.api());
    let output = std::process::Command::new("curl")
        .args(["-sS", "--noproxy", "*", &url])
        .output()?;
    let metrics = String::from_utf8(output.stdout)?;
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    Ok(line.unwrap_or("0").trim().parse()?)
}

fn found(up: &Up) -> anyhow::Result<f64> {
    sample(up, "millrace_canary_rounds_total{result=\"found\"}")
}

fn a_canary_is_found_again_and_again_and_by_nobody_else(target: Target) -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(target)?;
    let note = pipeline.write("note.txt", "A note that stays.\n")?;
    let folder = pipeline.path("canaries");
    std::fs::create_dir(&folder)?;
    if target == Target::Real {
        let location = format!("file://{}", text(&folder)?);
        pipeline.set("MILLRACE_CANARY__LOCATION", &location);
    }
    pipeline.set("MILLRACE_CANARY__EVERY_SECONDS", "1");
    let up = pipeline.up(&[])?;
    pipeline.ingest(&note)?;
    eventually("three canaries are found", SOON, || {
        // Of one document and one canary, any search by meaning finds both.
        let hits = pipeline.search("canary")?;
        ensure!(hits.iter().all(|hit| hit.contains("note")), "{hits:?}");
        Ok((found(&up)? >= 3.0).then_some(()))
    })?;
    let measured = sample(&up, "millrace_canary_searchable_seconds_count")?;
    let seconds = sample(&up, "millrace_canary_searchable_seconds_sum")?;
    ensure!(
        measured >= 3.0 && seconds > 0.0,
        "{measured} in {seconds} s"
    );
    up.leave()?;
    // A stop removes what the round had uploaded, and the next start has its removal indexed.
    pipeline.set("MILLRACE_CANARY__EVERY_SECONDS", "0");
    let up = pipeline.up(&[])?;
    // Without a canary none is left out of searches.
    eventually("the note is all there is", SOON, || {
        Ok((pipeline.search("canary")?.len() == 1).then_some(()))
    })?;
    let left = std::fs::read_dir(match target {
        Target::Embedded => pipeline.path("data/canary"),
        Target::Real => folder,
    })?;
    ensure!(left.count() == 0);
    up.leave()
}

on_both_targets!(a_canary_is_found_again_and_again_and_by_nobody_else);

#[test]
fn a_canary_that_is_not_found_counts_as_late() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(Target::Embedded)?;
    pipeline.set("MILLRACE_CANARY__EVERY_SECONDS", "1");
    pipeline.set("MILLRACE_CANARY__TIMEOUT_SECONDS", "0");
    let up = pipeline.up(&[])?;
    let late = "millrace_canary_rounds_total{result=\"late\"}";
    eventually("canaries are late", SOON, || {
        Ok((sample(&up, late)? >= 2.0).then_some(()))
    })?;
    ensure!(sample(&up, "millrace_canary_searchable_seconds_count")? < 2.0);
    up.leave()
}

#[test]
fn a_canary_without_a_place_is_refused() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(Target::Embedded)?;
    pipeline.set("MILLRACE_CANARY__EVERY_SECONDS", "60");
    pipeline.set("MILLRACE_CANARY__LOCATION", "s3://elsewhere/canary");
    let refused = pipeline.failure(&["up"])?;
    ensure!(
        refused.contains("s3://elsewhere/canary/millrace-canary.txt")
            && refused.contains("allowed_buckets"),
        "{refused}"
    );
    pipeline.set("MILLRACE_CANARY__LOCATION", "elsewhere");
    let refused = pipeline.failure(&["up"])?;
    ensure!(refused.contains("canary.location"), "{refused}");

    let mut cluster = Pipeline::new(Target::Embedded)?;
    cluster.set("MILLRACE_PROFILE", "cluster");
    cluster.set("MILLRACE_KAFKA__BOOTSTRAP", "127.0.0.1:1");
    let refused = cluster.failure(&["run", "canary"])?;
    ensure!(refused.contains("canary.every_seconds is 0"), "{refused}");
    cluster.set("MILLRACE_CANARY__EVERY_SECONDS", "60");
    let refused = cluster.failure(&["run", "canary"])?;
    ensure!(
        refused.contains("canary.location is not") && refused.contains("s3://uploads/canary"),
        "{refused}"
    );
    Ok(())
}
