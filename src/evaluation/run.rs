//! A ranked list a query, and its file in TREC's format.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, bail};

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

    /// The queries that have documents, or were searched for in vain.
    pub fn queries(&self) -> impl Iterator<Item = &String> {
        self.queries.keys()
    }

    /// Reads `query Q0 doc rank score tag` lines; ranks follow from the scores, as in `trec_eval`.
    ///
    /// # Errors
    /// The file can't be read, or a line is none; the line is named.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("can't read the run {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("in {}", path.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut queries: BTreeMap<&str, Vec<(String, f32)>> = BTreeMap::new();
        for (line, number) in text.lines().zip(1..) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (query, doc, score) = match fields[..] {
                [] => continue,
                [query, _, doc, _, score, _] => (query, doc, score),
                _ => bail!("line {number}: expected `query Q0 doc rank score tag`, got {line:?}"),
            };
            let score: f32 = score
                .parse()
                .ok()
                .filter(|score: &f32| score.is_finite())
                .with_context(|| format!("line {number}: {score:?} is no score"))?;
            let documents = queries.entry(query).or_default();
            documents.push((doc.to_owned(), score));
        }
        let mut run = Self::default();
        for (query, documents) in queries {
            run.insert(query, documents);
        }
        Ok(run)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_a_malformed_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs/a.trec");
        let mut run = Run::default();
        run.insert("q", vec![("a".into(), 0.25), ("b".into(), 0.5)]);
        run.write(&path, "tag").unwrap();
        let read = Run::read(&path).unwrap();
        assert_eq!(read.ranked("q"), run.ranked("q"));
        assert_eq!(read.queries().collect::<Vec<_>>(), ["q"]);
        for (text, says) in [
            ("q Q0 a 1 0.5 t\nq Q0 a 1 0.5\n", "line 2: expected"),
            ("q Q0 a 1 NaN t\n", "\"NaN\" is no score"),
        ] {
            let error = Run::parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
