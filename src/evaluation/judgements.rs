//! Queries and relevance judgements in BEIR's and TREC's layouts.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};
use serde::Deserialize;

/// Relevance by query and document; 0 is judged and not relevant.
pub type Judgements = BTreeMap<String, BTreeMap<String, u32>>;

/// Reads judgements: BEIR's `query-id corpus-id score` with a header, or
/// TREC's `query 0 doc score`.
///
/// # Errors
/// The file can't be read, or a line is neither; the line is named.
pub fn read_qrels(path: &Path) -> anyhow::Result<Judgements> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("can't read the judgements {}", path.display()))?;
    let judgements = parse_qrels(&text).with_context(|| format!("in {}", path.display()))?;
    if judgements.is_empty() {
        bail!("{} holds no judgements", path.display());
    }
    Ok(judgements)
}

pub(super) fn parse_qrels(text: &str) -> anyhow::Result<Judgements> {
    let mut judgements = Judgements::new();
    for (number, line) in text.lines().enumerate() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (query, doc, score) = match fields[..] {
            [] => continue,
            ["query-id", ..] => continue,
            [query, doc, score] | [query, _, doc, score] => (query, doc, score),
            _ => bail!(
                "line {}: expected `query doc score`, got {line:?}",
                number + 1
            ),
        };
        let score: i64 = score
            .parse()
            .with_context(|| format!("line {}: {score:?} is not a whole number", number + 1))?;
        // trec_eval counts negative judgements as not relevant.
        let gain = u32::try_from(score.max(0)).context("a judgement is beyond 4 billion")?;
        judgements
            .entry(query.to_owned())
            .or_default()
            .insert(doc.to_owned(), gain);
    }
    Ok(judgements)
}

/// Reads queries, one JSON object with `_id` and `text` a line.
///
/// # Errors
/// The file can't be read, or a line is not such an object; the line is named.
pub fn read_queries(path: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    #[derive(Deserialize)]
    struct Query {
        #[serde(alias = "id")]
        _id: String,
        text: String,
    }
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("can't read the queries {}", path.display()))?;
    if text.trim().is_empty() {
        bail!("{} holds no queries", path.display());
    }
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, line)| {
            let query: Query = serde_json::from_str(line)
                .with_context(|| format!("{}, line {}", path.display(), number + 1))?;
            Ok((query._id, query.text))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_are_read() {
        let beir = parse_qrels("query-id\tcorpus-id\tscore\n1\td1\t2\n").unwrap();
        let trec = parse_qrels("1 0 d1 2\n").unwrap();
        assert_eq!(beir, trec);
        assert_eq!(beir["1"]["d1"], 2);
    }

    #[test]
    fn a_malformed_line_is_named() {
        let error = parse_qrels("1 0 d1 2\n1 d2\n").unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }
}
