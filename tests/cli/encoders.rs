//! `dataset build` and `train embedding`: from pairs to a model that is served.

use anyhow::{Context, ensure};

use crate::harness::{Pipeline, Target, text};

const PAIRS: [(&str, &str); 6] = [
    (
        "who lights the lamp?",
        "The keeper climbs to the lantern each evening.",
    ),
    (
        "when is high water?",
        "The moon draws the tide twice a day.",
    ),
    (
        "how is rope made?",
        "Hemp is spun and laid in three strands.",
    ),
    (
        "what holds the ship?",
        "An anchor bites into the sand of the bay.",
    ),
    (
        "who draws the charts?",
        "Surveyors sound the depth and mark the shoals.",
    ),
    (
        "why does the buoy ring?",
        "Waves rock a bell to warn of the reef.",
    ),
];

#[test]
fn pairs_become_a_model_that_searches() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(Target::Embedded)?;
    let lines: Vec<String> = (PAIRS.iter().chain(&PAIRS[..1]))
        .map(|(query, positive)| {
            serde_json::json!({ "query": query, "positive": positive }).to_string()
        })
        .collect();
    let pairs = pipeline.write("pairs.jsonl", lines.join("\n"))?;
    let data = [
        "--out",
        "data-v1",
        "--dev-share",
        "0.2",
        "--negative-ranks",
        "1-3",
    ];
    let build = [&["dataset", "build", "--pairs", text(&pairs)?], &data[..]].concat();
    let built = pipeline.json(&build)?;
    ensure!(built["counts"]["duplicates"] == 1, "{built}");
    ensure!(
        built["counts"]["train"] == 5 && built["counts"]["dev"] == 1,
        "{built}"
    );
    ensure!(
        built["read"][0]["sha256"]
            .as_str()
            .is_some_and(|sum| sum.len() == 64),
        "{built}"
    );

    let train = [
        "train",
        "embedding",
        "--dataset",
        "data-v1",
        "--out",
        "runs/harbour-v1",
        "--epochs",
        "1",
        "--batch",
        "3",
        "--max-tokens",
        "16",
        "--dimensions",
        "384,128",
    ];
    let report = pipeline.json(&train)?;
    ensure!(report["steps"] == 2, "{report}");
    let version = report["model_version"].as_str().context("no version")?;
    ensure!(version.starts_with("harbour-v1@"), "{version}");
    let again = pipeline.failure(&train)?;
    ensure!(again.contains("--resume"), "{again}");
    let resumed = pipeline.json(&[&train[..], &["--resume"]].concat())?;
    ensure!(resumed["model_version"] == version, "{resumed}");

    let model = report["model"].as_str().context("no model")?.to_owned();
    pipeline.set("MILLRACE_MODEL__PATH", &model);
    let folder = pipeline.write("notes/anchor.txt", PAIRS[3].1)?;
    pipeline.write("notes/rope.txt", PAIRS[2].1)?;
    pipeline.ingest(folder.parent().context("a folder")?)?;
    ensure!(pipeline.search("what holds the ship?")?[0] == "anchor.txt");
    Ok(())
}

#[test]
fn what_can_not_be_learnt_from_is_told() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    let refused = |arguments: &[&str]| pipeline.failure(arguments);
    let nothing = refused(&["dataset", "build", "--out", "data-v1"])?;
    ensure!(nothing.contains("--beir DIR, --pairs FILE"), "{nothing}");
    let empty = pipeline.write("empty.jsonl", "")?;
    let empty = refused(&[
        "dataset",
        "build",
        "--pairs",
        text(&empty)?,
        "--out",
        "data-v1",
    ])?;
    ensure!(empty.contains("no pairs of query and passage"), "{empty}");
    ensure!(!pipeline.path("data-v1").exists());
    let absent = refused(&["train", "embedding", "--dataset", "data-v1", "--out", "run"])?;
    ensure!(absent.contains("data-v1/manifest.json"), "{absent}");
    let base = refused(&[
        "train",
        "embedding",
        "--dataset",
        "data-v1",
        "--out",
        "run",
        "--base",
        "no-such-model",
    ])?;
    ensure!(
        base.contains("no-such-model") && base.contains("model pull"),
        "{base}"
    );
    Ok(())
}
