//! Models of a team's own: into the store and out of it, served, and embedded with.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use millrace_models::ModelStore;
use serde_json::{Value, json};

use crate::buckets::Bucket;
use crate::harness::{Pipeline, Target, Up, eventually, text};

mod real {
    #[test]
    fn machines_share_versions_in_a_bucket() -> anyhow::Result<()> {
        let bucket = super::Bucket::make("models")?;
        let mut pipeline = bucket.pipeline()?;
        pipeline.set("MILLRACE_MODEL__SHARED_STORE", &bucket.uri("encoders"));
        super::a_version_reaches_another_machine(&mut pipeline)?;
        let listed = pipeline.json(&["model", "list"])?;
        let source = &listed["models"][0]["release"]["source"];
        anyhow::ensure!(*source == bucket.uri("encoders/emb/v1"), "{listed}");
        Ok(())
    }
}

const MODEL: &str = "all-MiniLM-L6-v2";

fn server(pipeline: &mut Pipeline) {
    pipeline.set("MILLRACE_MODEL_SERVER__LISTEN", "127.0.0.1:0");
}

#[test]
fn a_version_is_imported_served_by_name_and_exported() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(Target::Embedded)?;
    server(&mut pipeline);
    let real = ModelStore::from_env()?.folder(MODEL);
    pipeline.set("MILLRACE_MODELS", text(&pipeline.path("models"))?);
    let card = pipeline.json(&["model", "import", text(&real)?, "--as", "emb:v1"])?;
    ensure!(card["release"]["version"] == "v1", "{card}");
    let listed = pipeline.json(&["model", "list"])?;
    ensure!(listed["models"][0]["name"] == "emb:v1", "{listed}");
    let archive = pipeline.path("emb.mar");
    pipeline.json(&["model", "export", "emb", text(&archive)?])?;
    let again = pipeline.json(&["model", "import", text(&archive)?, "--as", "emb:v2"])?;
    ensure!(again["fingerprint"] == card["fingerprint"], "{again}");
    let refused = pipeline.failure(&["model", "show", "emb"])?;
    ensure!(refused.contains("emb:v1, emb:v2"), "{refused}");
    let refused = pipeline.failure(&["model", "import", text(&pipeline.path("nowhere"))?])?;
    ensure!(refused.contains("there is nothing"), "{refused}");
    let usage = pipeline.output(&["model", "show", "../emb"])?;
    ensure!(usage.status.code() == Some(2), "{usage:?}");

    pipeline.set("MILLRACE_MODEL_SERVER__MODELS", r#"["emb:v1"]"#);
    let serving = pipeline.serve(&["run", "model-server"])?;
    let (status, models) = serving.http("/models", &[])?;
    ensure!(
        (status, &models["models"][0]["modelName"]) == (200, &json!("emb")),
        "{models}"
    );
    let (status, _) = serving.http("/models?url=emb:v2", &["-X", "POST"])?;
    ensure!(status == 200);
    let (status, vector) = serving.http(
        "/predictions/emb/v2",
        &["-H", "content-type: text/plain", "-d", "a text"],
    )?;
    ensure!((status, vector.as_array().map(Vec::len)) == (200, Some(384)));
    ensure!(serving.http("/readyz", &[])?.0 == 200);
    ensure!(serving.http("/metrics", &[])?.0 == 200);
    serving.leave()
}

