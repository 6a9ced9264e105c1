//! A model server's model in OpenSearch: `deploy opensearch`, `undeploy opensearch`, ml-commons' own words.

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::harness::{Pipeline, Target, Up};

const MODEL: &str = "all-MiniLM-L6-v2";

/// Whether OpenSearch finds by the meaning of a text, through the index's own pipeline.
fn neural_search(opensearch: &str, alias: &str, text: &str) -> anyhow::Result<Value> {
    let body =
        json!({"query": {"neural": {"vector": {"query_text": text, "k": 3}}}, "_source": ["uri"]});
    let output = std::process::Command::new("curl")
        .args([
            "-sS",
            "--noproxy",
            "*",
            "-H",
            "content-type:application/json",
        ])
        .args(["-d", &body.to_string()])
        .arg(format!("{opensearch}/{alias}/_search"))
        .output()?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn model_server(pipeline: &mut Pipeline) -> anyhow::Result<Up> {
    pipeline.set("MILLRACE_MODEL_SERVER__LISTEN", "127.0.0.1:0");
    let models = format!("[{MODEL:?}]");
    pipeline.set("MILLRACE_MODEL_SERVER__MODELS", &models);
    pipeline.serve(&["run", "model-server"])
}

fn post(up: &Up, route: &str, body: &Value) -> anyhow::Result<(u16, Value)> {
    let body = body.to_string();
    let arguments = [
        "-X",
        "POST",
        "-H",
        "content-type:application/json",
        "-d",
        &body,
    ];
    up.http(route, &arguments)
}

mod real {
    use super::*;

    #[test]
    fn a_deployed_model_answers_neural_queries_and_undeploy_leaves_nothing() -> anyhow::Result<()> {
        let opensearch = millrace_servers::opensearch()?;
        let mut pipeline = Pipeline::new(Target::Real)?;
        let server = model_server(&mut pipeline)?;
        let alias = pipeline.index_name().to_owned();
        // Names in OpenSearch are the cluster's, which other tests share.
        let name = format!("{MODEL}-{alias}");
        for (file, text) in [
            ("tides.txt", "The moon draws the tide twice a day.\n"),
            ("rope.txt", "Hemp is spun and laid in three strands.\n"),
        ] {
            let note = pipeline.write(file, text)?;
            pipeline.ingest(&note)?;
        }
        let deploy = [
            "deploy",
            "opensearch",
            "--as",
            &name,
            "--server",
            server.api(),
        ];
        let planned = pipeline.json(&[&deploy[..], &["--dry-run"]].concat())?;
        ensure!(planned["model_id"].is_null(), "{planned}");

        let deployed = pipeline.json(&deploy)?;
        ensure!(
            deployed["state"] == "DEPLOYED" && deployed["dimension"] == 384,
            "{deployed}"
        );
        ensure!(
            deployed["max_difference"].as_f64() < Some(1e-5),
            "{deployed}"
        );
        let found = neural_search(&opensearch, &alias, "why does the sea rise and fall?")?;
        let first = found["hits"]["hits"][0]["_source"]["uri"].as_str();
        ensure!(
            first.is_some_and(|uri| uri.ends_with("tides.txt")),
            "{found}"
        );
        // Searches of our own name their own pipeline.
        let hits = pipeline.search("why does the sea rise and fall?")?;
        ensure!(
            hits.first().is_some_and(|hit| hit.contains("tides")),
            "{hits:?}"
        );

        let again = pipeline.json(&deploy)?;
        ensure!(
            again["model_id"] == deployed["model_id"]
                && again["connector_id"] == deployed["connector_id"],
            "{again}\n{deployed}"
        );
        let audited = pipeline.json(&["peek", "audit", "-n", "10"])?;
        ensure!(
            audited.to_string().contains("deploy.opensearch"),
            "{audited}"
        );

        let undeploy = ["undeploy", "opensearch", "--model", &name];
        let kept = pipeline.json(&[&undeploy[..], &["--dry-run"]].concat())?;
        ensure!(kept["model_id"] == deployed["model_id"], "{kept}");
        let unasked = pipeline.failure(&undeploy)?;
        ensure!(unasked.contains("--yes"), "{unasked}");
        let removed = pipeline.json(&[&undeploy[..], &["--yes"]].concat())?;
        ensure!(removed["model_id"] == deployed["model_id"], "{removed}");
        let nothing = pipeline.json(&[&undeploy[..], &["--yes"]].concat())?;
        ensure!(
            nothing["model_id"].is_null() && nothing["connector_id"].is_null(),
            "{nothing}"
        );
        let ended = neural_search(&opensearch, &alias, "tides")?;
        ensure!(ended["error"].is_object(), "{ended}");
        let hits = pipeline.search("tides")?;
        ensure!(!hits.is_empty());
        server.leave()
    }

    #[test]
    fn a_deployment_is_asked_for_in_ml_commons_own_words() -> anyhow::Result<()> {
        let mut pipeline = Pipeline::new(Target::Real)?;
        let server = model_server(&mut pipeline)?;
        let urls = format!("[{:?}]", server.api());
        pipeline.set("MILLRACE_MODEL__REMOTE__URLS", &urls);
        let up = pipeline.up(&[])?;
        let route = "/_plugins/_ml/models/_deploy";
        let (status, answer) = post(&up, route, &json!({"model_id": MODEL}))?;
        ensure!(
            status == 200 && answer["status"] == "COMPLETED",
            "{status} {answer}"
        );
        let (status, again) = post(
            &up,
            &format!("/_plugins/_ml/models/{MODEL}/_deploy"),
            &json!({}),
        )?;
        ensure!(
            status == 200 && again["model_id"] == answer["model_id"],
            "{status} {again}"
        );
        let (status, answer) = post(&up, route, &json!({"model_id": "never-made"}))?;
        let message = answer["message"].as_str().context("a message")?;
        ensure!(
            status == 409 && message.contains("never-made"),
            "{status} {answer}"
        );
        let (status, _) = post(&up, route, &json!({"model": MODEL}))?;
        ensure!(status == 400, "{status}");
        up.leave()?;
        pipeline.json(&["undeploy", "opensearch", "--yes"])?;
        server.leave()
    }

    #[test]
    fn what_can_not_be_deployed_says_why() -> anyhow::Result<()> {
        let mut pipeline = Pipeline::new(Target::Real)?;
        let nobody = ["deploy", "opensearch", "--server", "http://127.0.0.1:9"];
        let refused = pipeline.failure(&nobody)?;
        ensure!(
            refused.contains("does not answer") && refused.contains("run model-server"),
            "{refused}"
        );
        let server = model_server(&mut pipeline)?;
        let deploy = ["deploy", "opensearch", "--server", server.api()];
        let refused = pipeline.failure(&[&deploy[..], &["--model", "never-made"]].concat())?;
        ensure!(refused.contains("never-made"), "{refused}");
        // No index yet: its searches can't be given a pipeline, and the model stays deployed.
        let name = format!("{MODEL}-{}", pipeline.index_name());
        let named = [&deploy[..], &["--as", &name]].concat();
        let refused = pipeline.failure(&named)?;
        ensure!(refused.contains(pipeline.index_name()), "{refused}");
        let alone = pipeline.json(&[&named[..], &["--no-pipeline"]].concat())?;
        ensure!(
            alone["pipeline"].is_null() && alone["state"] == "DEPLOYED",
            "{alone}"
        );
        pipeline.json(&["undeploy", "opensearch", "--model", &name, "--yes"])?;
        server.leave()
    }
}

#[test]
fn the_embedded_index_needs_no_deployment() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    let refused = pipeline.failure(&["deploy", "opensearch"])?;
    ensure!(
        refused.contains("embeds queries by itself") && refused.contains("--profile cluster"),
        "{refused}"
    );
    let up = pipeline.up(&[])?;
    let route = "/_plugins/_ml/models/_deploy";
    let (status, answer) = post(&up, route, &json!({"model_id": MODEL}))?;
    ensure!(
        status == 200 && answer["status"] == "COMPLETED",
        "{status} {answer}"
    );
    let (status, answer) = post(&up, route, &json!({"model_id": "another"}))?;
    ensure!(status == 400, "{status} {answer}");
    up.leave()
}
