//! `/v1/embeddings` as OpenAI's reference describes it.

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use millrace_model_server::ModelServerConfig;
use millrace_models::normalise;
use serde_json::{Value, json};

use crate::fixture::{Fixture, MODEL, answer, assert_same, vector};

const TEXTS: [&str; 3] = [
    "A shark terrorises a seaside town.",
    "robots",
    "The moon pulls the ocean twice a day, and the shore breathes with it.",
];

#[tokio::test(flavor = "multi_thread")]
async fn each_form_of_input_has_the_encoders_vectors() -> Result<()> {
    let fixture = Fixture::start(&[MODEL, "emb:v1"], ModelServerConfig::default()).await?;
    let encoder = fixture.encoder(MODEL)?;
    let wanted = encoder.encode(&TEXTS)?;
    let own_ids: Vec<Vec<u32>> = TEXTS
        .iter()
        .map(|text| {
            let ids = encoder.tokenizer().encode(text).unwrap();
            encoder.tokenizer().unframe(&ids).to_vec()
        })
        .collect();
    for input in [json!(TEXTS), json!(own_ids)] {
        let request = fixture.post("/v1/embeddings", &json!({ "model": MODEL, "input": input }));
        let response = request.send().await?;
        let signed = |name: &str| {
            let value = response.headers().get(name);
            value
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        assert_eq!(
            signed("millrace-model-version").as_deref(),
            Some(encoder.version())
        );
        assert_eq!(
            signed("millrace-model-fingerprint").as_deref(),
            Some(encoder.fingerprint().as_str())
        );
        let json: Value = response.json().await?;
        assert_eq!(
            (&json["object"], &json["model"]),
            (&json!("list"), &json!(MODEL))
        );
        let tokens: usize = own_ids.iter().map(|ids| ids.len() + 2).sum();
        assert_eq!(
            json["usage"],
            json!({ "prompt_tokens": tokens, "total_tokens": tokens })
        );
        for (index, wanted) in wanted.iter().enumerate() {
            let data = &json["data"][index];
            assert_eq!(
                (&data["object"], &data["index"]),
                (&json!("embedding"), &json!(index))
            );
            assert_same(&vector(&data["embedding"])?, wanted);
        }
    }
    for input in [json!(TEXTS[1]), json!(own_ids[1])] {
        let body = json!({ "model": MODEL, "input": input, "user": "somebody" });
        let (_, json) = answer(fixture.post("/v1/embeddings", &body)).await?;
        assert_same(&vector(&json["data"][0]["embedding"])?, &wanted[1]);
    }

    let body = json!({
        "model": MODEL, "input": TEXTS[0], "dimensions": 64, "encoding_format": "base64"
    });
    let (_, json) = answer(fixture.post("/v1/embeddings", &body)).await?;
    let bytes = STANDARD.decode(json["data"][0]["embedding"].as_str().unwrap())?;
    let found: Vec<f32> = bytes
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect();
    let mut cut = wanted[0][..64].to_vec();
    normalise(&mut cut);
    assert_same(&found, &cut);

    // A version has its own limit: `emb:v1` reads 128 tokens.
    let long = "word ".repeat(400);
    for (model, tokens) in [(MODEL, 256), ("emb", 128), ("emb:v1", 128), ("emb/v1", 128)] {
        let body = json!({ "model": model, "input": long });
        let (_, json) = answer(fixture.post("/v1/embeddings", &body)).await?;
        assert_eq!(json["usage"]["total_tokens"], json!(tokens), "{model}");
    }
    let (_, json) = answer(fixture.get("/v1/models")).await?;
    let ids: Vec<&str> = json["data"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|model| model["id"].as_str())
        .collect();
    assert_eq!(ids, ["all-MiniLM-L6-v2:1.0", "emb:v1"]);
    let (status, json) = answer(fixture.get("/v1/models/emb/v1")).await?;
    assert_eq!((status.as_u16(), &json["object"]), (200, &json!("model")));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_in_openais_shape() -> Result<()> {
    let fixture = Fixture::start(&[MODEL], ModelServerConfig::default()).await?;
    let of = |change: Value| {
        let mut body = json!({ "model": MODEL, "input": "a text" });
        for (key, value) in change.as_object().unwrap() {
            body[key] = value.clone();
        }
        body
    };
    let million = vec!["a"; 1_000_000];
    let cases = [
        (
            of(json!({ "input": "" })),
            400,
            json!("input"),
            json!(null),
            "empty",
        ),
        (
            of(json!({ "input": [] })),
            400,
            json!("input"),
            json!(null),
            "empty",
        ),
        (
            of(json!({ "input": ["a", ""] })),
            400,
            json!("input"),
            json!(null),
            "empty",
        ),
        (
            of(json!({ "input": [[]] })),
            400,
            json!("input"),
            json!(null),
            "empty",
        ),
        (
            of(json!({ "input": 7 })),
            400,
            json!(null),
            json!(null),
            "expected a text",
        ),
        (
            of(json!({ "input": null })),
            400,
            json!("input"),
            json!(null),
            "provide input",
        ),
        (
            of(json!({ "input": ["a", 1] })),
            400,
            json!(null),
            json!(null),
            "mixed",
        ),
        (
            of(json!({ "input": [40_000_000] })),
            400,
            json!("input"),
            json!(null),
            "30521",
        ),
        (
            of(json!({ "input": million })),
            400,
            json!("input"),
            json!(null),
            "1000000 inputs",
        ),
        (
            of(json!({ "model": null })),
            400,
            json!("model"),
            json!(null),
            "provide model",
        ),
        (
            of(json!({ "model": "gpt-9" })),
            404,
            json!(null),
            json!("model_not_found"),
            "gpt-9",
        ),
        (
            of(json!({ "model": "all-MiniLM-L6-v2:v7" })),
            404,
            json!(null),
            json!("model_not_found"),
            "v7",
        ),
        (
            of(json!({ "dimensions": 0 })),
            400,
            json!("dimensions"),
            json!(null),
            "1 to 384",
        ),
        (
            of(json!({ "dimensions": -3 })),
            400,
            json!("dimensions"),
            json!(null),
            "1 to 384",
        ),
        (
            of(json!({ "dimensions": 385 })),
            400,
            json!("dimensions"),
            json!(null),
            "is 385",
        ),
        (
            of(json!({ "encoding_format": "hex" })),
            400,
            json!(null),
            json!(null),
            "hex",
        ),
    ];
    for (body, status, param, code, says) in cases {
        let (found, json) = answer(fixture.post("/v1/embeddings", &body)).await?;
        let error = &json["error"];
        assert_eq!(found.as_u16(), status, "{says}: {json}");
        assert_eq!((&error["param"], &error["code"]), (&param, &code), "{json}");
        assert_eq!(error["type"], "invalid_request_error");
        assert!(error["message"].as_str().unwrap().contains(says), "{json}");
    }
    let broken = fixture.get("/v1/embeddings");
    assert_eq!(answer(broken).await?.0.as_u16(), 405);
    let (status, json) = answer(fixture.get("/v1/nothing")).await?;
    assert_eq!(
        (status.as_u16(), &json["error"]["code"]),
        (404, &json!("unknown_url"))
    );
    let broken = fixture
        .client
        .post(format!("{}/v1/embeddings", fixture.url))
        .body("{\"input\": ");
    let (status, json) = answer(broken).await?;
    assert_eq!(status.as_u16(), 400);
    assert!(
        json["error"]["message"].as_str().unwrap().contains("EOF"),
        "{json}"
    );
    Ok(())
}