#[test]
fn what_a_model_server_took_is_answered_before_it_leaves() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(Target::Embedded)?;
    server(&mut pipeline);
    pipeline.set("MILLRACE_MODEL_SERVER__TIMEOUT_MS", "60000");
    let mut serving = pipeline.serve(&["run", "model-server"])?;
    let body = pipeline.path("body.json");
    let long = "the shore breathes with the ocean ".repeat(60);
    std::fs::write(
        &body,
        json!({ "model": MODEL, "input": vec![long; 6] }).to_string(),
    )?;
    let callers = (0..4)
        .map(|_| {
            std::process::Command::new("curl")
                .args([
                    "-sS",
                    "--noproxy",
                    "*",
                    "-d",
                    &format!("@{}", body.display()),
                ])
                .arg(format!("{}/v1/embeddings", serving.api()))
                .stdout(Stdio::piped())
                .spawn()
        })
        .collect::<Result<Vec<_>, _>>()?;
    eventually("all requests were let in", Duration::from_secs(30), || {
        let tokens = queued(&serving)?;
        // 4 × 6 texts at the model's limit; some may be computed already.
        Ok((tokens > 3 * 6 * 256).then_some(()))
    })?;
    serving.signal("-TERM")?;
    for caller in callers {
        let output = caller.wait_with_output()?;
        let answer: Value =
            serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))?;
        ensure!(
            answer["data"].as_array().map(Vec::len) == Some(6),
            "{answer}"
        );
    }
    let status = serving.wait(Duration::from_secs(30))?;
    ensure!(status.code() == Some(0), "it left with {status}");
    Ok(())
}

fn queued(serving: &Up) -> anyhow::Result<usize> {
    let output = std::process::Command::new("curl")
        .args(["-sS", "--noproxy", "*"])
        .arg(format!("{}/metrics", serving.api()))
        .output()?;
    let metrics = String::from_utf8_lossy(&output.stdout);
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("millrace_model_server_queued_tokens "));
    Ok(line.context("no such metric")?.parse()?)
}

#[test]
fn a_model_that_is_not_there_and_an_address_that_is_taken_are_named() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(Target::Embedded)?;
    server(&mut pipeline);
    pipeline.set("MILLRACE_MODEL_SERVER__MODELS", r#"["gpt-9"]"#);
    let refused = pipeline.failure(&["run", "model-server"])?;
    ensure!(
        refused.contains("gpt-9") && refused.contains("model import"),
        "{refused}"
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    pipeline.set("MILLRACE_MODEL_SERVER__LISTEN", &address);
    let refused = pipeline.failure(&["run", "model-server"])?;
    ensure!(refused.contains("model_server.listen"), "{refused}");
    Ok(())
}

#[test]
fn documents_and_queries_are_embedded_by_a_model_server() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(Target::Embedded)?;
    server(&mut pipeline);
    let serving = pipeline.serve(&["run", "model-server"])?;
    pipeline.set("MILLRACE_MODEL__ENCODER", "remote");
    pipeline.set(
        "MILLRACE_MODEL__REMOTE__URLS",
        &format!("[{:?}]", serving.api()),
    );
    let up = pipeline.up(&[])?;
    let note = pipeline.write("tides.txt", "The moon pulls the ocean twice a day.\n")?;
    pipeline.ingest(&note)?;
    ensure!(pipeline.search("what makes the sea rise?")? == ["tides.txt"]);
    up.leave()?;
    serving.leave()
}

