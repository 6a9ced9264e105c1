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

#[test]
fn a_damaged_broker_file_is_named_and_nothing_panics() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    pipeline.json(&["topics", "create"])?;
    pipeline.write("data/broker/journal", "garbage\n")?;
    let error = pipeline.failure(&["topics", "list"])?;
    ensure!(
        error.contains("journal") && error.contains("corrupt"),
        "{error}"
    );
    ensure!(!error.contains("panicked"), "{error}");
    Ok(())
}

#[test]
fn up_waits_for_brokers_that_are_down_and_stops_when_told() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(Target::Embedded)?;
    pipeline.set("MILLRACE_PROFILE", "cluster");
    pipeline.set("MILLRACE_KAFKA__BOOTSTRAP", "127.0.0.1:1");
    let mut waiting = pipeline
        .command(&["up"])
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()?;
    let mut log = std::io::BufReader::new(waiting.stderr.take().expect("piped above"));
    let mut line = String::new();
    while !line.contains("127.0.0.1:1") {
        line.clear();
        ensure!(
            std::io::BufRead::read_line(&mut log, &mut line)? > 0,
            "it left without a word"
        );
    }
    let pid = waiting.id().to_string();
    ensure!(
        std::process::Command::new("kill")
            .args(["-TERM", &pid])
            .status()?
            .success()
    );
    let left = crate::harness::eventually("it stops", std::time::Duration::from_secs(10), || {
        Ok(waiting.try_wait()?)
    })?;
    ensure!(left.success(), "{left}");
    Ok(())
}

#[test]
fn queries_that_find_nothing_are_no_result() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    let corpus = pipeline.write("corpus.jsonl", "{\"_id\":\"a\",\"text\":\"Some text.\"}\n")?;
    let queries = pipeline.write("queries.jsonl", "")?;
    let qrels = pipeline.write("qrels.tsv", "q 0 a 1\n")?;
    let (corpus, queries, qrels) = (text(&corpus)?, text(&queries)?, text(&qrels)?);
    let error = pipeline.failure(&[
        "eval",
        "retrieval",
        "--corpus",
        corpus,
        "--queries",
        queries,
        "--qrels",
        qrels,
    ])?;
    ensure!(error.contains("holds no queries"), "{error}");
    Ok(())
}
