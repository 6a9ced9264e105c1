//! `sweep` and `eval compare`: weights tried on judged queries and on logged answers, runs compared.

use std::path::PathBuf;
use std::process::Output;

use anyhow::{Context, ensure};
use millrace_schemas::{TrainingExample, TrainingItem};
use serde_json::{Value, json};

use crate::answers;
use crate::harness::{Pipeline, Target, text};

/// Parts that differ in a number alone: only their words tell them apart.
const PARTS: usize = 24;

struct Judged {
    corpus: PathBuf,
    queries: PathBuf,
    qrels: PathBuf,
}

impl Judged {
    fn write(pipeline: &Pipeline) -> anyhow::Result<Self> {
        let (mut corpus, mut queries) = (String::new(), String::new());
        let mut qrels = "query-id\tcorpus-id\tscore\n".to_owned();
        for part in 0..PARTS {
            let number = 48_151 + part;
            let passage = json!({"_id": format!("d{part}"), "title": "",
                "text": format!("Steel bolt with the part number {number}, for the frame of the bridge.")});
            let query =
                json!({"_id": format!("q{part:02}"), "text": format!("part number {number}")});
            corpus.push_str(&format!("{passage}\n"));
            queries.push_str(&format!("{query}\n"));
            qrels.push_str(&format!("q{part:02}\td{part}\t1\n"));
        }
        Ok(Self {
            corpus: pipeline.write("parts.jsonl", corpus)?,
            queries: pipeline.write("queries.jsonl", queries)?,
            qrels: pipeline.write("qrels.tsv", qrels)?,
        })
    }

    fn arguments(&self) -> anyhow::Result<[&str; 6]> {
        Ok([
            "--corpus",
            text(&self.corpus)?,
            "--queries",
            text(&self.queries)?,
            "--qrels",
            text(&self.qrels)?,
        ])
    }
}

fn number(value: &Value) -> anyhow::Result<f64> {
    value
        .as_f64()
        .with_context(|| format!("{value} is a number"))
}

fn same(a: &Value, b: &Value) -> anyhow::Result<()> {
    ensure!((number(a)? - number(b)?).abs() < 1e-9, "{a} is not {b}");
    Ok(())
}

