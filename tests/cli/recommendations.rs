//! Recommendations from outside: what a click and an upload change, and what is refused.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::harness::{Pipeline, Target, Up, eventually, on_both_targets, text};

const SOON: Duration = Duration::from_secs(120);
/// Item ids and texts of three subjects that nothing but their meaning keeps apart.
pub const ITEMS: [(&str, &str); 15] = [
    (
        "g1",
        "How to prune roses in early spring so that they flower again",
    ),
    ("g2", "Growing tomatoes from seed in a small greenhouse"),
    (
        "g3",
        "Compost turns kitchen waste into soil for the vegetable garden",
    ),
    (
        "g4",
        "Which shrubs and perennials thrive in a shady garden bed",
    ),
    (
        "g5",
        "Keeping slugs away from lettuce seedlings without poison",
    ),
    (
        "s1",
        "The telescope found water vapour on a planet around another star",
    ),
    ("s2", "How black holes bend the light of distant galaxies"),
    (
        "s3",
        "Astronauts repaired the space station in a walk of seven hours",
    ),
    (
        "s4",
        "A comet passes the sun and grows a tail of dust and gas",
    ),
    ("s5", "The moon's orbit explains the tides and the eclipses"),
    (
        "f1",
        "The central bank raised interest rates to curb inflation",
    ),
    ("f2", "Shares fell after the company warned of lower profit"),
    ("f3", "How pension funds invest in government bonds"),
    (
        "f4",
        "The merger of two insurers needs the regulator's consent",
    ),
    ("f5", "Currency traders bet on a weaker dollar this quarter"),
];

pub fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// A pipeline whose items are lines of a corpus, named as the upstream system names them.
pub fn films(target: Target) -> anyhow::Result<(Pipeline, String)> {
    let mut pipeline = Pipeline::new(target)?;
    let line = |(id, text): &(&str, &str)| json!({"_id": id, "text": text}).to_string() + "\n";
    let lines: String = ITEMS.iter().map(line).collect();
    let corpus = pipeline.write("items.jsonl", lines)?;
    let corpus = text(&corpus)?.to_owned();
    let template = format!("file://{corpus}#{{item}}");
    pipeline.set("MILLRACE_BEHAVIOR__ITEM_URI", &template);
    if target == Target::Real {
        pipeline.set("MILLRACE_STATE__VALKEY__URL", &millrace_servers::redis()?);
        // A server on a busy machine takes longer than an answer waits for it, and then the answer is a
        // fall-back, rightly.
        let patient = "5000";
        pipeline.set("MILLRACE_RECOMMENDER__LIMITS__PROFILE_TIMEOUT_MS", patient);
        for source in [
            "SEMANTIC_RECALL",
            "TEXT",
            "HYBRID",
            "ITEM_TO_ITEM",
            "TRENDING",
            "FRESH",
        ] {
            let key =
                format!("MILLRACE_RECOMMENDER__PIPELINES__DEFAULT__SOURCES__{source}__TIMEOUT_MS");
            pipeline.set(&key, patient);
        }
    }
    Ok((pipeline, corpus))
}

fn click(user: &str, item: &str) -> Value {
    json!({"user_id": user, "item": item, "kind": "click", "event_time_ms": now_ms()})
}

pub fn post(up: &Up, route: &str, body: &Value) -> anyhow::Result<(u16, Value)> {
    let (body, json) = (body.to_string(), "content-type: application/json");
    up.http(route, &["--data-binary", &body, "-H", json])
}

/// Items as the upstream system names them, by AIRec's interface.
fn items(up: &Up, user: &str, count: usize) -> anyhow::Result<Vec<String>> {
    let route =
        format!("/v2/openapi/instances/shop/actions/recommend?userId={user}&returnCount={count}");
    let (status, answer) = up.http(&route, &[])?;
    ensure!(status == 200 && answer["code"] == "SUCCESS", "{answer}");
    let result = answer["result"].as_array().context("result is a list")?;
    let items = result.iter().filter_map(|item| item["itemId"].as_str());
    Ok(items.map(str::to_owned).collect())
}

pub fn recommend(up: &Up, query: &str) -> anyhow::Result<Value> {
    let (status, answer) = up.http(&format!("/v1/instances/shop/recommend?{query}"), &[])?;
    ensure!(status == 200, "{status} {answer}");
    Ok(answer)
}

/// What a user without a profile is shown once all items are known.
pub fn loaded(up: &Up) -> anyhow::Result<Value> {
    eventually("all items are known", SOON, || {
        let answer = recommend(up, "user_id=nobody&count=15")?;
        let items = answer["items"].as_array().context("items")?;
        Ok((items.len() == ITEMS.len()).then_some(answer))
    })
}

