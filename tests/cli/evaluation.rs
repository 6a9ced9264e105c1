//! `eval retrieval`: our measures are those of `ir_measures`.

use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::harness::{Pipeline, Target, text};

const IR_MEASURES: &str = r#"
import json, sys, ir_measures
from ir_measures import nDCG, R, RR
qrels = []
for line in open(sys.argv[1]):
    fields = line.split()
    if fields and fields[0] != "query-id":
        qrels.append(ir_measures.Qrel(fields[0], fields[1], int(fields[2])))
run = list(ir_measures.read_trec_run(sys.argv[2]))
measures = {"ndcg_at_10": nDCG@10, "recall_at_100": R@100, "mrr_at_10": RR@10}
values = ir_measures.calc_aggregate(measures.values(), qrels, run)
print(json.dumps({name: values[measure] for name, measure in measures.items()}))
"#;

#[test]
fn measures_agree_with_ir_measures_on_cranfield() -> anyhow::Result<()> {
    let python = std::env::var("MILLRACE_TEST_PYTHON")
        .context("MILLRACE_TEST_PYTHON is not set: run `make test`, which makes the venv")?;
    let data = millrace_servers::shared_data("cranfield")?;
    let (corpus, queries, qrels) = (
        data.join("corpus.jsonl.gz"),
        data.join("queries.jsonl"),
        data.join("qrels/test.tsv"),
    );
    let pipeline = Pipeline::new(Target::Embedded)?;
    let evaluate = |mode: &str| {
        pipeline.json(&[
            "eval",
            "retrieval",
            "--corpus",
            text(&corpus)?,
            "--queries",
            text(&queries)?,
            "--qrels",
            text(&qrels)?,
            "--mode",
            mode,
        ])
    };
    for mode in ["text", "hybrid"] {
        let report = evaluate(mode)?;
        let run_file = report["run_file"]
            .as_str()
            .context("the run file is named")?;
        let output = Command::new(&python)
            .args(["-c", IR_MEASURES, text(&qrels)?])
            .arg(pipeline.path(run_file))
            .output()?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let theirs: Value = serde_json::from_slice(&output.stdout)?;
        ensure!(report["queries"] == 225, "{report}");
        for measure in ["ndcg_at_10", "recall_at_100", "mrr_at_10"] {
            let difference =
                report[measure].as_f64().unwrap_or(2.0) - theirs[measure].as_f64().unwrap_or(-2.0);
            ensure!(
                difference.abs() < 1e-6,
                "{mode} {measure}: ours {report}, theirs {theirs}"
            );
        }
        ensure!(
            report["ndcg_at_10"].as_f64() > Some(0.3),
            "{mode}: {report}"
        );
    }
    Ok(())
}
