//! What is refused before anything is computed: too early, too late, too large, without a token.

use anyhow::Result;
use millrace_model_server::ModelServerConfig;
use serde_json::json;

use crate::fixture::{Fixture, MODEL, answer};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_taken_before_the_models_are_warm() -> Result<()> {
    let fixture = Fixture::cold(ModelServerConfig::default()).await?;
    let body = json!({ "inputs": "a", "input": "a", "model": MODEL });
    for (path, status) in [("/health", 503), ("/ping", 500)] {
        let (found, _) = answer(fixture.get(path)).await?;
        assert_eq!(found.as_u16(), status, "{path}");
    }
    for path in [
        "/v1/embeddings",
        "/embed",
        "/predictions/all-MiniLM-L6-v2",
        "/models?url=emb:v1",
    ] {
        let response = fixture.post(path, &body).send().await?;
        assert_eq!(response.status().as_u16(), 503, "{path}");
        assert_eq!(response.headers()["retry-after"], "1");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_time_is_over_is_not_computed() -> Result<()> {
    let fixture = Fixture::start(&[MODEL], ModelServerConfig::default()).await?;
    let body = json!({ "input": "a", "model": MODEL });
    let with = |value: &str| {
        let request = fixture.post("/v1/embeddings", &body);
        request.header("x-request-timeout-ms", value.to_owned())
    };
    let (status, json) = answer(with("0")).await?;
    assert_eq!(
        (status.as_u16(), &json["error"]["code"]),
        (503, &json!("timeout"))
    );
    assert_eq!(fixture.metric("server_batches_total")?, Some(0.0));
    let (status, _) = answer(with("soon")).await?;
    assert_eq!(status.as_u16(), 400);
    let (status, _) = answer(with("99999999")).await?;
    assert_eq!(status.as_u16(), 200);
    assert_eq!(fixture.metric("server_batches_total")?, Some(1.0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_a_limit_of_tokens_as_they_are_read_and_not_as_they_are_guessed() -> Result<()>
{
    let config = ModelServerConfig {
        max_queued_tokens: 1_024,
        ..ModelServerConfig::default()
    };
    let fixture = Fixture::start(&[MODEL], config).await?;
    let of = |text: &str| json!({ "inputs": vec![text; 8] });
    let long = "word ".repeat(400);
    for path in ["/embed", "/tokenize"] {
        let (status, json) = answer(fixture.post(path, &of(&long))).await?;
        assert_eq!(status.as_u16(), 413, "{path}: {json}");
        let says = json["error"].as_str().unwrap();
        assert!(says.contains("more than the 1024 tokens"), "{path}: {says}");
    }
    // Nothing is cut where tokens are counted.
    let (status, json) = answer(fixture.post("/tokenize", &json!({ "inputs": long }))).await?;
    assert_eq!(status.as_u16(), 200, "{json}");
    assert_eq!(json[0].as_array().map(Vec::len), Some(402));
    // By its bytes each has more tokens than the model reads, and by its one word three.
    let spaced = format!("{}word", " ".repeat(2_000));
    let (status, json) = answer(fixture.post("/embed", &of(&spaced))).await?;
    assert_eq!(status.as_u16(), 200, "{json}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_has_a_limit_and_a_token_opens_what_is_closed() -> Result<()> {
    let config = ModelServerConfig {
        max_body_bytes: 2_000,
        api_key: Some("right".to_owned()),
        admin_token: Some("master".to_owned()),
        ..ModelServerConfig::default()
    };
    let fixture = Fixture::start(&[MODEL], config).await?;
    let body = json!({ "input": "a", "inputs": "a", "model": MODEL });
    for (path, pointer, says) in [
        ("/v1/embeddings", "/error/code", "invalid_api_key"),
        ("/embed", "/error_type", "Validation"),
        (
            "/predictions/all-MiniLM-L6-v2",
            "/type",
            "InvalidKeyException",
        ),
    ] {
        for token in ["", "wrong"] {
            let (status, json) = answer(fixture.post(path, &body).bearer_auth(token)).await?;
            assert_eq!(status.as_u16(), 401, "{path}");
            assert_eq!(json.pointer(pointer), Some(&json!(says)));
        }
        let (status, _) = answer(fixture.post(path, &body).bearer_auth("right")).await?;
        assert_eq!(status.as_u16(), 200);
        let long = json!({ "input": "a".repeat(3_000) });
        let (status, _) = answer(fixture.post(path, &long).bearer_auth("right")).await?;
        assert_eq!(status.as_u16(), 413, "{path}");
    }
    let models = |token: &str| answer(fixture.get("/models").bearer_auth(token.to_owned()));
    assert_eq!(models("right").await?.0.as_u16(), 401);
    assert_eq!(models("master").await?.0.as_u16(), 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_are_those_that_are_documented() -> Result<()> {
    let fixture = Fixture::start(&[MODEL], ModelServerConfig::default()).await?;
    let served = fixture.metrics_text()?;
    let served: std::collections::BTreeSet<(&str, &str)> = served
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect();
    let section = include_str!("../../../../docs/metrics.md").split("\n## The model server\n");
    let documented = section
        .skip(1)
        .flat_map(str::lines)
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
            Some((name, rest.split_once(" |")?.0))
        })
        .collect();
    assert_eq!(served, documented);
    Ok(())
}
