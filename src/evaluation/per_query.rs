//! The file of measures by query that `eval retrieval` writes beside its run: one JSON object a line.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::measures::{PerQuery, QueryMeasures};

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    query: String,
    ndcg_at_10: f64,
    recall_at_100: f64,
    mrr_at_10: f64,
}

/// Writes a line a query.
///
/// # Errors
/// The file can't be written.
pub fn write(path: &Path, measures: &PerQuery) -> anyhow::Result<()> {
    let mut text = String::new();
    for (query, measures) in measures {
        let line = Line {
            query: query.clone(),
            ndcg_at_10: measures.ndcg_at_10,
            recall_at_100: measures.recall_at_100,
            mrr_at_10: measures.mrr_at_10,
        };
        writeln!(text, "{}", serde_json::to_string(&line)?)?;
    }
    std::fs::write(path, text).with_context(|| format!("can't write {}", path.display()))
}

/// Reads what [`write()`] wrote.
///
/// # Errors
/// The file can't be read, holds nothing, a query twice, or a line that is none; the line is named.
pub fn read(path: &Path) -> anyhow::Result<PerQuery> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("can't read the measures {}", path.display()))?;
    parse(&text).with_context(|| {
        format!(
            "{} is no file of measures by query, as `millrace eval retrieval` writes it beside its run \
             (*.queries.jsonl); a run in TREC's format needs --qrels",
            path.display()
        )
    })
}

fn parse(text: &str) -> anyhow::Result<PerQuery> {
    let mut measures = PerQuery::new();
    let lines = text.lines().zip(1..);
    for (line, number) in lines.filter(|(line, _)| !line.trim().is_empty()) {
        let line: Line = serde_json::from_str(line).with_context(|| format!("line {number}"))?;
        let of_query = QueryMeasures {
            ndcg_at_10: line.ndcg_at_10,
            recall_at_100: line.recall_at_100,
            mrr_at_10: line.mrr_at_10,
        };
        let values = [line.ndcg_at_10, line.recall_at_100, line.mrr_at_10];
        if let Some(value) = values.iter().find(|value| !(0.0..=1.0).contains(*value)) {
            bail!("line {number}: a measure is {value}; measures lie in 0 to 1");
        }
        if measures.insert(line.query.clone(), of_query).is_some() {
            bail!("line {number}: query {:?} is there twice", line.query);
        }
    }
    if measures.is_empty() {
        bail!("it holds no queries");
    }
    Ok(measures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_to_the_last_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.queries.jsonl");
        let measures = QueryMeasures {
            ndcg_at_10: 0.1 + 0.2,
            recall_at_100: 1.0 / 3.0,
            mrr_at_10: 1.0,
        };
        let written = PerQuery::from([("q \"1\"".to_owned(), measures)]);
        write(&path, &written).unwrap();
        let read = read(&path).unwrap();
        let difference = read["q \"1\""].ndcg_at_10 - measures.ndcg_at_10;
        assert!(difference.abs() < 1e-15 && read.len() == 1, "{read:?}");
    }

    #[test]
    fn what_is_none_is_named() {
        let line = |query: &str, ndcg: &str| {
            format!(
                "{{\"query\":\"{query}\",\"ndcg_at_10\":{ndcg},\"recall_at_100\":1,\"mrr_at_10\":1}}\n"
            )
        };
        for (text, says) in [
            (String::new(), "holds no queries"),
            (line("a", "0.5") + &line("a", "0.5"), "\"a\" is there twice"),
            (line("a", "1.5"), "measures lie in 0 to 1"),
            (line("a", "0.5") + "q Q0 a 1 0.5 t\n", "line 2"),
        ] {
            let error = format!("{:#}", parse(&text).unwrap_err());
            assert!(error.contains(says), "{error}");
        }
    }
}
