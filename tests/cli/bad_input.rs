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
    // Beside one that is there: before anything is published.
    let note = pipeline.write("note.txt", "Tide tables.")?;
    let error = pipeline.failure(&["ingest", text(&note)?, "no/such/folder"])?;
    ensure!(error.contains("no/such/folder"), "{error}");
    ensure!(!pipeline.path("data").exists(), "something was started");
    Ok(())
}

#[test]
fn counts_and_weights_that_cannot_be_are_wrong_usage() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    for (arguments, says) in [
        (&["-k", "0"][..], "1 to 1000"),
        (&["-k", "-3"], "1 to 1000"),
        (&["--bm25-weight", "NaN"], "0 to 1"),
        (&["--bm25-weight", "inf"], "0 to 1"),
        (&["--vector-weight", "-0.5"], "0 to 1"),
        (&["--bm25-weight", "0", "--vector-weight", "0"], "sum to 1"),
        (
            &["--bm25-weight", "0.5", "--vector-weight", "0.9"],
            "sum to 1",
        ),
    ] {
        let output = pipeline.output(&[&["search", "x"], arguments].concat())?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(2) && stderr.contains(says),
            "{arguments:?}: {} {stderr}",
            output.status
        );
    }
    Ok(())
}

#[test]
fn what_only_looks_makes_no_data_folder() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    for arguments in [
        &["search", "x"][..],
        &["status", "/srv/a.txt"],
        &["lag"],
        &["peek", "documents"],
        &["dlq", "list"],
        &["topics", "list"],
        &["topics", "describe", "documents"],
    ] {
        let error = pipeline.failure(arguments)?;
        ensure!(
            error.contains("no data folder at"),
            "{arguments:?}: {error}"
        );
        ensure!(!pipeline.path("data").exists(), "{arguments:?} made it");
    }
    Ok(())
}

#[test]
fn an_unknown_group_or_partition_is_told_with_those_there_are() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    let note = pipeline.write("note.txt", "Something to read.\n")?;
    pipeline.ingest(&note)?;
    let error = pipeline.failure(&["lag", "--group", "nobody"])?;
    ensure!(
        error.contains("unknown group \"nobody\"") && error.contains("millrace.vectorizer."),
        "{error}"
    );
    let partitions = pipeline.json(&["topics", "describe", "documents"])?["partitions"]
        .as_array()
        .map_or(0, Vec::len);
    let error = pipeline.failure(&["peek", "documents", "--partition", "99"])?;
    ensure!(
        error.contains("no partition 99") && error.contains(&(partitions - 1).to_string()),
        "{error}"
    );
    Ok(())
}

#[test]
fn an_address_that_is_taken_names_its_setting() -> anyhow::Result<()> {
    for (key, variable) in [
        ("api.listen", "MILLRACE_API__LISTEN"),
        ("broker.listen", "MILLRACE_BROKER__LISTEN"),
    ] {
        let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
        let mut pipeline = Pipeline::new(Target::Embedded)?;
        let address = taken.local_addr()?.to_string();
        pipeline.set(variable, &address);
        let error = pipeline.failure(&["up"])?;
        ensure!(
            error.contains(key) && error.contains(variable) && error.contains(&address),
            "{error}"
        );
    }
    Ok(())
}

#[test]
fn buckets_without_credentials_are_warned_of_and_a_missing_endpoint_names_its_key()
-> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    let config = pipeline.write(
        "s3.toml",
        "objects.allowed_buckets = [\"s3://docs\"]\nobjects.s3.endpoint = \"http://127.0.0.1:1\"\n",
    )?;
    let without_credentials = |arguments: &[&str]| {
        let mut command = pipeline.command(arguments);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("AWS_") || name.starts_with("ALIBABA_") {
                command.env_remove(name);
            }
        }
        command.output()
    };
    let output = without_credentials(&["check", "--config", text(&config)?])?;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    ensure!(report["ok"] == true, "a warning is no failure: {report}");
    ensure!(
        report.to_string().contains("objects.s3.access_key_id"),
        "{report}"
    );

    let config = pipeline.write("oss.toml", "objects.allowed_buckets = [\"oss://docs\"]\n")?;
    let output = without_credentials(&["up", "--config", text(&config)?])?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(
        !output.status.success() && error.contains("objects.oss.endpoint"),
        "{error}"
    );
    Ok(())
}

#[test]
fn a_dead_letter_is_logged_with_its_document() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    let photo = pipeline.write("photo.raw", [0u8, 159, 146, 150, 0, 1, 2, 3])?;
    let output = pipeline.output(&["ingest", text(&photo)?])?;
    let log = String::from_utf8_lossy(&output.stderr);
    ensure!(
        log.lines()
            .any(|line| line.contains("dead letter") && line.contains("photo.raw")),
        "{log}"
    );
    Ok(())
}

#[test]
fn a_missing_model_says_how_to_get_it() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(Target::Embedded)?;
    std::fs::create_dir(pipeline.path("data"))?;
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
    std::fs::create_dir(pipeline.path("data"))?;
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
    let told = "waiting for the brokers at 127.0.0.1:1…";
    ensure!(error.matches(told).count() == 1, "{error}");
    Ok(())
}

#[test]
fn check_says_what_fails_and_what_to_do() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(Target::Embedded)?;
    let report = pipeline.json(&["check"])?;
    ensure!(report["ok"] == true, "{report}");
    let index = || pipeline.path("data/index");
    ensure!(
        report.to_string().contains("is still to be made"),
        "{report}"
    );
    ensure!(!index().exists(), "a check has made an index");
    let note = pipeline.write("note.txt", "A note about tides.\n")?;
    pipeline.ingest(&note)?;
    let report = pipeline.json(&["check"])?;
    ensure!(
        report["ok"] == true && report.to_string().contains("millrace-documents-000001"),
        "{report}"
    );
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
