//! TorchServe's inference and management, with the shapes of its documentation and source.

use anyhow::Result;
use millrace_model_server::ModelServerConfig;
use reqwest::Method;
use serde_json::{Value, json};

use crate::fixture::{Fixture, MODEL, answer, assert_same, vector};

async fn call(fixture: &Fixture, method: Method, path: &str) -> Result<(u16, Value)> {
    let url = format!("{}{path}", fixture.url);
    let (status, json) = answer(fixture.client.request(method, url)).await?;
    Ok((status.as_u16(), json))
}

#[tokio::test(flavor = "multi_thread")]
async fn predicts_by_name_and_version() -> Result<()> {
    let fixture = Fixture::start(&[MODEL, "emb:v1"], ModelServerConfig::default()).await?;
    assert_eq!(
        call(&fixture, Method::GET, "/ping").await?,
        (200, json!({ "status": "Healthy" }))
    );
    let wanted = fixture.encoder(MODEL)?.encode(&["Bloomberg has decided"])?;
    let plain = |path: &str| {
        let post = fixture.client.post(format!("{}{path}", fixture.url));
        post.body("Bloomberg has decided")
    };
    for path in [
        "/predictions/all-MiniLM-L6-v2",
        "/predictions/all-MiniLM-L6-v2/1.0",
        "/predictions/emb:v1",
        "/predictions/emb/v1",
    ] {
        let (status, json) = answer(plain(path)).await?;
        assert_eq!(status.as_u16(), 200, "{json}");
        assert_same(&vector(&json)?, &wanted[0]);
    }
    let predictions = "/predictions/all-MiniLM-L6-v2";
    for body in [
        json!("Bloomberg has decided"),
        json!({ "data": "Bloomberg has decided" }),
        json!({ "text": "Bloomberg has decided" }),
    ] {
        let (_, json) = answer(fixture.post(predictions, &body)).await?;
        assert_same(&vector(&json)?, &wanted[0]);
    }
    let body = json!(["Bloomberg has decided", "b"]);
    let (_, json) = answer(fixture.post(predictions, &body)).await?;
    assert_eq!(json.as_array().map(Vec::len), Some(2));
    assert_same(&vector(&json[0])?, &wanted[0]);
    let form = fixture
        .client
        .post(format!("{}{predictions}", fixture.url))
        .header("content-type", "application/x-www-form-urlencoded")
        .body("data=Bloomberg+has%20decided");
    assert_same(&vector(&answer(form).await?.1)?, &wanted[0]);

    for (path, status, kind, message) in [
        (
            "/predictions/gpt-9",
            404,
            "ModelNotFoundException",
            "Model not found: gpt-9",
        ),
        (
            "/predictions/emb/v7",
            404,
            "ModelVersionNotFoundException",
            "Model version: v7 does not exist for model: emb",
        ),
        (
            "/predictions",
            404,
            "ResourceNotFoundException",
            "Requested resource is not found, please refer to API document.",
        ),
    ] {
        let (found, json) = answer(plain(path)).await?;
        assert_eq!(found.as_u16(), status);
        assert_eq!(
            json,
            json!({ "code": status, "type": kind, "message": message })
        );
    }
    for body in [json!({ "a": "b" }), json!(7), json!(""), json!([])] {
        let (status, json) = answer(fixture.post(predictions, &body)).await?;
        assert_eq!(status.as_u16(), 400, "{body}");
        assert_eq!(json["type"], "BadRequestException");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_come_go_and_answer_for_their_name() -> Result<()> {
    let fixture = Fixture::start(&[MODEL], ModelServerConfig::default()).await?;
    let roberta = fixture.root.path().join("roberta");
    std::fs::create_dir(&roberta)?;
    std::fs::write(roberta.join("config.json"), r#"{"model_type": "roberta"}"#)?;
    let call = |method: Method, path: &'static str| call(&fixture, method, path);
    let said = |text: &str| (200, json!({ "status": text }));

    assert_eq!(
        call(Method::POST, "/models?url=emb:v1").await?,
        said("Model \"emb\" Version: v1 registered with 1 initial workers")
    );
    assert_eq!(
        call(
            Method::POST,
            "/models?url=emb:v2&model_name=emb&initial_workers=1"
        )
        .await?
        .0,
        200
    );
    let refusals = [
        (
            "/models",
            400,
            "BadRequestException",
            "Parameter url is required.",
        ),
        (
            "/models?url=emb:v1",
            409,
            "ConflictStatusException",
            "already registered",
        ),
        (
            "/models?url=emb:v9",
            404,
            "ModelNotFoundException",
            "emb:v1, emb:v2",
        ),
        (
            "/models?url=roberta",
            400,
            "InvalidModelException",
            "model_type `roberta`",
        ),
        (
            "/models?url=../secret",
            400,
            "DownloadArchiveException",
            "names no model",
        ),
        (
            "/models?url=emb:v1&model_name=other",
            400,
            "BadRequestException",
            "other",
        ),
    ];
    for (path, status, kind, says) in refusals {
        let (found, json) = call(Method::POST, path).await?;
        assert_eq!((found, &json["type"]), (status, &json!(kind)), "{json}");
        assert!(json["message"].as_str().unwrap().contains(says), "{json}");
    }

    let (_, json) = call(Method::GET, "/models?limit=1").await?;
    assert_eq!(
        json,
        json!({ "nextPageToken": "1",
                "models": [{ "modelName": MODEL, "modelUrl": MODEL }] })
    );
    let (_, json) = call(Method::GET, "/models?limit=2&next_page_token=1").await?;
    assert_eq!(
        json,
        json!({ "models": [{ "modelName": "emb", "modelUrl": "emb:v1" }] })
    );
    let (_, json) = call(Method::GET, "/models/emb").await?;
    let model = &json[0];
    assert_eq!(
        (
            &model["modelVersion"],
            &model["loadedAtStartup"],
            &model["minWorkers"]
        ),
        (&json!("v1"), &json!(false), &json!(1))
    );
    assert_eq!(model["workers"][0]["status"], "READY");
    assert!(model["jobQueueStatus"]["remainingCapacity"].as_u64() > Some(1_000));
    let (_, json) = call(Method::GET, "/models/emb/all").await?;
    assert_eq!(json.as_array().map(Vec::len), Some(2));

    // What answers for the name: v1 reads 128 tokens, v2 64.
    let tokens = async || -> Result<Value> {
        let body = json!({ "model": "emb", "input": "word ".repeat(400) });
        let (_, json) = answer(fixture.post("/v1/embeddings", &body)).await?;
        Ok(json["usage"]["total_tokens"].clone())
    };
    assert_eq!(tokens().await?, json!(128));
    assert_eq!(
        call(Method::PUT, "/models/emb/v2/set-default").await?,
        said("Default vesion succsesfully updated for model \"emb\" to \"v2\"")
    );
    assert_eq!(tokens().await?, json!(64));
    assert_eq!(
        call(Method::PUT, "/models/emb/v9/set-default").await?.0,
        404
    );

    for path in ["/models/emb/v2", "/models/emb", "/models/all-MiniLM-L6-v2"] {
        let (status, json) = call(Method::DELETE, path).await?;
        assert_eq!(status, 403, "{path}: {json}");
        assert_eq!(json["type"], "InvalidModelVersionException");
        let message = json["message"].as_str().unwrap();
        assert!(
            message.starts_with("Cannot remove default version for model"),
            "{json}"
        );
    }
    assert_eq!(
        call(Method::DELETE, "/models/emb/v1").await?,
        said("Model \"emb\" unregistered")
    );
    assert_eq!(call(Method::DELETE, "/models/emb/v1").await?.0, 404);
    assert_eq!(call(Method::DELETE, "/models/emb").await?.0, 200);
    assert_eq!(call(Method::GET, "/models/emb").await?.0, 404);

    let model = "/models/all-MiniLM-L6-v2";
    assert_eq!(
        call(Method::PUT, model).await?,
        (202, json!({ "status": "Processing worker updates..." }))
    );
    assert_eq!(
        call(
            Method::PUT,
            "/models/all-MiniLM-L6-v2?min_worker=1&synchronous=true"
        )
        .await?,
        said("Workers scaled to 1 for model: all-MiniLM-L6-v2")
    );
    for path in [
        "/models/all-MiniLM-L6-v2?min_worker=3",
        "/models/all-MiniLM-L6-v2?min_worker=0",
        "/models/all-MiniLM-L6-v2?min_worker=2&max_worker=1",
        "/models/all-MiniLM-L6-v2?min_worker=many",
    ] {
        let (status, json) = call(Method::PUT, path).await?;
        assert_eq!(
            (status, &json["type"]),
            (400, &json!("BadRequestException")),
            "{path}"
        );
    }
    assert_eq!(call(Method::PATCH, "/models").await?.0, 405);
    Ok(())
}
