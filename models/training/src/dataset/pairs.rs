//! A file of pairs.

use std::collections::HashSet;
use std::path::Path;

use serde::Deserialize;

use super::{FileSum, Pair, Source, lines};
use crate::error::DatasetError;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    query: String,
    positive: String,
    #[serde(default)]
    time_ms: Option<i64>,
}

/// The pairs of a file, `{"query": …, "positive": …, "time_ms": …}` a line, plain or gzip; `time_ms`
/// may be missing. Hard negatives come from the passages of the file.
///
/// # Errors
/// [`DatasetError`] names the line that is no pair.
pub fn pairs_of_file(path: &Path) -> Result<Source, DatasetError> {
    let mut source = Source {
        kind: "pairs",
        files: vec![FileSum::of(path)?],
        ..Source::default()
    };
    let mut seen = HashSet::new();
    let expected = "an object with `query` and `positive`, maybe `time_ms`";
    lines::each(path, expected, |line, pair: Line| {
        let (query, positive) = (pair.query.trim(), pair.positive.trim());
        for (what, text) in [("query", query), ("positive", positive)] {
            if text.is_empty() {
                return Err(DatasetError::EmptyText {
                    path: path.to_owned(),
                    line,
                    what,
                });
            }
        }
        if seen.insert(positive.to_owned()) {
            source.passages.push(positive.to_owned());
        }
        source.pairs.push(Pair {
            query: query.to_owned(),
            positive: positive.to_owned(),
            time_ms: pair.time_ms,
        });
        Ok(())
    })?;
    if source.pairs.is_empty() {
        return Err(DatasetError::NoPairs {
            why: format!("`{}` has no line", path.display()),
        });
    }
    Ok(source)
}
