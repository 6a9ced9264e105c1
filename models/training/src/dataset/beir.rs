//! A judged corpus in BEIR's layout.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;

use serde::Deserialize;

use super::{FileSum, Pair, Source, lines};
use crate::error::DatasetError;

/// Judgements over a corpus, by ids.
#[derive(Clone, Debug)]
pub struct Judged {
    /// `_id`, `title`, `text` a line, plain or gzip.
    pub corpus: PathBuf,
    /// Texts by id.
    pub queries: BTreeMap<String, String>,
    /// Query and passage that answers it.
    pub relevant: Vec<(String, String)>,
    /// The other files that these were read from, hashed before.
    pub files: Vec<FileSum>,
}

#[derive(Deserialize)]
struct Passage {
    #[serde(rename = "_id", alias = "id")]
    id: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    text: String,
}

/// The pairs of a judged corpus; hard negatives come from all of it. A passage is title and text, as
/// the index searches it and the vectorizer embeds it.
///
/// # Errors
/// [`DatasetError`] where the corpus can't be read or nothing of it is judged.
pub fn judged(judged: Judged) -> Result<Source, DatasetError> {
    let mut files = vec![FileSum::of(&judged.corpus)?];
    files.extend(judged.files);
    let mut by_id = HashMap::new();
    let mut seen = HashSet::new();
    let mut passages = Vec::new();
    let expected = "an object with `_id`, `title` and `text`";
    lines::each(&judged.corpus, expected, |_, passage: Passage| {
        let text = format!("{} {}", passage.title, passage.text);
        let text = text.trim().to_owned();
        if !text.is_empty() {
            if seen.insert(text.clone()) {
                passages.push(text.clone());
            }
            by_id.insert(passage.id, text);
        }
        Ok(())
    })?;
    let asked = judged.relevant.len();
    let pairs: Vec<Pair> = judged
        .relevant
        .iter()
        .filter_map(|(query, passage)| {
            let query = judged.queries.get(query)?.trim();
            (!query.is_empty()).then_some(())?;
            Some(Pair {
                query: query.to_owned(),
                positive: by_id.get(passage)?.clone(),
                time_ms: None,
            })
        })
        .collect();
    if pairs.is_empty() {
        return Err(DatasetError::NoPairs {
            why: format!(
                "of {asked} judgements none names a query and a passage that are there; are corpus, \
                 queries and judgements of one collection?"
            ),
        });
    }
    Ok(Source {
        kind: "beir",
        incomplete: asked - pairs.len(),
        pairs,
        passages,
        files,
    })
}