#[test]
fn a_sweep_finds_what_eval_measures_recommends_it_and_is_quoted_when_weights_change()
-> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(Target::Embedded)?;
    pipeline.set(
        "MILLRACE_RECOMMENDER__INSTANCE__HYBRID_RANKING",
        "{bm25_weight=0.0,vector_weight=1.0}",
    );
    let judged = Judged::write(&pipeline)?;
    let judged = judged.arguments()?;
    let page = pipeline.path("sweep.html");
    let sweep = [
        &[
            "sweep",
            "--step",
            ".2",
            "--rrf",
            "--by-query",
            "-o",
            text(&page)?,
        ],
        &judged[..],
    ]
    .concat();
    let report = pipeline.json(&sweep)?;
    let rankings = report["rankings"].as_array().context("rankings")?;
    ensure!(
        rankings.len() == 7 && report["queries"] == PARTS,
        "{report:#}"
    );
    ensure!(
        report["in_force"] == 0.0 && rankings[0]["in_force"] == true,
        "{report:#}"
    );
    ensure!(
        rankings[0]["vs_in_force"].is_null() && rankings[6]["rrf"] == true,
        "{report:#}"
    );
    // Each weight is measured as `eval retrieval` measures it.
    for (weight, ranking) in [("0", &rankings[0]), ("0.6", &rankings[3])] {
        let evaluate = [&["eval", "retrieval", "--bm25-weight", weight], &judged[..]].concat();
        let evaluated = pipeline.json(&evaluate)?;
        for measure in ["ndcg_at_10", "recall_at_100", "mrr_at_10"] {
            same(&evaluated[measure], &ranking[measure])?;
        }
    }
    // Numbers are words: vectors alone mix them up, and the gain is sure.
    let recommended = &report["recommendation"];
    ensure!(
        recommended["change"] == true && number(&recommended["bm25_weight"])? > 0.0,
        "{report:#}"
    );
    let honest = &report["best"]["cross_fitted"];
    ensure!(
        number(&honest["ndcg_at_10"])? <= number(&report["best"]["ndcg_at_10"])? + 1e-9
            && number(&honest["vs_in_force"]["ci95"][0])? > 0.0,
        "{report:#}"
    );
    let by_query = &report["by_query"];
    ensure!(
        number(&by_query["oracle_ndcg_at_10"])? >= number(&report["best"]["ndcg_at_10"])? - 1e-9
            && by_query["queries"].as_array().map(Vec::len) == Some(PARTS),
        "{report:#}"
    );
    // All are of one kind: it gains nothing over one weight for all.
    let by_kind = &report["by_kind"];
    ensure!(
        by_kind["kinds"].as_array().map(Vec::len) == Some(1)
            && by_kind["kinds"][0]["kind"] == "short_literal"
            && by_kind["bm25_weight_by_query"]["short_literal"].is_number()
            && by_kind["vs_one_weight"]["diff"] == 0.0,
        "{by_kind:#}"
    );
    let html = std::fs::read_to_string(&page)?;
    ensure!(html.matches("<circle").count() == 6 && html.contains("recommended: change to"));
    let again = pipeline.output(&sweep)?;
    let refusal = String::from_utf8_lossy(&again.stderr);
    ensure!(
        again.status.code() == Some(2) && refusal.contains("--force replaces it"),
        "{refusal}"
    );

    let up = pipeline.up(&[])?;
    let body = json!({"hybrid_ranking": {"bm25_weight": 0.6, "vector_weight": 0.4}}).to_string();
    let (status, answer) = up.http(
        "/v1/instances/shop/config",
        &[
            "-X",
            "PUT",
            "-H",
            "content-type: application/json",
            "--data-binary",
            &body,
        ],
    )?;
    let warning = answer["warnings"][0].as_str().context("a warning")?;
    let measured = &rankings[3]["vs_in_force"];
    ensure!(
        status == 200
            && warning.contains(&format!("{PARTS} judged queries of file://"))
            && warning.contains(&format!("{:+.4} [", number(&measured["diff"])?))
            && warning.ends_with("against 0, the weight then in force, a gain"),
        "{answer}"
    );
    // The same through the running process, whose weights are now others.
    let later = pipeline.json(
        &[
            &[
                "sweep",
                "--bm25",
                "0.2..0.4",
                "--step",
                ".2",
                "--instance",
                "shop",
            ],
            &judged[..],
        ]
        .concat(),
    )?;
    let tried: Vec<&Value> = later["rankings"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|ranking| &ranking["bm25_weight"])
        .collect();
    ensure!(
        tried == [&json!(0.2), &json!(0.4), &json!(0.6)] && later["in_force"] == 0.6,
        "{later:#}"
    );
    same(
        &later["rankings"][2]["ndcg_at_10"],
        &rankings[3]["ndcg_at_10"],
    )?;
    up.leave()
}

