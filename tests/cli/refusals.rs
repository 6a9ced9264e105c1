//! What is refused of the recommender's callers, and in which words.

use std::process::Command;

use anyhow::ensure;
use serde_json::{Value, json};

use crate::harness::{Pipeline, Target, Up};

const JSON: [&str; 2] = ["-H", "content-type: application/json"];

fn send(up: &Up, method: &str, route: &str, body: &str) -> anyhow::Result<(u16, Value)> {
    let arguments = ["-X", method, "--data-binary", body];
    up.http(route, &[&arguments[..], &JSON].concat())
}

fn message(answer: &Value) -> &str {
    answer["message"].as_str().unwrap_or_default()
}

#[test]
fn who_may_not_is_told_how_to_become_one_who_may() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(Target::Embedded)?;
    pipeline.set("MILLRACE_API__LISTEN", "0.0.0.0:0");
    pipeline.set("MILLRACE_API__NOTICES_TOKEN", "notices");
    pipeline.set("MILLRACE_API__EVENTS_TOKEN", "events");
    let up = pipeline.up(&[])?;
    for (method, route) in [("PUT", "config"), ("POST", "deploy"), ("POST", "rollback")] {
        let (status, answer) = send(&up, method, &format!("/v1/instances/shop/{route}"), "{}")?;
        let told = message(&answer);
        ensure!(
            status == 401
                && told.contains("Set api.admin_token")
                && told.contains("millrace deploy"),
            "{route}: {status} {answer}"
        );
    }
    // The way that it names, and the way back to the default.
    let told = pipeline.json(&["deploy", "weighted"])?;
    ensure!(told["deployed"] == "weighted", "{told}");
    up.leave()
}

#[test]
fn a_refusal_names_the_parameter_and_what_it_may_be() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    let up = pipeline.up(&[])?;
    let own = "/v1/instances/shop";
    let airec = "/v2/openapi/instances/shop/actions";
    for (route, complaint) in [
        (
            format!("{own}/recommend?user_id=u&count=-1"),
            "`count` is \"-1\"; give 1 to",
        ),
        (
            format!("{own}/recommend?user_id=u&count=x"),
            "`count` is \"x\"; give 1 to",
        ),
        (
            format!("{own}/recommend?user_id=u&explain=5"),
            "the query: `explain`: ",
        ),
        (
            format!("{own}/recommend?user_id=u&filter=5"),
            "not a JSON object",
        ),
        (
            format!("{own}/search?query=x&count=0"),
            "`count` is 0; give 1 to",
        ),
        (
            format!("{own}/search?query=x&count=x"),
            "`count` is x; give 1 to",
        ),
        (
            format!("{own}/search?query=x&filter=5"),
            "not a JSON object",
        ),
        (
            format!("{airec}/recommend?userId=u&returnCount=-1"),
            "`returnCount` is \"-1\"; give 1 to",
        ),
        (
            format!("{airec}/recommend?userId=u&returnCount=x"),
            "`returnCount` is \"x\"; give 1 to",
        ),
    ] {
        let (status, answer) = up.http(&route, &[])?;
        ensure!(
            status == 400 && message(&answer).contains(complaint),
            "{route}: {status} {answer}"
        );
    }
    let candidates = json!({"user_id": "u", "candidates": ["a\nb"]}).to_string();
    let long = json!({ "model_version": "x".repeat(100_000) }).to_string();
    for (method, route, body, complaint) in [
        ("PUT", "config", "[]", "expected an object"),
        (
            "POST",
            "rerank",
            &candidates,
            "`item_id` holds the control character",
        ),
        ("POST", "deploy", &long, "is no name of a model"),
    ] {
        let (status, answer) = send(&up, method, &format!("{own}/{route}"), body)?;
        let told = message(&answer);
        ensure!(
            status == 400 && told.contains(complaint) && told.len() < 1_000,
            "{route}: {status} {answer}"
        );
    }
    let large = pipeline.write("large.json", " ".repeat(3 << 20) + "{}")?;
    let file = format!("@{}", large.display());
    let (status, answer) = send(&up, "PUT", &format!("{own}/config"), &file)?;
    ensure!(
        status == 413 && message(&answer).contains("more than 2097152 bytes"),
        "{status} {answer}"
    );
    // AIRec has no field for a fall-back.
    let (status, answer) = up.http(&format!("{airec}/recommend?userId=nobody"), &[])?;
    ensure!(status == 200 && answer["code"] == "SUCCESS", "{answer}");
    ensure!(
        message(&answer).starts_with("success; fall-back: unknown_user: "),
        "{answer}"
    );
    up.leave()
}

#[test]
fn commands_say_what_they_lack() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    for (arguments, complaint) in [
        (["stats", ""].as_slice(), "the item is empty"),
        (&["profile", "u", "--vectors"], "--vectors needs --json"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_millrace"))
            .args(arguments)
            .arg("--data")
            .arg(pipeline.path("data"))
            .output()?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(2) && stderr.contains(complaint),
            "{arguments:?}: {stderr}"
        );
    }
    Ok(())
}
