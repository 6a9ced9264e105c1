//! Replays that are killed or stopped, and gone on with.

use std::collections::BTreeSet;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use millrace_kafka::Record;
use serde_json::Value;

use crate::harness::{Target, eventually, on_both_targets, text};
use crate::replay::{SOURCE, all, content, full, lines, places, replay_groups, seeded, unpacked};

const LONG: Duration = Duration::from_secs(90);

on_both_targets!(
    a_file_whose_replay_was_killed_has_each_record_once,
    a_copy_whose_replay_was_killed_lacks_nothing,
    a_replay_that_is_stopped_tells_what_is_left,
);

fn a_file_whose_replay_was_killed_has_each_record_once(target: Target) -> anyhow::Result<()> {
    let pipeline = seeded(target, 150)?;
    for name in ["out.jsonl", "out.jsonl.gz"] {
        let file = pipeline.path(name);
        let staging = pipeline.path(&format!("{name}.cut.part"));
        let flags = ["replay", SOURCE, "--name", "cut", "--to-file", text(&file)?];
        let mut replaying = pipeline
            .command(&[&flags[..], &["--rate", "25/s"]].concat())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let begun = eventually("some are written and committed", LONG, || {
            let staged = std::fs::metadata(&staging).map_or(0, |staged| staged.len());
            Ok((staged > 2_000).then_some(()))
        });
        replaying.kill()?;
        replaying.wait()?;
        begun?;
        ensure!(!file.exists(), "it is not whole");
        let rest = pipeline.json(&flags)?;
        ensure!(
            rest["done"] == true && rest["resumed"] == true && rest["records_in_all"] == 151,
            "{rest}"
        );
        let bytes = if name.ends_with(".gz") {
            unpacked(&file)?
        } else {
            std::fs::read(&file)?
        };
        let written = lines(&bytes)?;
        ensure!(
            written.len() == 151 && places(&written).len() == 151,
            "{} lines",
            written.len()
        );
        ensure!(!staging.exists());
    }
    Ok(())
}

fn a_copy_whose_replay_was_killed_lacks_nothing(target: Target) -> anyhow::Result<()> {
    let pipeline = seeded(target, 150)?;
    let to = full(&pipeline, "backfill")?;
    let originals = all(&pipeline, SOURCE)?;
    let running = pipeline.up(&[])?;
    let flags = ["replay", SOURCE, "--to-topic", &to];
    let mut replaying = pipeline
        .command(&[&flags[..], &["--rate", "25/s"]].concat())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let begun = eventually("some are copied", LONG, || {
        let copied = pipeline.json(&["peek", &to, "-n", "1000"])?;
        let copied = copied["records"].as_array().map_or(0, Vec::len);
        Ok((copied >= 40).then_some(()))
    });
    replaying.kill()?;
    replaying.wait()?;
    begun?;
    let groups = replay_groups(&pipeline)?;
    ensure!(groups.len() == 1, "{groups:?}");
    // Without a name: the same arguments are the same replay.
    let rest = pipeline.json(&flags)?;
    ensure!(rest["done"] == true && rest["resumed"] == true, "{rest}");
    ensure!(rest["records"].as_u64() < Some(151), "{rest}");
    // A real coordinator lists a group for a moment after it was deleted.
    eventually("its position is gone", LONG, || {
        Ok(replay_groups(&pipeline)?.is_empty().then_some(()))
    })?;
    running.leave()?;

    let copies = all(&pipeline, "backfill")?;
    let distinct = |records: &[Record]| records.iter().map(content).collect::<BTreeSet<_>>();
    ensure!(distinct(&copies) == distinct(&originals));
    ensure!(copies.len() < originals.len() + 100, "{}", copies.len());
    Ok(())
}

fn a_replay_that_is_stopped_tells_what_is_left(target: Target) -> anyhow::Result<()> {
    let pipeline = seeded(target, 150)?;
    let file = pipeline.path("out.jsonl");
    let staging = pipeline.path("out.jsonl.stopped.part");
    let named = ["replay", SOURCE, "--name", "stopped"];
    let flags = [&named[..], &["--to-file", text(&file)?]].concat();
    let mut replaying = pipeline
        .command(&[&flags[..], &["--rate", "25/s"]].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let begun = eventually("it is begun", LONG, || {
        Ok(staging
            .metadata()
            .is_ok_and(|it| it.len() > 0)
            .then_some(()))
    });
    let pid = replaying.id().to_string();
    Command::new("kill").args(["-INT", &pid]).status()?;
    let status = replaying.wait()?;
    begun?;
    let mut report = String::new();
    let mut stdout = replaying.stdout.take().context("it is piped")?;
    stdout.read_to_string(&mut report)?;
    let report: Value = serde_json::from_str(&report)?;
    ensure!(
        status.code() == Some(130) && report["interrupted"] == true,
        "{status} {report}"
    );
    let left = report["left"].as_u64().context("it is told")?;
    ensure!(left > 0 && report["staging"].is_string(), "{report}");

    let other = [&flags[..], &["--key", "a"]].concat();
    let output = pipeline.output(&other)?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(2) && stderr.contains("key: none, now a"),
        "{stderr}"
    );
    let dry = pipeline.json(&[&flags[..], &["--dry-run"]].concat())?;
    let resumes = &dry["resumes"];
    ensure!(
        dry["records"] == 151 && resumes["records_left"] == left && resumes["name"] == "stopped",
        "{dry}"
    );
    ensure!(
        resumes["written"] == 151 - left && resumes["offsets_left"] == left,
        "{dry}"
    );
    let anew = pipeline.json(&[&flags[..], &["--dry-run", "--restart"]].concat())?;
    ensure!(
        anew["records"] == 151 && anew["resumes"].is_null(),
        "{anew}"
    );
    let rest = pipeline.json(&flags)?;
    ensure!(rest["records"] == left && rest["left"] == 0, "{rest}");
    ensure!(lines(&std::fs::read(&file)?)?.len() == 151);
    Ok(())
}
