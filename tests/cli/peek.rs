//! `millrace peek`, as whoever is used to kcat would use it.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::harness::{Pipeline, Target, text};

fn records_are_chosen_and_printed_as_wanted(target: Target) -> anyhow::Result<()> {
    let pipeline = Pipeline::new(target)?;
    let up = pipeline.up(&[])?;
    for name in ["a/one.txt", "a/two.txt", "ab/three.txt"] {
        let note = pipeline.write(name, format!("A note of its own, called {name}.\n"))?;
        pipeline.ingest(&note)?;
    }
    let printed = |arguments: &[&str]| -> anyhow::Result<String> {
        let output = pipeline.by_hand(arguments).output()?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    };
    let all = pipeline.json(&["peek", "documents"])?;
    let all = all["records"].as_array().cloned().unwrap_or_default();
    ensure!(all.len() == 3, "{all:?}");
    let keys = |shown: &Value| -> Vec<String> {
        let records = shown["records"].as_array().into_iter().flatten();
        records
            .filter_map(|record| Some(record["key"].as_str()?.to_owned()))
            .collect()
    };
    let folder = pipeline.path("a/");
    let below = pipeline.json(&["peek", "documents", "-k", text(&folder)?])?;
    ensure!(
        keys(&below).len() == 2,
        "the folder beside it begins as it does: {below}"
    );
    let last = pipeline.json(&["peek", "documents", "-o", "-1", "-c", "10"])?;
    let partitions: std::collections::BTreeSet<String> = all
        .iter()
        .map(|record| record["partition"].to_string())
        .collect();
    ensure!(
        keys(&last).len() == partitions.len(),
        "one of each partition: {last}"
    );
    let before = pipeline.json(&["peek", "documents", "--to", "1970-01-02T00:00:00Z"])?;
    ensure!(keys(&before).is_empty(), "{before}");
    let since = pipeline.json(&[
        "peek",
        "documents",
        "--from",
        "1h",
        "--to",
        "2100-01-01T00:00:00Z",
    ])?;
    ensure!(keys(&since).len() == 3, "{since}");

    let lines = printed(&["peek", "documents", "-e", "-f", "%p|%o|%k|%S\\n"])?;
    let mut told: Vec<&str> = lines.lines().collect();
    told.sort_unstable();
    let mut expected: Vec<String> = all
        .iter()
        .map(|record| {
            let key = record["key"].as_str().unwrap_or_default();
            format!("{}|{}|{key}|", record["partition"], record["offset"])
        })
        .collect();
    expected.sort_unstable();
    ensure!(
        told.len() == 3
            && told
                .iter()
                .zip(&expected)
                .all(|(told, begins)| told.starts_with(begins)),
        "{lines}"
    );

    // What comes later is followed.
    let mut following = pipeline
        .command(&["peek", "documents", "--follow"])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(following.stdout.take().context("piped")?).lines();
    for _ in 0..3 {
        let line: Value = serde_json::from_str(&lines.next().context("a line")??)?;
        ensure!(line["key"].is_string(), "{line}");
    }
    let note = pipeline.write("later.txt", "A later note.\n")?;
    pipeline.ingest(&note)?;
    let line: Value = serde_json::from_str(&lines.next().context("a line")??)?;
    ensure!(
        line["key"]
            .as_str()
            .is_some_and(|key| key.ends_with("later.txt")),
        "{line}"
    );
    following.kill()?;
    following.wait()?;
    up.leave()
}

#[test]
fn what_cannot_be_shown_is_refused() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    let note = pipeline.write("note.txt", "A note about tides.\n")?;
    pipeline.ingest(&note)?;
    for (arguments, reason) in [
        (&["-f", "%q"][..], "there is no %q"),
        (&["-f", "%k"], "leave one out"),
        (&["--from", "soon"], "RFC 3339"),
        (&["-o", "--5"], "RFC 3339"),
        (&["--follow", "-e"], "cannot be used with"),
        (&["--partition=-1"], "no partition -1"),
    ] {
        let arguments = [&["peek", "documents"], arguments].concat();
        let error = pipeline.failure(&arguments)?;
        ensure!(error.contains(reason), "{arguments:?}: {error}");
    }
    Ok(())
}

mod embedded {
    #[test]
    fn records_are_chosen_and_printed_as_wanted() -> anyhow::Result<()> {
        super::records_are_chosen_and_printed_as_wanted(super::Target::Embedded)
    }
}

mod real {
    #[test]
    fn records_are_chosen_and_printed_as_wanted() -> anyhow::Result<()> {
        super::records_are_chosen_and_printed_as_wanted(super::Target::Real)
    }
}
