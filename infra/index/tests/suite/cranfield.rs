//! The Cranfield collection: 1,400 abstracts, 225 questions, relevance judged by people.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::num::NonZeroUsize;

use anyhow::Context;
use flate2::read::GzDecoder;
use millrace_index::{BulkAction, Fusion, ItemOutcome, Mode, Record, SearchIndex, SearchRequest};
use millrace_models::{Encoder, EncoderOptions, ModelStore};
use serde::Deserialize;

#[derive(Deserialize)]
pub struct Document {
    #[serde(rename = "_id")]
    pub id: String,
    #[serde(default)]
    pub title: String,
    pub text: String,
}

pub fn corpus() -> anyhow::Result<Vec<Document>> {
    let path = millrace_servers::shared_data("cranfield/corpus.jsonl.gz")?;
    read(GzDecoder::new(std::fs::File::open(path)?))
}

fn read(source: impl std::io::Read) -> anyhow::Result<Vec<Document>> {
    let lines = BufReader::new(source).lines();
    lines
        .map(|line| Ok(serde_json::from_str(&line?)?))
        .collect()
}

/// The collection with the vectors of all-MiniLM-L6-v2.
pub struct Collection {
    pub dimension: usize,
    corpus: Vec<(Document, Vec<f32>)>,
    queries: Vec<(Document, Vec<f32>)>,
    /// Query to document to gain.
    judged: HashMap<String, HashMap<String, f64>>,
}

pub fn encoded() -> anyhow::Result<Collection> {
    // Two adapters are compared, not models: the beginning of each text will do, and is faster.
    let options = EncoderOptions {
        max_tokens: NonZeroUsize::new(48),
        ..EncoderOptions::default()
    };
    let model = ModelStore::from_env()?.folder("all-MiniLM-L6-v2");
    let encoder = Encoder::load(&model, options)
        .context("this test needs the model: millrace model pull all-MiniLM-L6-v2")?;
    let encode = |documents: Vec<Document>| -> anyhow::Result<Vec<(Document, Vec<f32>)>> {
        let texts: Vec<&str> = documents
            .iter()
            .map(|document| document.text.as_str())
            .collect();
        let vectors = encoder.encode(&texts)?;
        Ok(documents.into_iter().zip(vectors).collect())
    };
    let queries = std::fs::File::open(millrace_servers::shared_data("cranfield/queries.jsonl")?)?;
    let mut judged: HashMap<String, HashMap<String, f64>> = HashMap::new();
    let judgements = millrace_servers::shared_data("cranfield/qrels/test.tsv")?;
    for line in std::fs::read_to_string(judgements)?.lines().skip(1) {
        let mut fields = line.split('\t');
        let (Some(query), Some(document), Some(gain)) =
            (fields.next(), fields.next(), fields.next())
        else {
            anyhow::bail!("a line of the judgements has not three fields: {line:?}");
        };
        judged
            .entry(query.into())
            .or_default()
            .insert(document.into(), gain.parse()?);
    }
    // Abstracts without text have nothing to embed.
    let corpus = corpus()?
        .into_iter()
        .filter(|document| !document.text.trim().is_empty());
    Ok(Collection {
        dimension: encoder.dimension(),
        corpus: encode(corpus.collect())?,
        queries: encode(read(queries)?)?,
        judged,
    })
}

impl Collection {
    pub async fn load(&self, index: &dyn SearchIndex) -> anyhow::Result<()> {
        let records = self.corpus.iter().map(|(document, vector)| Record {
            id: format!("{}#0", document.id),
            doc_id: document.id.clone(),
            chunk: Some(0),
            version: 1,
            uri: format!("cranfield#{}", document.id),
            title: Some(document.title.clone()),
            text: Some(document.text.clone()),
            vector: Some(vector.clone()),
            ..Record::default()
        });
        let actions: Vec<BulkAction> = records.map(BulkAction::upsert).collect();
        for batch in actions.chunks(500) {
            let outcomes = index.bulk(batch.to_vec()).await?;
            anyhow::ensure!(
                outcomes.iter().all(|o| *o == ItemOutcome::Indexed),
                "{outcomes:?}"
            );
        }
        Ok(index.refresh().await?)
    }

    pub async fn ndcg_of_all_modes(
        &self,
        index: &dyn SearchIndex,
    ) -> anyhow::Result<Vec<(&'static str, f64)>> {
        let mut means = Vec::new();
        for (name, mode, fusion) in [
            ("text", Mode::Text, Fusion::default()),
            ("vector", Mode::Vector, Fusion::default()),
            ("hybrid", Mode::Hybrid, Fusion::default()),
            ("rrf", Mode::Hybrid, Fusion::Rrf { rank_constant: 60 }),
        ] {
            let mut sum = 0.0;
            for (query, vector) in &self.queries {
                let request = SearchRequest {
                    text: Some(query.text.clone()),
                    vector: Some(vector.clone()),
                    mode,
                    fusion,
                    ..SearchRequest::default()
                };
                let found = index.search(&request).await?;
                let ids: Vec<&str> = found.iter().map(|hit| hit.doc_id.as_str()).collect();
                sum += self.ndcg_at_10(&query.id, &ids);
            }
            means.push((name, sum / self.queries.len() as f64));
        }
        Ok(means)
    }

    fn ndcg_at_10(&self, query: &str, ranked: &[&str]) -> f64 {
        let Some(gains) = self.judged.get(query) else {
            return 0.0;
        };
        let discounted = |gains: &mut dyn Iterator<Item = f64>| -> f64 {
            gains
                .take(10)
                .enumerate()
                .map(|(rank, gain)| gain / (rank as f64 + 2.0).log2())
                .sum()
        };
        let mut best: Vec<f64> = gains.values().copied().collect();
        best.sort_by(|a, b| b.total_cmp(a));
        let ideal = discounted(&mut best.into_iter());
        let got = ranked
            .iter()
            .map(|id| gains.get(*id).copied().unwrap_or(0.0));
        if ideal == 0.0 {
            0.0
        } else {
            discounted(&mut got.into_iter()) / ideal
        }
    }
}
