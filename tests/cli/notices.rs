//! `POST /v1/notices`, as object storage calls it.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::harness::{Pipeline, Target, Up, eventually};

/// Status and body of a POST, through curl as an operator would.
fn post(up: &Up, body: &str, headers: &[&str]) -> anyhow::Result<(u16, Value)> {
    let url = format!("{}/v1/notices", up.api());
    let mut arguments = vec![url.as_str(), "--data-binary", "@-"];
    for header in headers {
        arguments.extend(["-H", header]);
    }
    let output = curl(&arguments, body)?;
    let (body, status) = output
        .rsplit_once('\n')
        .context("curl wrote the status last")?;
    Ok((
        status.trim().parse()?,
        serde_json::from_str(body).unwrap_or(Value::Null),
    ))
}

/// What curl prints, the status on a last line of its own.
fn curl(arguments: &[&str], input: &str) -> anyhow::Result<String> {
    let mut child = Command::new("curl")
        .args(["-sS", "--noproxy", "*", "-w", "\n%{http_code}"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("standard input is piped")?;
    stdin.write_all(input.as_bytes())?;
    drop(stdin);
    Ok(String::from_utf8(child.wait_with_output()?.stdout)?)
}

fn s3_notice(bucket: &str, key: &str) -> Value {
    json!({ "eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
        "eventTime": "2026-01-02T03:04:05.678Z",
        "s3": { "bucket": { "name": bucket }, "object": { "key": key, "size": 3, "eTag": "ab", "sequencer": "0A" } } })
}

#[test]
fn malformed_and_foreign_entries_are_counted_and_kept() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    let up = pipeline.up(&[])?;
    let body = json!({ "Records": [ s3_notice("elsewhere", "x.txt"), { "eventName": 7 } ] });
    let (status, answer) = post(&up, &body.to_string(), &[])?;
    ensure!(status / 100 == 2, "{status} {answer}");
    ensure!(
        answer["accepted"] == 0 && answer["malformed"] == 1 && answer["not_allowed"] == 1,
        "{answer}"
    );
    let refusal = answer["errors"].to_string();
    ensure!(
        refusal.contains("elsewhere"),
        "the refused bucket is not named: {answer}"
    );
    let metrics = curl(&[&format!("{}/metrics", up.api())], "")?;
    for result in ["malformed", "not_allowed"] {
        let counted = format!("millrace_notice_entries_total{{result=\"{result}\"}} 1");
        ensure!(metrics.contains(&counted), "{counted} is not in {metrics}");
    }
    eventually(
        "the malformed entry is a dead letter",
        Duration::from_secs(30),
        || {
            let listed = pipeline.json(&["dlq", "list"])?;
            Ok((listed["total"].as_u64() >= Some(1)).then_some(()))
        },
    )
}

#[test]
fn a_body_that_is_no_notice_is_refused_with_a_reason() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    let up = pipeline.up(&[])?;
    let (status, answer) = post(&up, "hello", &[])?;
    ensure!(
        (400..500).contains(&status) || answer["malformed"] == 1,
        "{status} {answer}"
    );
    Ok(())
}

#[test]
fn a_token_is_required_where_one_is_configured() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(Target::Embedded)?;
    pipeline.set("MILLRACE_API__NOTICES_TOKEN", "sesame");
    let up = pipeline.up(&[])?;
    let body = json!({ "Records": [] }).to_string();
    ensure!(post(&up, &body, &[])?.0 == 401);
    ensure!(post(&up, &body, &["Authorization: Bearer wrong"])?.0 == 401);
    ensure!(post(&up, &body, &["Authorization: Bearer sesame"])?.0 / 100 == 2);
    Ok(())
}

#[test]
fn every_refusal_of_the_api_has_one_shape() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(Target::Embedded)?;
    // Digits with a leading zero: a text, as every token is.
    pipeline.set("MILLRACE_API__NOTICES_TOKEN", "0123");
    let up = pipeline.up(&[])?;
    let json = ["-H", "content-type: application/json"];
    let search = |body: &str| -> anyhow::Result<String> {
        let url = format!("{}/v1/search", up.api());
        curl(&[&json[..], &[&url, "--data-binary", "@-"]].concat(), body)
    };
    let get = |path: &str| curl(&[&format!("{}{path}", up.api())], "");
    for (answer, status, error_type) in [
        (
            search("{\"query\": \"x\", \"bm25_weight\": NaN}")?,
            "400",
            "malformed_json",
        ),
        (
            search("{\"query\": \"x\", \"bm25_weight\": 0, \"vector_weight\": 0}")?,
            "400",
            "invalid_request",
        ),
        (
            search("{\"query\": \"x\", \"k\": 0}")?,
            "400",
            "invalid_request",
        ),
        (
            search("{\"query\": \"x\", \"k\": -1}")?,
            "400",
            "invalid_request",
        ),
        (search("{\"qurey\": \"x\"}")?, "400", "invalid_request"),
        (
            curl(&[&format!("{}/v1/search", up.api()), "-d", "query=x"], "")?,
            "415",
            "unsupported_media_type",
        ),
        (get("/v1/serach")?, "404", "unknown_route"),
        (get("/v1/search")?, "405", "method_not_allowed"),
        (get("/v1/notices")?, "405", "method_not_allowed"),
        (
            curl(&[&format!("{}/v1/refresh", up.api()), "-d", "{}"], "")?,
            "401",
            "unauthorised",
        ),
        (
            curl(&[&format!("{}/v1/notices", up.api()), "-d", "{}"], "")?,
            "401",
            "unauthorised",
        ),
    ] {
        let (body, said) = answer
            .rsplit_once('\n')
            .context("curl wrote the status last")?;
        let body: Value =
            serde_json::from_str(body).with_context(|| format!("{body:?} is no JSON"))?;
        ensure!(
            said == status && body["error_type"] == error_type && body["message"].is_string(),
            "{said} {body}, not {status} {error_type}"
        );
    }
    let body = json!({ "Records": [] }).to_string();
    ensure!(post(&up, &body, &["Authorization: Bearer 123"])?.0 == 401);
    ensure!(post(&up, &body, &["Authorization: Bearer 0123"])?.0 / 100 == 2);
    Ok(())
}

#[test]
fn a_command_of_its_own_leaves_notices_that_it_may_not_read() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    // Nobody listens there: the document waits for its store.
    let config = pipeline.write(
        "bucket.toml",
        "objects.allowed_buckets = [\"s3://away\"]\n\
         objects.s3 = { endpoint = \"http://127.0.0.1:1\", access_key_id = \"i\", secret_access_key = \"s\" }\n",
    )?;
    let mut up = pipeline.up(&["--config", crate::harness::text(&config)?])?;
    let body = json!({ "Records": [s3_notice("away", "x.txt")] }).to_string();
    let (status, answer) = post(&up, &body, &[])?;
    ensure!(
        status == 200 && answer["accepted"] == 1,
        "{status} {answer}"
    );
    up.signal("-TERM")?;
    ensure!(up.wait(Duration::from_secs(60))?.success());

    let note = pipeline.write("note.txt", "A note of its own.\n")?;
    let summary = pipeline.ingest(&note)?;
    ensure!(summary["indexed"] == 1, "{summary}");
    let dead = pipeline.json(&["dlq", "list"])?;
    ensure!(dead["total"] == 0, "{dead}");
    let lag = pipeline.json(&["lag"])?;
    let waiting: i64 = lag["partitions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|partition| partition["lag"].as_i64())
        .sum();
    ensure!(waiting >= 1, "it is not waiting any more: {lag}");
    Ok(())
}