#[test]
fn two_runs_are_compared_query_by_query() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    let judged = Judged::write(&pipeline)?;
    let evaluate = |mode: &str| {
        pipeline.json(
            &[
                &["eval", "retrieval", "--mode", mode],
                &judged.arguments()?[..],
            ]
            .concat(),
        )
    };
    let (words, vectors) = (evaluate("text")?, evaluate("vector")?);
    let file = |report: &Value, key: &str| -> anyhow::Result<String> {
        let path = report[key].as_str().context("a path")?;
        Ok(text(&pipeline.path(path))?.to_owned())
    };
    let (a, b) = (
        file(&vectors, "per_query_file")?,
        file(&words, "per_query_file")?,
    );
    let compared = pipeline.json(&["eval", "compare", &a, &b, "--movements", "3"])?;
    ensure!(compared["queries"] == PARTS, "{compared:#}");
    for measure in ["ndcg_at_10", "recall_at_100", "mrr_at_10"] {
        same(&compared[measure]["a"], &vectors[measure])?;
        same(&compared[measure]["b"], &words[measure])?;
        let diff = number(&words[measure])? - number(&vectors[measure])?;
        same(&compared[measure]["diff"], &json!(diff))?;
    }
    let ndcg = &compared["ndcg_at_10"];
    let counts = ["wins", "losses", "ties"].map(|count| ndcg[count].as_u64().unwrap_or(0));
    ensure!(
        counts.iter().sum::<u64>() == PARTS as u64 && counts[0] > counts[1],
        "{compared:#}"
    );
    ensure!(number(&ndcg["ci95"][0])? > 0.0, "{compared:#}");
    let moved = compared["movements"].as_array().context("movements")?;
    ensure!(
        moved.len() == 3 && number(&moved[0]["diff"])? >= number(&moved[2]["diff"])?,
        "{compared:#}"
    );
    // By the runs themselves, and by the report that was printed.
    let (run_a, run_b) = (file(&vectors, "run_file")?, file(&words, "run_file")?);
    let qrels = ["--qrels", text(&judged.qrels)?];
    let by_runs = [
        &["eval", "compare", &run_a, &run_b, "--movements", "3"],
        &qrels[..],
    ]
    .concat();
    let by_runs = pipeline.json(&by_runs)?;
    same(&by_runs["ndcg_at_10"]["diff"], &ndcg["diff"])?;
    let printed = pipeline.write("vectors.json", vectors.to_string())?;
    let by_report = pipeline.json(&["eval", "compare", text(&printed)?, &b, "--movements", "3"])?;
    ensure!(by_report["ndcg_at_10"] == *ndcg, "{by_report:#}");
    let told = pipeline.by_hand(&["eval", "compare", &a, &b]).output()?;
    let told = String::from_utf8_lossy(&told.stdout);
    ensure!(told.contains("B is better by nDCG@10"), "{told}");

    // A query less: which one is said.
    let lines = std::fs::read_to_string(&b)?;
    let fewer: Vec<&str> = lines.lines().filter(|line| !line.contains("q07")).collect();
    let fewer = pipeline.write("fewer.queries.jsonl", fewer.join("\n"))?;
    let error = pipeline.failure(&["eval", "compare", &a, text(&fewer)?])?;
    ensure!(
        error.contains("fewer.queries.jsonl lacks 1 queries") && error.contains("q07"),
        "{error}"
    );
    for (wrong, says) in [
        (["eval", "compare", &a, "missing.jsonl"], "missing.jsonl"),
        (["eval", "compare", &run_a, &run_b], "needs --qrels"),
        (["eval", "compare", &a, &a], "are the same file"),
    ] {
        let error = pipeline.failure(&wrong)?;
        ensure!(error.contains(says), "{error}");
    }
    let strange = pipeline.write("strange.tsv", "x 0 d1 1\n")?;
    let error = pipeline.failure(&[
        "eval",
        "compare",
        &run_a,
        &run_b,
        "--qrels",
        text(&strange)?,
    ])?;
    ensure!(error.contains("has no judged query"), "{error}");
    Ok(())
}

#[test]
fn what_can_not_be_swept_is_refused_before_anything_starts() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(Target::Embedded)?;
    let judged = Judged::write(&pipeline)?;
    for (arguments, says) in [
        (&["--bm25", "0..1.5"][..], "0 to 1"),
        (&["--bm25", "-0.5..1"], "0 to 1"),
        (&["--bm25", "0.7..0.2"], "0.7 is greater than 0.2"),
        (&["--bm25", "0.5"], "the first and the last weight"),
        (&["--step", "0"], "0.01 to 1"),
        (&["--step", "-1"], "0.01 to 1"),
        (&["--from-impressions"], "cannot be used with"),
        (&["--from", "7d"], "--from-impressions"),
        (&["--instance", "a b"], "not served here"),
    ] {
        let output =
            pipeline.output(&[&["sweep"], arguments, &judged.arguments()?[..]].concat())?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(2) && stderr.contains(says),
            "{arguments:?}: {} {stderr}",
            output.status
        );
    }
    for (arguments, says) in [
        (&["sweep"][..], "--from-impressions"),
        (&["sweep", "--corpus", "c.jsonl"], "--queries"),
        (
            &["sweep", "--from-impressions", "--from", "1h", "--to", "2h"],
            "no time is left",
        ),
    ] {
        let output = pipeline.output(arguments)?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(2) && stderr.contains(says),
            "{stderr}"
        );
    }
    let mut missing = judged.arguments()?;
    missing[5] = "missing.tsv";
    let error = pipeline.failure(&[&["sweep"], &missing[..]].concat())?;
    ensure!(error.contains("missing.tsv"), "{error}");
    ensure!(!pipeline.path("data").exists(), "something was started");
    // Judgements of other queries than those there are.
    let qrels = pipeline.write("others.tsv", "z1 0 d1 1\n")?;
    let mut others = judged.arguments()?;
    others[5] = text(&qrels)?;
    pipeline.set("MILLRACE_TELEMETRY__LOG", "error");
    let error = pipeline.failure(&[&["sweep"], &others[..]].concat())?;
    ensure!(
        error.contains("no judged query found a document"),
        "{error}"
    );
    Ok(())
}

