//! A ranked list a query, and its file in TREC's format.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::Context;

/// Documents and scores a query.
#[derive(Clone, Debug, Default)]
pub struct Run {
    queries: BTreeMap<String, Vec<(String, f32)>>,
}

impl Run {
    /// Sets the documents of a query. They are ordered as `trec_eval` orders
    /// them, by score and then by greater id; the query itself is dropped, as
    /// BEIR's own evaluation does.
    pub fn insert(&mut self, query: &str, mut documents: Vec<(String, f32)>) {
        documents.retain(|(doc, _)| doc != query);
        documents.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| b.0.cmp(&a.0)));
        self.queries.insert(query.to_owned(), documents);
    }

    /// The documents of a query, best first; empty where the run lacks it.
    pub fn ranked(&self, query: &str) -> &[(String, f32)] {
        self.queries.get(query).map_or(&[], Vec::as_slice)
    }

    /// Writes `query Q0 doc rank score tag` lines.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write(&self, path: &Path, tag: &str) -> anyhow::Result<()> {
        let mut text = String::new();
        for (query, documents) in &self.queries {
            for (rank, (doc, score)) in documents.iter().enumerate() {
                writeln!(text, "{query} Q0 {doc} {} {score} {tag}", rank + 1)?;
            }
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("can't make the folder {}", folder.display()))?;
        }
        std::fs::write(path, text).with_context(|| format!("can't write {}", path.display()))
    }
}
