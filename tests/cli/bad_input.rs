//! What a person does wrong, and what they are told.

use anyhow::ensure;

use crate::harness::{Pipeline, Target, text};

#[test]
fn an_unknown_key_names_the_nearest_one() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    let file = pipeline.write("millrace.toml", "[vectorizr]\n")?;
    let error = pipeline.failure(&["check", "--config", text(&file)?])?;
    ensure!(
        error.contains("vectorizr") && error.contains("did you mean `vectorizer`?"),
        "{error}"
    );
    let output = pipeline.output(&["check", "--config", text(&file)?])?;
    ensure!(output.status.code() == Some(2), "{:?}", output.status);
    Ok(())
}

#[test]
fn a_path_that_is_not_there_is_named() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    let error = pipeline.failure(&["ingest", "no/such/folder"])?;
    ensure!(error.contains("no/such/folder"), "{error}");
    Ok(())
}

#[test]
fn weights_that_do_not_sum_to_one_are_refused() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    let error = pipeline.failure(&[
        "search",
        "x",
        "--bm25-weight",
        "0.5",
        "--vector-weight",
        "0.9",
    ])?;
    ensure!(error.contains("sum to 1"), "{error}");
    Ok(())
}

#[test]
fn a_missing_model_says_how_to_get_it() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(Target::Embedded)?;
    pipeline.set(
        "MILLRACE_MODELS",
        text(&pipeline.path("empty"))?.to_owned().as_str(),
    );
    let error = pipeline.failure(&["search", "x"])?;
    ensure!(
        error.contains("millrace model pull all-MiniLM-L6-v2"),
        "{error}"
    );
    Ok(())
}

#[test]
fn a_model_of_another_architecture_is_refused_by_name() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(Target::Embedded)?;
    pipeline.write(
        "model/config.json",
        r#"{"model_type":"gpt2","architectures":["GPT2Model"]}"#,
    )?;
    pipeline.set(
        "MILLRACE_MODEL__PATH",
        pipeline.path("model").to_string_lossy().as_ref(),
    );
    let error = pipeline.failure(&["search", "x"])?;
    ensure!(error.contains("gpt2") || error.contains("GPT2"), "{error}");
    Ok(())
}

#[test]
fn a_broker_that_is_down_is_named() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(Target::Embedded)?;
    pipeline.set("MILLRACE_PROFILE", "cluster");
    pipeline.set("MILLRACE_KAFKA__BOOTSTRAP", "127.0.0.1:1");
    let error = pipeline.failure(&["topics", "list"])?;
    ensure!(error.contains("127.0.0.1:1"), "{error}");
    Ok(())
}

#[test]
fn check_says_what_fails_and_what_to_do() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(Target::Embedded)?;
    let report = pipeline.json(&["check"])?;
    ensure!(report["ok"] == true, "{report}");
    pipeline.set("MILLRACE_PROFILE", "cluster");
    pipeline.set("MILLRACE_KAFKA__BOOTSTRAP", "127.0.0.1:1");
    pipeline.set(
        "MILLRACE_INDEX__OPENSEARCH__NODES",
        "[\"http://127.0.0.1:1\"]",
    );
    let output = pipeline.output(&["check"])?;
    ensure!(output.status.code() == Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    ensure!(report["ok"] == false, "{report}");
    let failed: Vec<&str> = report["checks"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|check| check["ok"] == false)
        .filter_map(|check| check["name"].as_str())
        .collect();
    ensure!(
        failed.contains(&"kafka") && failed.contains(&"index"),
        "{report}"
    );
    Ok(())
}
