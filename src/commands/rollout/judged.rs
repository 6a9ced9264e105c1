//! A judged set in BEIR's layout: what the retrieval gate measures by.

use std::path::Path;

use anyhow::{Context, bail};

use crate::evaluation::judgements::{read_qrels, read_queries};
use crate::rollout::measure::Judged;

/// Where BEIR keeps the judgements, the first that is there.
const QRELS: [&str; 3] = ["qrels/test.tsv", "qrels.tsv", "qrels/dev.tsv"];

/// Reads `queries.jsonl` and `qrels/test.tsv` (or `qrels.tsv`) of a folder; only judged queries are kept.
///
/// # Errors
/// A file is missing or malformed, or no judged query is among the queries.
pub fn read(folder: &Path) -> anyhow::Result<Judged> {
    let found = QRELS
        .iter()
        .map(|name| folder.join(name))
        .find(|path| path.is_file());
    let qrels = found.with_context(|| {
        format!(
            "no judgements in {}; expected {}",
            folder.display(),
            QRELS.join(" or ")
        )
    })?;
    let qrels = read_qrels(&qrels)?;
    let mut queries = read_queries(&folder.join("queries.jsonl"))?;
    queries.retain(|query, _| qrels.contains_key(query));
    if queries.is_empty() {
        bail!("no judged query is in {}/queries.jsonl", folder.display());
    }
    Ok(Judged { queries, qrels })
}
