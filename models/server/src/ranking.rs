//! One request from a query and its texts to their order.

use std::sync::Arc;

use millrace_models::{FirstOfPair, TokenSequence};

use crate::error::ServeError;
use crate::prepare::{Reading, USUAL_BYTES_PER_TOKEN, visible};
use crate::reranker::Reranker;
use crate::service::{Computed, Deadline, Service};

/// What is to be ranked.
#[derive(Debug)]
pub(crate) struct RankAsk {
    pub query: String,
    pub texts: Vec<String>,
    /// `None`: as configured.
    pub truncate: Option<bool>,
    pub deadline: Deadline,
}

/// How well each text answers the query.
#[derive(Debug)]
pub(crate) struct Scored {
    pub reranker: Arc<Reranker>,
    /// The texts that were asked for, in their order, each with its logit: higher is better.
    pub texts: Vec<(String, f32)>,
    /// Tokens computed, those that the model adds included.
    pub tokens: usize,
}

impl Service {
    /// Takes a request through all stages.
    pub async fn rank(&self, ask: RankAsk) -> Result<Scored, ServeError> {
        let (found, limit) = (ask.texts.len(), self.config.max_inputs);
        if found == 0 || ask.query.is_empty() {
            return Err(ServeError::NothingToRank);
        }
        let reranker = self.reranker.get().ok_or(ServeError::NotAReranker)?;
        if found > limit {
            return Err(ServeError::TooManyInputs { found, limit });
        }
        let reading = Reading {
            truncate: ask.truncate.unwrap_or(self.config.auto_truncate),
            prompt: None,
            max_text_bytes: self.config.max_text_bytes,
        };
        let most = reranker.model().max_tokens();
        let guess = |text: &String| {
            let bytes = ask.query.len().saturating_add(text.len());
            (bytes / USUAL_BYTES_PER_TOKEN).clamp(1, most)
        };
        let guessed: Vec<usize> = ask.texts.iter().map(guess).collect();
        let asked = Arc::new((ask.query, ask.texts));
        let (reader, pairs) = (Arc::clone(reranker), Arc::clone(&asked));
        let read = move || {
            let (query, texts) = &*pairs;
            let query = first(&reader, query, &reading)?;
            let each = texts.iter().enumerate();
            each.map(|(index, text)| pair(&reader, &query, index, text, &reading))
                .collect()
        };
        let model = Arc::clone(reranker);
        let Computed { rows, tokens } = self.compute(model, &guessed, ask.deadline, read).await?;
        // A reader that was cut off could still hold them.
        let (_, texts) = Arc::unwrap_or_clone(asked);
        let scores = rows.into_iter().flatten();
        Ok(Scored {
            reranker: Arc::clone(reranker),
            texts: texts.into_iter().zip(scores).collect(),
            tokens,
        })
    }
}

/// The query, read once for all pairs.
fn first(reranker: &Reranker, query: &str, reading: &Reading) -> Result<FirstOfPair, ServeError> {
    let refused = |message| ServeError::Invalid {
        param: "query",
        message,
    };
    let tokenizer = reranker.model().tokenizer();
    let query = visible(tokenizer, query, reading).map_err(|found| {
        refused(format!(
            "the query has {found} bytes, {} are allowed; shorten it or let it be cut",
            reading.max_text_bytes
        ))
    })?;
    let read = tokenizer.first_of_pair(query);
    read.map_err(|source| refused(format!("the query can't be tokenized: {source}")))
}

fn pair(
    reranker: &Reranker,
    query: &FirstOfPair,
    index: usize,
    text: &str,
    reading: &Reading,
) -> Result<TokenSequence, ServeError> {
    if text.is_empty() {
        return Err(ServeError::NothingToRank);
    }
    let tokenizer = reranker.model().tokenizer();
    let text = visible(tokenizer, text, reading).map_err(|found| ServeError::TooManyBytes {
        index,
        found,
        limit: reading.max_text_bytes,
    })?;
    let pair = tokenizer.encode_pair(query, text, reading.truncate);
    let pair = pair.map_err(|source| ServeError::Tokenizer {
        index,
        reason: source.to_string(),
    })?;
    let (found, limit) = (pair.ids.len(), tokenizer.max_tokens());
    if found > limit {
        return Err(ServeError::TooManyTokens {
            index,
            found,
            limit,
        });
    }
    Ok(pair)
}