/// An answer of which something was clicked, or nothing.
fn answer(
    n: usize,
    bm25_weight: f64,
    probability: f64,
    clicked: bool,
    at_ms: i64,
) -> TrainingExample {
    let item = TrainingItem {
        first_click_ms: clicked.then_some(at_ms + 1_000),
        ..answers::item("i", 1, i32::from(clicked))
    };
    TrainingExample {
        revision: 1 + i32::from(clicked),
        bm25_weight,
        vector_weight: 1.0 - bm25_weight,
        weight_probability: probability,
        ..answers::answer(
            &format!("r{n}"),
            &format!("u{}", n % 150),
            at_ms,
            vec![item],
        )
    }
}

#[test]
fn logged_answers_have_a_verdict_where_each_weight_was_drawn_often_enough() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(Target::Embedded)?;
    pipeline.set(
        "MILLRACE_RECOMMENDER__EXPLORATION__BM25_WEIGHTS",
        "[0.3, 0.7]",
    );
    let start_ms = jiff::Timestamp::now().as_millisecond() - 3_600_000;
    let told = (0..1_000).flat_map(|n| {
        // A half has 0.3, of which a fifth is clicked; a half has 0.7, of which three fifths are.
        let (weight, clicked) = match n % 2 {
            0 => (0.3, n % 10 == 0),
            _ => (f64::from(0.7_f32), n % 10 < 6),
        };
        let at_ms = start_ms + n as i64;
        let mut told = vec![answer(n, weight, 0.5, false, at_ms)];
        told.extend(clicked.then(|| answer(n, weight, 0.5, true, at_ms)));
        // One weight that is seldom drawn, and answers that were not drawn at all.
        told.extend((n < 20).then(|| answer(10_000 + n, 0.5, 0.01, true, at_ms)));
        told.extend((n < 30).then(|| answer(20_000 + n, 0.3, 1.0, true, at_ms)));
        told
    });
    pipeline.with_kafka(|kafka| answers::publish(&kafka, told))?;
    let page = pipeline.path("sweep.html");
    let report = pipeline.json(&["sweep", "--from-impressions", "-o", text(&page)?])?;
    let arms = report["arms"].as_array().context("arms")?;
    ensure!(
        arms.len() == 2 && report["counts"]["answers"] == 1_050,
        "{report:#}"
    );
    ensure!(
        report["counts"]["not_drawn"] == 30 && report["other_weights"] == 20,
        "{report:#}"
    );
    for (arm, clicked) in arms.iter().zip([0.2, 0.6]) {
        same(&arm["clicked"], &json!(clicked))?;
        same(&arm["effective_sample_size"], &json!(500))?;
        let ci95 = [number(&arm["ci95"][0])?, number(&arm["ci95"][1])?];
        ensure!(ci95[0] < clicked && clicked < ci95[1], "{report:#}");
    }
    let recommended = &report["recommendation"];
    ensure!(
        recommended["change"] == true && recommended["bm25_weight"] == 0.7,
        "{report:#}"
    );
    ensure!(std::fs::read_to_string(&page)?.contains("recommended: change to 0.7"));

    // The same, of weights of which one is seldom drawn and others never.
    let refused = |arguments: &[&str]| -> anyhow::Result<(Output, Value)> {
        let output = pipeline.output(&[&["sweep", "--from-impressions"], arguments].concat())?;
        let report = serde_json::from_slice(&output.stdout)?;
        ensure!(
            output.status.code() == Some(1),
            "{:?} {report}",
            output.status
        );
        Ok((output, report))
    };
    let (_, report) = refused(&["--bm25", "0.1..0.9", "--step", ".2"])?;
    ensure!(report["recommendation"].is_null(), "{report:#}");
    let reasons = json!([
        "0.1 was never drawn",
        "0.5 has an effective sample size of 20",
        "0.9 was never drawn"
    ]);
    ensure!(report["no_verdict"] == reasons, "{report:#}");
    same(&report["arms"][3]["clicked"], &json!(0.6))?;
    let (_, nothing) = refused(&["--to", "2001-01-01T00:00:00Z"])?;
    ensure!(nothing["counts"]["answers"] == 0, "{nothing:#}");
    let told = pipeline
        .by_hand(&["sweep", "--from-impressions", "--step", ".1"])
        .output()?;
    let told = String::from_utf8_lossy(&told.stdout);
    ensure!(
        told.contains("0.3 (in force)") && told.contains("no verdict: 0 was never drawn"),
        "{told}"
    );
    Ok(())
}
