//! `/rerank` with a cross-encoder, in TEI's shapes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use millrace_model_server::ModelServerConfig;
use millrace_models::CrossEncoder;
use serde_json::{Value, json};

use crate::fixture::{Fixture, answer};

const QUERY: &str = "what moves the tides";
const TEXTS: [&str; 4] = [
    "The moon pulls the ocean twice a day.",
    "Offsets are stored behind what is finished.",
    "A recipe for bread with seeds.",
    "Waves break where the water is shallow.",
];

/// The indexes, in the order of the answer, with their scores.
fn ranks(answer: &Value) -> Vec<(usize, f32)> {
    let each = answer.as_array().unwrap().iter();
    let rank = |rank: &Value| {
        let index = usize::try_from(rank["index"].as_u64().unwrap()).unwrap();
        (index, rank["score"].as_f64().unwrap() as f32)
    };
    each.map(rank).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_come_back_best_first_with_the_models_scores() -> Result<()> {
    let fixture = Fixture::ranking(ModelServerConfig::default()).await?;
    let folder = fixture.root.path().join("pairs:v1");
    let wanted = CrossEncoder::load(&folder, None)?.score(QUERY, &TEXTS)?;
    let mut order: Vec<usize> = (0..TEXTS.len()).collect();
    order.sort_by(|a, b| wanted[*b].total_cmp(&wanted[*a]));

    let body = json!({ "query": QUERY, "texts": TEXTS, "raw_scores": true, "return_text": true });
    let response = fixture.post("/rerank", &body).send().await?;
    let version = response.headers()["millrace-model-version"].to_str()?;
    assert!(version.starts_with("pairs@"), "{version}");
    let tokens: usize = response.headers()["x-compute-tokens"].to_str()?.parse()?;
    assert!(tokens > 40, "{tokens}");
    let found: Value = response.json().await?;
    let (indexes, scores): (Vec<_>, Vec<_>) = ranks(&found).into_iter().unzip();
    assert_eq!(indexes, order);
    for (rank, (index, score)) in indexes.iter().zip(scores).enumerate() {
        assert!((score - wanted[*index]).abs() < 1e-5, "{score}");
        assert_eq!(found[rank]["text"], TEXTS[*index]);
    }

    let body = json!({ "query": QUERY, "texts": TEXTS });
    let (status, found) = answer(fixture.post("/rerank", &body)).await?;
    assert_eq!(status.as_u16(), 200, "{found}");
    assert!(found[0].get("text").is_none(), "{found}");
    for (index, score) in ranks(&found) {
        let sigmoid = 1.0 / (1.0 + (-wanted[index]).exp());
        assert!((score - sigmoid).abs() < 1e-5, "{score} and {sigmoid}");
    }
    // The encoder beside it still embeds, and counts for itself.
    let (status, _) = answer(fixture.post("/embed", &json!({ "inputs": "a" }))).await?;
    assert_eq!(status.as_u16(), 200);
    let rate = fixture.metric(r#"tokens_per_second{model="pairs",version="v1"}"#)?;
    assert!(rate.is_some_and(|rate| rate > 1.0), "{rate:?}");
    assert_eq!(fixture.metric("model_server_inputs_total")?, Some(9.0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_pair_is_said() -> Result<()> {
    let config = ModelServerConfig {
        max_inputs: 8,
        ..ModelServerConfig::default()
    };
    let fixture = Fixture::ranking(config).await?;
    let long = "word ".repeat(600);
    let huge = "w".repeat(2_000_000);
    let of = |query: &str, texts: &[&str]| json!({ "query": query, "texts": texts });
    let whole = |query: &str, text: &str| json!({ "query": query, "texts": ["a", text], "truncate": false });
    let cases = [
        (of("", &["a"]), 400, "Empty", "`texts` cannot be empty"),
        (of("a", &[]), 400, "Empty", "`texts` cannot be empty"),
        (of("a", &["b", ""]), 400, "Empty", "`texts` cannot be empty"),
        (
            of("a", &["b"; 9]),
            413,
            "Validation",
            "batch size 9 > maximum",
        ),
        (
            whole("a", &long),
            413,
            "Validation",
            "less than 512 tokens. Given: 604",
        ),
        (whole("a", &huge), 413, "Validation", "has 2000000 bytes"),
        (
            whole(&huge, "a"),
            413,
            "Validation",
            "the query has 2000000 bytes",
        ),
        (
            json!({ "texts": ["a"] }),
            422,
            "Validation",
            "missing field `query`",
        ),
        (
            json!({ "query": "a", "texts": "b" }),
            422,
            "Validation",
            "a sequence",
        ),
    ];
    for (body, status, kind, says) in cases {
        let (found, json) = answer(fixture.post("/rerank", &body)).await?;
        assert_eq!(found.as_u16(), status, "{says}: {json}");
        assert_eq!(json["error_type"], kind, "{json}");
        assert!(json["error"].as_str().unwrap().contains(says), "{json}");
    }
    // The same texts, cut; also a query that leaves a text no room of its own but half.
    let body = json!({ "query": long, "texts": [long, huge, "short"], "truncate": true });
    let (status, json) = answer(fixture.post("/rerank", &body)).await?;
    assert_eq!((status.as_u16(), ranks(&json).len()), (200, 3), "{json}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_can_be_ranked_in_time_is_refused_or_late_and_never_hangs() -> Result<()> {
    let config = ModelServerConfig {
        timeout_ms: 200,
        ..ModelServerConfig::default()
    };
    let fixture = Arc::new(Fixture::ranking(config).await?);
    let text = "the shore breathes with the ocean ".repeat(100);
    let body = Arc::new(json!({ "query": QUERY, "texts": vec![text; 16] }));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let (fixture, body) = (Arc::clone(&fixture), Arc::clone(&body));
        clients.spawn(async move {
            let asked = fixture.post("/rerank", &body).send();
            let response = tokio::time::timeout(Duration::from_secs(10), asked).await??;
            anyhow::Ok((response.status().as_u16(), response.headers().clone()))
        });
    }
    let mut refused = 0;
    while let Some(client) = clients.join_next().await {
        let (status, headers) = client??;
        assert!([200, 429, 503].contains(&status), "{status}");
        if status != 200 {
            assert!(headers.contains_key("retry-after"), "{headers:?}");
            refused += 1;
        }
    }
    assert!(
        refused > 0,
        "12 x 16 pairs of 512 tokens were ranked in 0.2 s"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sentence_encoder_does_not_rank() -> Result<()> {
    let fixture = Fixture::start(&["emb:v2"], ModelServerConfig::default()).await?;
    let server = Arc::clone(&fixture.server);
    let loaded = tokio::task::spawn_blocking(move || server.load_reranker("emb:v2")).await?;
    let refused = loaded.unwrap_err().to_string();
    assert!(
        refused.contains("BertForSequenceClassification"),
        "{refused}"
    );
    let server = Arc::clone(&fixture.server);
    let loaded = tokio::task::spawn_blocking(move || server.load_reranker("absent")).await?;
    assert!(loaded.unwrap_err().to_string().contains("absent"));
    Ok(())
}
