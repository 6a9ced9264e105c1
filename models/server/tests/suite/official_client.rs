//! OpenAI's own Python client, unchanged.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use millrace_model_server::ModelServerConfig;
use serde_json::Value;

use crate::fixture::{Fixture, MODEL, assert_same, vector};

const SCRIPT: &str = r#"
import json, sys
import openai
client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="none", max_retries=0)
texts = ["A shark terrorises a seaside town.", "robots"]
whole = client.embeddings.create(model="all-MiniLM-L6-v2", input=texts)
floats = client.embeddings.create(model="all-MiniLM-L6-v2", input=texts, encoding_format="float")
short = client.embeddings.create(model="all-MiniLM-L6-v2", input=texts[0], dimensions=64)
ids = client.embeddings.create(model="all-MiniLM-L6-v2", input=[8080, 1037])
errors = []
for wrong in ({"model": "gpt-9", "input": "a"}, {"model": "all-MiniLM-L6-v2", "input": ""}):
    try:
        client.embeddings.create(**wrong)
    except openai.APIStatusError as error:
        errors.append([type(error).__name__, error.code])
print(json.dumps({
    "whole": [item.embedding for item in whole.data],
    "floats": [item.embedding for item in floats.data],
    "short": len(short.data[0].embedding),
    "ids": len(ids.data[0].embedding),
    "tokens": whole.usage.total_tokens,
    "models": [model.id for model in client.models.list()],
    "errors": errors,
}))
"#;

#[tokio::test(flavor = "multi_thread")]
async fn reads_our_answers_and_our_errors() -> Result<()> {
    let fixture = Fixture::start(&[MODEL], ModelServerConfig::default()).await?;
    let python = std::env::var("MILLRACE_TEST_PYTHON")
        .context("MILLRACE_TEST_PYTHON is not set: run `make test`, which makes the venv")?;
    let url = fixture.url.clone();
    let run = move || {
        Command::new(python)
            .args(["-c", SCRIPT, &url])
            .env("NO_PROXY", "*")
            .output()
    };
    let output = tokio::task::spawn_blocking(run).await??;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{complaint}");
    let found: Value = serde_json::from_slice(&output.stdout)?;
    let wanted = fixture
        .encoder(MODEL)?
        .encode(&["A shark terrorises a seaside town.", "robots"])?;
    for form in ["whole", "floats"] {
        for (found, wanted) in found[form].as_array().unwrap().iter().zip(&wanted) {
            assert_same(&vector(found)?, wanted);
        }
    }
    assert_eq!((&found["short"], &found["ids"]), (&64.into(), &384.into()));
    assert_eq!(found["models"], serde_json::json!(["all-MiniLM-L6-v2:1.0"]));
    assert_eq!(
        found["errors"],
        serde_json::json!([
            ["NotFoundError", "model_not_found"],
            ["BadRequestError", null]
        ])
    );
    Ok(())
}
