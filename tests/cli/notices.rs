//! `POST /v1/notices`, as object storage calls it.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::harness::{Pipeline, Target, Up, eventually};

/// Status and body of a POST, through curl as an operator would.
fn post(up: &Up, body: &str, headers: &[&str]) -> anyhow::Result<(u16, Value)> {
    let mut command = Command::new("curl");
    command.args([
        "-sS",
        "--noproxy",
        "*",
        "-w",
        "\n%{http_code}",
        "--data-binary",
        "@-",
    ]);
    for header in headers {
        command.args(["-H", header]);
    }
    let mut child = command
        .arg(format!("{}/v1/notices", up.api()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    child
        .stdin
        .take()
        .context("standard input is piped")?
        .write_all(body.as_bytes())?;
    let output = String::from_utf8(child.wait_with_output()?.stdout)?;
    let (body, status) = output
        .rsplit_once('\n')
        .context("curl wrote the status last")?;
    Ok((
        status.trim().parse()?,
        serde_json::from_str(body).unwrap_or(Value::Null),
    ))
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
        answer["accepted"] == 0 && answer["malformed"] == 2,
        "{answer}"
    );
    let refusal = answer["errors"].to_string();
    ensure!(
        refusal.contains("elsewhere"),
        "the refused bucket is not named: {answer}"
    );
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