#[test]
fn machines_share_versions_in_a_folder() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(Target::Embedded)?;
    let shared = pipeline.path("shared");
    pipeline.set("MILLRACE_MODEL__SHARED_STORE", text(&shared)?);
    a_version_reaches_another_machine(&mut pipeline)?;

    // Another model under the same name, from a machine that has not seen the first.
    let other = pipeline.path("other");
    std::fs::create_dir(&other)?;
    let real = ModelStore::from_env()?.folder(MODEL);
    for file in millrace_models::store::model_files(&real)? {
        std::fs::create_dir_all(other.join(&file).parent().context("no parent")?)?;
        std::fs::copy(real.join(&file), other.join(&file))?;
    }
    std::fs::write(
        other.join("sentence_bert_config.json"),
        r#"{"max_seq_length": 77}"#,
    )?;
    on_machine(&mut pipeline, "third")?;
    let refused = pipeline.failure(&["model", "import", text(&other)?, "--as", "emb:v1"])?;
    ensure!(
        refused.contains("another model") && refused.contains("--as"),
        "{refused}"
    );

    // What was damaged there becomes a model nowhere.
    on_machine(&mut pipeline, "fourth")?;
    let tokenizer = shared.join("emb/v1/tokenizer.json");
    let mut bytes = std::fs::read(&tokenizer)?;
    let last = bytes.len() - 1;
    bytes[last] = b' ';
    std::fs::write(&tokenizer, bytes)?;
    let refused = pipeline.failure(&["model", "pull", "emb:v1"])?;
    ensure!(refused.contains("`tokenizer.json`"), "{refused}");
    let kept = shared.join("emb/v1/millrace.json");
    let release = std::fs::read_to_string(&kept)?;
    std::fs::write(
        &kept,
        release.replace("tokenizer.json", "../../tokenizer.json"),
    )?;
    let refused = pipeline.failure(&["model", "pull", "emb:v1"])?;
    ensure!(refused.contains("no file of a model"), "{refused}");
    std::fs::write(&kept, "{")?;
    let refused = pipeline.failure(&["model", "pull", "emb:v1"])?;
    ensure!(refused.contains("tells of no version"), "{refused}");
    let listed = std::fs::read_dir(pipeline.path("fourth"))?.count();
    ensure!(listed == 0, "{listed} left in the store");
    Ok(())
}

/// A machine is a model store of its own.
fn on_machine(pipeline: &mut Pipeline, name: &str) -> anyhow::Result<()> {
    let store = pipeline.path(name);
    pipeline.set("MILLRACE_MODELS", text(&store)?);
    Ok(())
}

fn a_version_reaches_another_machine(pipeline: &mut Pipeline) -> anyhow::Result<()> {
    server(pipeline);
    let real = ModelStore::from_env()?.folder(MODEL);
    on_machine(pipeline, "first")?;
    let card = pipeline.json(&["model", "import", text(&real)?, "--as", "emb:v1"])?;
    // The same once more changes nothing.
    pipeline.json(&["model", "import", text(&real)?, "--as", "emb:v1"])?;

    on_machine(pipeline, "second")?;
    let listed = pipeline.json(&["model", "list"])?;
    ensure!(
        listed["models"] == json!([]) && listed["shared"][0]["version"] == "v1",
        "{listed}"
    );
    let refused = pipeline.failure(&["model", "pull", "emb:v2"])?;
    ensure!(
        refused.contains("not in the shared model store") && refused.contains("emb:v1"),
        "{refused}"
    );
    // A server that is given its name fetches it, at its start
    pipeline.set("MILLRACE_MODEL_SERVER__MODELS", r#"["emb:v1"]"#);
    let serving = pipeline.serve(&["run", "model-server"])?;
    let (status, vector) = serving.http("/predictions/emb/v1", &["-d", "a text"])?;
    ensure!((status, vector.as_array().map(Vec::len)) == (200, Some(384)));
    serving.leave()?;
    let shown = pipeline.json(&["model", "show", "emb"])?;
    ensure!(shown["fingerprint"] == card["fingerprint"], "{shown}");
    pipeline.json(&["model", "pull", "emb"])?;

    // or while it serves another.
    on_machine(pipeline, "server")?;
    pipeline.json(&["model", "import", text(&real)?, "--as", "own:v1"])?;
    pipeline.set("MILLRACE_MODEL_SERVER__MODELS", r#"["own:v1"]"#);
    let serving = pipeline.serve(&["run", "model-server"])?;
    let (status, said) = serving.http("/models?url=emb:v2", &["-X", "POST"])?;
    ensure!(
        status == 404
            && said["message"]
                .as_str()
                .is_some_and(|message| message.contains("emb:v1")),
        "{status} {said}"
    );
    let (status, said) = serving.http("/models?url=emb:v1", &["-X", "POST"])?;
    ensure!(status == 200, "{status} {said}");
    let (status, vector) = serving.http("/predictions/emb/v1", &["-d", "a text"])?;
    ensure!((status, vector.as_array().map(Vec::len)) == (200, Some(384)));
    serving.leave()
}
