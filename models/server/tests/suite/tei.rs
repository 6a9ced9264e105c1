//! TEI's routes, with the shapes of its documentation and the statuses of its router.

use anyhow::Result;
use millrace_model_server::ModelServerConfig;
use millrace_models::normalise;
use serde_json::{Value, json};

use crate::fixture::{Fixture, answer, assert_same, vector};

#[tokio::test(flavor = "multi_thread")]
async fn embeds_tokenizes_and_tells_of_itself() -> Result<()> {
    let fixture = Fixture::start(&["emb:v2"], ModelServerConfig::default()).await?;
    let encoder = fixture.encoder("emb:v2")?;
    let wanted = encoder.encode(&["What is Deep Learning?", "query: What is Deep Learning?"])?;
    for path in ["/embed", "/"] {
        let body = json!({ "inputs": "What is Deep Learning?" });
        let (status, json) = answer(fixture.post(path, &body)).await?;
        assert_eq!(status.as_u16(), 200);
        assert_same(&vector(&json[0])?, &wanted[0]);
    }
    let body = json!({ "inputs": ["What is Deep Learning?"], "prompt_name": "query" });
    let (_, json) = answer(fixture.post("/embed", &body)).await?;
    assert_same(&vector(&json[0])?, &wanted[1]);

    let body = json!({ "inputs": "What is Deep Learning?", "normalize": false });
    let (_, json) = answer(fixture.post("/embed", &body)).await?;
    let mut raw = vector(&json[0])?;
    let length: f32 = raw.iter().map(|value| value * value).sum();
    assert!((length.sqrt() - 1.0).abs() > 0.01, "{length}");
    normalise(&mut raw);
    assert_same(&raw, &wanted[0]);

    let ids = encoder
        .tokenizer()
        .encode("What is Deep Learning?")
        .unwrap();
    let own = encoder.tokenizer().unframe(&ids);
    let (_, json) = answer(fixture.post("/embed", &json!({ "inputs": [own] }))).await?;
    assert_same(&vector(&json[0])?, &wanted[0]);

    let body = json!({ "inputs": "Deep Læring" });
    let (_, json) = answer(fixture.post("/tokenize", &body)).await?;
    let tokens = json[0].as_array().unwrap();
    assert_eq!(
        tokens[0],
        json!({ "id": 101, "text": "[CLS]", "special": true, "start": null, "stop": null })
    );
    assert_eq!(
        tokens[1],
        json!({ "id": 2784, "text": "Deep", "special": false, "start": 0, "stop": 4 })
    );
    let body = json!({ "inputs": ["Deep"], "add_special_tokens": false });
    let (_, json) = answer(fixture.post("/tokenize", &body)).await?;
    assert_eq!(json[0].as_array().unwrap().len(), 1);

    let (_, info) = answer(fixture.get("/info")).await?;
    assert_eq!(
        (&info["model_id"], &info["model_sha"]),
        (&json!("emb"), &json!(encoder.fingerprint()))
    );
    assert_eq!(
        info["model_type"],
        json!({ "embedding": { "pooling": "mean" } })
    );
    assert_eq!(
        (&info["max_input_length"], &info["max_client_batch_size"]),
        (&json!(64), &json!(2_048))
    );
    let health = fixture.get("/health").send().await?;
    assert_eq!(
        (health.status().as_u16(), health.text().await?),
        (200, String::new())
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_in_teis_shape() -> Result<()> {
    let config = ModelServerConfig {
        max_body_bytes: 32 << 20,
        ..ModelServerConfig::default()
    };
    let fixture = Fixture::start(&["emb:v2"], config).await?;
    let of = |inputs: Value| json!({ "inputs": inputs });
    let with = |key: &str, value: Value| json!({ "inputs": "a", key: value });
    let long = "word ".repeat(100);
    let huge = "w".repeat(10_000_000);
    let embed = "/embed";
    let cases = [
        (
            embed,
            of(json!("")),
            400,
            "Empty",
            "`inputs` cannot be empty",
        ),
        (
            embed,
            of(json!([])),
            400,
            "Empty",
            "`inputs` cannot be empty",
        ),
        (
            embed,
            of(json!({ "a": 1 })),
            422,
            "Validation",
            "expected a text",
        ),
        (
            embed,
            json!({}),
            422,
            "Validation",
            "missing field `inputs`",
        ),
        (
            embed,
            of(json!(vec!["a"; 1_000_000])),
            413,
            "Validation",
            "batch size 1000000 > maximum",
        ),
        (
            embed,
            json!({ "inputs": long, "truncate": false }),
            413,
            "Validation",
            "must have less than 64 tokens. Given: 102",
        ),
        (
            embed,
            json!({ "inputs": huge, "truncate": false }),
            413,
            "Validation",
            "has 10000000 bytes",
        ),
        (
            embed,
            with("prompt_name", json!("passage")),
            413,
            "Validation",
            "it has query",
        ),
        (
            embed,
            with("dimensions", json!(0)),
            413,
            "Validation",
            "1 to 384",
        ),
        (
            embed,
            with("dimensions", json!(385)),
            413,
            "Validation",
            "is 385",
        ),
        (
            embed,
            with("normalize", json!("yes")),
            422,
            "Validation",
            "boolean",
        ),
        (
            "/tokenize",
            of(json!(7)),
            422,
            "Validation",
            "a text or an array",
        ),
        ("/tokenize", of(json!("")), 400, "Empty", "empty"),
        (
            "/rerank",
            json!({ "query": "a", "texts": ["b"] }),
            424,
            "Backend",
            "model is not a re-ranker model",
        ),
        (
            "/rerank",
            json!({ "query": "a", "texts": [] }),
            400,
            "Empty",
            "empty",
        ),
        (
            "/embed_sparse",
            of(json!("a")),
            404,
            "Validation",
            "/embed_sparse",
        ),
    ];
    for (path, body, status, kind, says) in cases {
        let (found, json) = answer(fixture.post(path, &body)).await?;
        assert_eq!(found.as_u16(), status, "{path} {says}: {json}");
        assert_eq!(json["error_type"], kind, "{json}");
        assert!(json["error"].as_str().unwrap().contains(says), "{json}");
    }
    // The same two texts, cut.
    let body = json!({ "inputs": [long, huge], "truncate": true });
    let (status, json) = answer(fixture.post("/embed", &body)).await?;
    assert_eq!(
        (status.as_u16(), json.as_array().map(Vec::len)),
        (200, Some(2))
    );
    Ok(())
}