fn a_click_changes_what_its_user_is_shown(target: Target) -> anyhow::Result<()> {
    let (pipeline, corpus) = films(target)?;
    let up = pipeline.up(&["--load", &corpus])?;
    // Of a user without a profile: what there is, and it says why.
    let nobody = loaded(&up)?;
    ensure!(nobody["fallback"]["reason"] == "unknown_user", "{nobody}");
    ensure!(nobody["instance"] == "shop", "{nobody}");

    let clicks = json!([click("ada", "g1"), click("ada", "g2"), click("ada", "g3")]);
    let (status, answer) = post(&up, "/v1/events", &clicks)?;
    ensure!(status == 202, "{status} {answer}");
    let answer = eventually("gardens come first", SOON, || {
        let answer = recommend(&up, "user_id=ada&count=2&explain=true")?;
        let of_gardens = |item: &&Value| item["uri"].as_str().is_some_and(|it| it.contains("#g"));
        let items = answer["items"].as_array().context("items")?;
        let gardens = items.iter().filter(of_gardens).count();
        Ok((gardens == 2 && answer.get("fallback").is_none()).then_some(answer))
    })?;
    let explanation = &answer["items"][0]["explanation"];
    ensure!(
        explanation["features"]
            .as_array()
            .is_some_and(|it| it.len() > 10)
            && explanation["ranker_score"].is_number(),
        "{explanation}"
    );
    // What was clicked is not shown again, and nobody else's answer is hers.
    eventually("all three clicks are counted", SOON, || {
        let shown = items(&up, "ada", 15)?;
        let clicked = ["g1", "g2", "g3"].map(str::to_owned);
        Ok(clicked
            .iter()
            .all(|item| !shown.contains(item))
            .then_some(()))
    })?;
    let other = recommend(&up, "user_id=bob")?;
    ensure!(other["fallback"]["reason"] == "unknown_user", "{other}");

    // The command finds the same.
    let told = pipeline.json(&["recommend", "ada", "--count", "2", "--explain"])?;
    ensure!(
        told["items"].as_array().is_some_and(|it| it.len() == 2),
        "{told}"
    );
    up.leave()
}

fn an_upload_is_recommended_to_those_it_suits(target: Target) -> anyhow::Result<()> {
    let (pipeline, corpus) = films(target)?;
    let up = pipeline.up(&["--load", &corpus])?;
    let clicks = json!([click("ada", "s1"), click("ada", "s2"), click("ada", "s3")]);
    ensure!(post(&up, "/v1/events", &clicks)?.0 == 202);
    eventually("the profile is there", SOON, || {
        let answer = recommend(&up, "user_id=ada")?;
        Ok(answer.get("fallback").is_none().then_some(()))
    })?;

    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let traceparent = format!("traceparent: 00-{trace}-00f067aa0ba902b7-01");
    let row = json!([{"cmd": "add", "fields": {
        "item_id": "new", "title": "Supernova", "content": "A star exploded in a nearby galaxy",
        "tags": "sky,night"
    }}]);
    let route = "/v2/openapi/instances/shop/tables/item/actions/bulk";
    let (status, answer) = up.http(
        route,
        &["--data-binary", &row.to_string(), "-H", &traceparent],
    )?;
    ensure!(status == 200 && answer["result"] == true, "{answer}");
    eventually("it is recommended", SOON, || {
        Ok(items(&up, "ada", 4)?
            .contains(&"new".to_owned())
            .then_some(()))
    })?;
    // One trace from the notice to the answer.
    let answer = recommend(
        &up,
        "user_id=ada&count=10&explain=true&filter=%7B%22tags%22:%5B%22sky%22%5D%7D",
    )?;
    let items = answer["items"].as_array().context("items")?;
    ensure!(
        items.len() == 1 && items[0]["title"] == "Supernova",
        "{answer}"
    );
    let signal = items[0]["explanation"]["signal_traceparent"].as_str();
    ensure!(signal.is_some_and(|it| it.contains(trace)), "{answer}");

    // Its document is told of like any other.
    let status = pipeline.json(&["status", &format!("{corpus}#new")])?;
    ensure!(status["outcome"] == "indexed", "{status}");

    let row = json!([{"cmd": "delete", "fields": {"item_id": "new"}}]);
    ensure!(post(&up, route, &row)?.0 == 200);
    eventually("it is gone", SOON, || {
        Ok((!self::items(&up, "ada", 15)?.contains(&"new".to_owned())).then_some(()))
    })?;
    up.leave()
}

on_both_targets!(
    a_click_changes_what_its_user_is_shown,
    an_upload_is_recommended_to_those_it_suits,
);

