//! `dataset build` and `train embedding`: from pairs to a model that is served.

use anyhow::{Context, ensure};
use millrace_models::ModelStore;
use serde_json::Value;

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

/// A dataset of the pairs and the first of them again, in `data-v1`: five to learn from, one to judge by.
fn build(pipeline: &Pipeline) -> anyhow::Result<Value> {
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
    pipeline.json(&build)
}

#[test]
fn pairs_become_a_model_that_searches() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(Target::Embedded)?;
    let built = build(&pipeline)?;
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

/// What the store keeps of the base (name, checksums) is not of the model that was made of it.
#[test]
fn a_model_made_of_a_stored_version_becomes_one() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(Target::Embedded)?;
    let real = ModelStore::from_env()?.folder("all-MiniLM-L6-v2");
    pipeline.set("MILLRACE_MODELS", text(&pipeline.path("models"))?);
    let base = pipeline.json(&["model", "import", text(&real)?, "--as", "emb:v1"])?;
    ensure!(base["release"]["files"][0].is_object(), "{base}");
    build(&pipeline)?;
    let train = [
        "train",
        "embedding",
        "--dataset",
        "data-v1",
        "--base",
        "emb:v1",
        "--out",
        "runs/harbour",
        "--epochs",
        "1",
        "--batch",
        "5",
        "--max-tokens",
        "16",
    ];
    let report = pipeline.json(&train)?;
    let model = report["model"].as_str().context("no model")?;
    pipeline.json(&["model", "import", model, "--as", "emb:v2"])?;
    let shown = pipeline.json(&["model", "show", "emb:v2"])?;
    ensure!(shown["fingerprint"] != base["fingerprint"], "{shown}");
    let release = &shown["release"];
    ensure!(release["version"] == "v2", "{release}");
    let lineage = &release["lineage"];
    ensure!(lineage["base"] == "emb:v1", "{lineage}");
    ensure!(
        lineage["base_fingerprint"] == base["fingerprint"],
        "{lineage}"
    );
    ensure!(
        lineage["dataset_sha256"] == report["dataset_sha256"],
        "{lineage}"
    );
    ensure!(release["metrics"]["steps"] == 1, "{release}");
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