#[test]
fn what_cannot_be_answered_says_why() -> anyhow::Result<()> {
    let (pipeline, corpus) = films(Target::Embedded)?;
    let up = pipeline.up(&["--load", &corpus])?;
    loaded(&up)?;
    let long = "x".repeat(600);
    for (query, complaint) in [
        ("", "user_id"),
        ("user_id=", "`user_id` is empty"),
        (&format!("user_id={long}"), "600 bytes"),
        ("user_id=a%0Ab", "control character"),
        ("user_id=u&count=0", "`count` is 0"),
        ("user_id=u&count=1000000", "`count` is 1000000"),
        ("user_id=u&count=many", "count"),
        ("user_id=u&scene=attic", "no scene `attic`"),
        ("user_id=u&filter=%7B", "`filter` is no filter"),
        ("user_id=u&filter=%7B%22colour%22:1%7D", "colour"),
        ("user_id=u&cuont=3", "cuont"),
    ] {
        let (status, answer) = up.http(&format!("/v1/instances/shop/recommend?{query}"), &[])?;
        let message = answer["message"].as_str().unwrap_or_default();
        ensure!(
            status == 400 && message.contains(complaint),
            "{query}: {status} {answer}"
        );
    }
    for (query, complaint) in [
        ("", "`userId` or `imei`"),
        ("userId=u&returnCount=0", "`returnCount` is 0"),
        ("userId=u&sceneId=attic", "no scene `attic`"),
        ("userId=u&filter=%25", "not base64"),
        ("userId=u&recType=rr", "give them in `items`"),
        ("userId=u&recType=hot", "`recType` is \"hot\""),
        ("userId=u&items=a%0Ab:item", "control character"),
    ] {
        let route = format!("/v2/openapi/instances/shop/actions/recommend?{query}");
        let (status, answer) = up.http(&route, &[])?;
        let message = answer["message"].as_str().unwrap_or_default();
        ensure!(
            status == 400 && answer["code"] == "InvalidParameter" && message.contains(complaint),
            "{query}: {status} {answer}"
        );
    }
    // A megabyte in an address ends the request, and nothing else.
    let mut stream = TcpStream::connect(up.api().trim_start_matches("http://"))?;
    let user = "x".repeat(1 << 20);
    let request = format!("GET /v1/instances/shop/recommend?user_id={user} HTTP/1.1\r\n\r\n");
    // The connection may be closed before all of it is written, and then nothing is read either.
    let mut answer = String::new();
    if stream.write_all(request.as_bytes()).is_ok() && stream.read_to_string(&mut answer).is_ok() {
        ensure!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    ensure!(up.http("/v1/instances/shop/config", &[])?.0 == 200);

    for (route, body, status, error_type) in [
        (
            "rerank",
            json!({"user_id": "u", "candidates": []}),
            400,
            "invalid_request",
        ),
        (
            "rerank",
            json!({"user_id": "u", "candidates": [""]}),
            400,
            "invalid_request",
        ),
        ("rerank", json!({"user_id": "u"}), 400, "invalid_request"),
        (
            "deploy",
            json!({"model_version": "none"}),
            404,
            "unknown_model",
        ),
        (
            "deploy",
            json!({"model_version": "../x"}),
            400,
            "invalid_request",
        ),
        ("deploy", json!({}), 400, "invalid_request"),
        (
            "deploy",
            json!({"service_type": "search", "model_version": "x"}),
            400,
            "invalid_request",
        ),
        ("rollback", json!({}), 409, "nothing_before"),
    ] {
        let (found, answer) = post(&up, &format!("/v1/instances/shop/{route}"), &body)?;
        ensure!(
            found == status && answer["error_type"] == error_type,
            "{route} {body}: {found} {answer}"
        );
    }
    for route in ["recommend?user_id=u", "search?query=x", "config"] {
        let (status, _) = up.http(&format!("/v1/instances/a%2Fb/{route}"), &[])?;
        ensure!(status == 404, "{route}: {status}");
    }

    // What is like given items, of AIRec's related recommendations: without them, for anybody.
    let route = "/v2/openapi/instances/shop/actions/recommend?userId=u&recType=rr&returnCount=3";
    let (status, answer) = up.http(&format!("{route}&items=s1:item,s2:item"), &[])?;
    ensure!(status == 200 && answer["message"] == "success", "{answer}");
    let related = answer["result"].as_array().context("result")?;
    let of_space = related.iter().filter_map(|item| item["itemId"].as_str());
    let of_space: Vec<&str> = of_space
        .filter(|id| ["s3", "s4", "s5"].contains(id))
        .collect();
    ensure!(related.len() == 3 && !of_space.is_empty(), "{answer}");
    ensure!(
        related
            .iter()
            .all(|item| item["matchInfo"] == "item_to_item"),
        "{answer}"
    );
    let (status, answer) = up.http(&format!("{route}&items=none:item"), &[])?;
    let message = answer["message"].as_str().unwrap_or_default();
    ensure!(
        status == 200 && message.contains("unknown_items"),
        "{answer}"
    );

    // The caller's own candidates: all of them come back, the unknown last.
    let body = json!({"user_id": "u", "candidates": ["none", {"item_id": "g1", "score": 2.0}]});
    let (status, answer) = post(&up, "/v1/instances/shop/rerank", &body)?;
    ensure!(status == 200, "{answer}");
    let known: Vec<_> = answer["items"]
        .as_array()
        .context("items")?
        .iter()
        .map(|it| &it["known"])
        .collect();
    ensure!(known == [&json!(true), &json!(false)], "{answer}");
    ensure!(
        answer["items"][1]["uri"]
            .as_str()
            .is_some_and(|it| it.ends_with("#none")),
        "{answer}"
    );
    up.leave()
}

#[test]
fn weights_are_changed_for_good_by_those_who_may() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(Target::Embedded)?;
    pipeline.set("MILLRACE_API__ADMIN_TOKEN", "right");
    let up = pipeline.up(&[])?;
    let route = "/v1/instances/shop/config";
    let put = |up: &Up, body: &Value, token: &str| {
        let (body, token) = (body.to_string(), format!("authorization: Bearer {token}"));
        let json = "content-type: application/json";
        up.http(
            route,
            &[
                "-X",
                "PUT",
                "--data-binary",
                &body,
                "-H",
                json,
                "-H",
                &token,
            ],
        )
    };
    let weights = |bm25: f64, vector: f64| json!({"hybrid_ranking": {"bm25_weight": bm25, "vector_weight": vector}});
    ensure!(put(&up, &weights(0.6, 0.4), "wrong")?.0 == 401);
    for (bm25, vector) in [(0.6, 0.6), (-0.5, 1.5)] {
        let (status, answer) = put(&up, &weights(bm25, vector), "right")?;
        ensure!(status == 400, "{answer}");
    }
    let (status, answer) = put(&up, &weights(0.6, 0.4), "right")?;
    ensure!(status == 200, "{answer}");
    ensure!(answer["config"]["semantic_recall"] == true, "{answer}");
    let warnings = answer["warnings"].as_array().context("warnings")?;
    ensure!(warnings.len() == 1, "{answer}");
    for (kind, weight, told) in [("literal", 0.5, "literal"), ("short", 1.5, "1–3 words")] {
        let by_query = json!({"bm25_weight_by_query": {kind: weight}});
        let (status, answer) = put(&up, &by_query, "right")?;
        ensure!(
            status == 400 && answer.to_string().contains(told),
            "{answer}"
        );
    }
    let by_query = json!({"bm25_weight_by_query": {"short_literal": 0.9}});
    let (status, answer) = put(&up, &by_query, "right")?;
    ensure!(
        status == 200 && answer["config"]["hybrid_ranking"]["bm25_weight"] == 0.6,
        "{answer}"
    );
    up.leave()?;

    let up = pipeline.up(&[])?;
    let (_, config) = up.http(route, &[])?;
    ensure!(config["hybrid_ranking"]["bm25_weight"] == 0.6, "{config}");
    let (_, other) = up.http("/v1/instances/press/config", &[])?;
    ensure!(other["hybrid_ranking"]["bm25_weight"] == 0.3, "{other}");
    // A query with digits has the weights of its kind, others those of all, other instances theirs.
    for (instance, query, bm25_weight) in [
        ("shop", "part%2048151", 0.9),
        ("shop", "bridges", 0.6),
        ("press", "part%2048151", 0.3),
    ] {
        let search = format!("/v1/instances/{instance}/search?query={query}&count=3");
        let (status, found) = up.http(&search, &[])?;
        ensure!(
            status == 200 && found["hits"].is_array() && found["bm25_weight"] == json!(bm25_weight),
            "{found}"
        );
    }
    let (status, document) = up.http("/v1/openapi.json", &[])?;
    ensure!(
        status == 200 && document["openapi"] == "3.1.0",
        "{document}"
    );
    up.leave()?;
    // Whoever owns the data folder may, without the token.
    let error = pipeline.failure(&["deploy", "none"])?;
    ensure!(error.contains("no ranker model `none`"), "{error}");
    let told = pipeline.json(&["deploy"])?;
    ensure!(told["deployed"] == "weighted", "{told}");
    Ok(())
}
