//! What to search for, and what is found.

use serde::{Deserialize, Serialize};

use crate::IndexError;

/// Largest window: the engine's own limit on results and on `pagination_depth`.
pub const MAX_WINDOW: usize = 10_000;
/// Window of chunks each sub-query retrieves unless told otherwise.
pub const DEFAULT_WINDOW: usize = 100;
/// Rank constant of reciprocal rank fusion unless told otherwise.
pub const DEFAULT_RANK_CONSTANT: u32 = 60;
/// Weight of BM25 in a hybrid search unless told otherwise.
pub const DEFAULT_BM25_WEIGHT: f32 = 0.3;
/// Weight of the vectors in a hybrid search unless told otherwise.
pub const DEFAULT_VECTOR_WEIGHT: f32 = 0.7;
/// Documents to return unless told otherwise.
pub const DEFAULT_K: usize = 10;

/// Which sub-queries run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// BM25 alone; scores are the engine's.
    Text,
    /// Nearest vectors alone; scores are cosines.
    Vector,
    /// Both, fused.
    #[default]
    Hybrid,
}

/// How a hybrid search joins its two lists of scores.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fusion {
    /// Min-max normalisation over each retrieved window, then the weighted arithmetic mean, as
    /// OpenSearch's normalization processor has it. The weights must sum to 1.
    MinMax {
        /// Weight of BM25.
        bm25_weight: f32,
        /// Weight of the vectors.
        vector_weight: f32,
    },
    /// Reciprocal rank fusion: the sum of `1 / (rank_constant + rank)`, rank from 1.
    Rrf {
        /// The constant, at least 1.
        rank_constant: u32,
    },
}

impl Default for Fusion {
    fn default() -> Self {
        Self::MinMax {
            bm25_weight: DEFAULT_BM25_WEIGHT,
            vector_weight: DEFAULT_VECTOR_WEIGHT,
        }
    }
}

/// Restricts a search before anything is ranked; an empty filter lets all pass.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// The document carries each of these tags.
    pub tags: Vec<String>,
    /// The document is in at least one of these categories.
    pub categories: Vec<String>,
    /// The URI starts with this.
    pub uri_prefix: Option<String>,
    /// The language is this.
    pub language: Option<String>,
    /// The media type is this.
    pub media_type: Option<String>,
    /// Published at this time or later, milliseconds since the Unix epoch.
    pub published_from_ms: Option<i64>,
    /// Published before this time, milliseconds since the Unix epoch.
    pub published_before_ms: Option<i64>,
    /// The document is none of these.
    pub exclude_doc_ids: Vec<String>,
}

impl Filter {
    /// Whether it lets everything pass.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A search.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchRequest {
    /// Words; needed by the text and hybrid modes.
    pub text: Option<String>,
    /// Query embedding; needed by the vector and hybrid modes.
    pub vector: Option<Vec<f32>>,
    /// Which sub-queries run.
    pub mode: Mode,
    /// How a hybrid search joins them.
    pub fusion: Fusion,
    /// How many documents to return.
    pub k: usize,
    /// How many chunks each sub-query retrieves. Scores of a hybrid search are normalised over
    /// this window, so it is part of their meaning.
    pub window: usize,
    /// What may be found at all.
    pub filter: Filter,
}

impl Default for SearchRequest {
    fn default() -> Self {
        Self {
            text: None,
            vector: None,
            mode: Mode::default(),
            fusion: Fusion::default(),
            k: DEFAULT_K,
            window: DEFAULT_WINDOW,
            filter: Filter::default(),
        }
    }
}

impl SearchRequest {
    /// Checks everything that can be wrong with it against an index of `dimension`.
    ///
    /// # Errors
    /// [`IndexError::InvalidRequest`] says which field, and what it may be.
    pub fn validate(&self, dimension: usize) -> Result<(), IndexError> {
        let refuse = |message: String| Err(IndexError::InvalidRequest { message });
        if self.k == 0 || self.k > MAX_WINDOW {
            return refuse(format!("k is {}; give 1 to {MAX_WINDOW}", self.k));
        }
        if self.window < self.k || self.window > MAX_WINDOW {
            return refuse(format!(
                "the window is {}; give k ({}) to {MAX_WINDOW}",
                self.window, self.k
            ));
        }
        if self.mode != Mode::Vector && self.text.as_deref().is_none_or(|t| t.trim().is_empty()) {
            return refuse(format!("a {:?} search needs query text", self.mode).to_lowercase());
        }
        if self.mode != Mode::Text {
            match &self.vector {
                None => {
                    return refuse(
                        format!("a {:?} search needs a query vector", self.mode).to_lowercase(),
                    );
                }
                Some(vector) if vector.len() != dimension => {
                    return refuse(format!(
                        "the query vector has {} dimensions, the index {dimension}; \
                         search with the model that built the index",
                        vector.len()
                    ));
                }
                Some(vector) => {
                    if let Some(problem) = vector_problem(vector) {
                        return refuse(format!("the query vector {problem}"));
                    }
                }
            }
        }
        if self.mode == Mode::Hybrid {
            self.fusion.validate()?;
        }
        Ok(())
    }
}

impl Fusion {
    /// Checks weights and rank constant.
    ///
    /// # Errors
    /// [`IndexError::InvalidRequest`] with the values given.
    pub fn validate(&self) -> Result<(), IndexError> {
        let message = match *self {
            Self::MinMax {
                bm25_weight,
                vector_weight,
            } => {
                let allowed = 0.0..=1.0;
                let in_range = allowed.contains(&bm25_weight) && allowed.contains(&vector_weight);
                if in_range && (bm25_weight + vector_weight - 1.0).abs() <= 1e-4 {
                    return Ok(());
                }
                format!(
                    "weights must lie in 0 to 1 and sum to 1.0, \
                     but bm25_weight is {bm25_weight} and vector_weight {vector_weight}"
                )
            }
            Self::Rrf { rank_constant } => {
                // The upper limit is the engine's own.
                if (1..=10_000).contains(&rank_constant) {
                    return Ok(());
                }
                format!("rank_constant is {rank_constant}; give 1 to 10000")
            }
        };
        Err(IndexError::InvalidRequest { message })
    }
}

/// What makes a vector unusable under cosine similarity, if anything.
pub(crate) fn vector_problem(vector: &[f32]) -> Option<&'static str> {
    if vector.iter().any(|x| !x.is_finite()) {
        return Some("holds a value that is not finite");
    }
    // Squares of tiny values vanish in f32, and the engine would divide by zero.
    if vector.iter().map(|x| x * x).sum::<f32>() == 0.0 {
        return Some("has length zero, which has no direction to compare");
    }
    None
}

/// One document found, with its best chunk.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hit {
    /// Id of the document.
    pub doc_id: String,
    /// Where it lives.
    pub uri: String,
    /// Its title.
    pub title: Option<String>,
    /// What hits are ordered by: BM25, cosine or fused, by mode.
    pub score: f32,
    /// BM25 of the best chunk as the engine gives it; `None` in vector mode or where no word of
    /// the query occurs in it.
    pub text_score: Option<f32>,
    /// Cosine of the best chunk with the query; `None` in text mode.
    pub vector_score: Option<f32>,
    /// The best chunk's passage.
    pub text: String,
    /// The best chunk's number.
    pub chunk: u32,
    /// Version of the document.
    pub version: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hybrid() -> SearchRequest {
        SearchRequest {
            text: Some("wing flutter".into()),
            vector: Some(vec![0.6, 0.8]),
            ..SearchRequest::default()
        }
    }

    fn refused(request: &SearchRequest) -> String {
        request
            .validate(2)
            .expect_err("must be refused")
            .to_string()
    }

    #[test]
    fn a_sound_request_passes() {
        hybrid().validate(2).expect("sound");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |change: fn(&mut SearchRequest)| {
            let mut request = hybrid();
            change(&mut request);
            refused(&request)
        };
        assert!(wrong(|r| r.k = 0).contains("k is 0"));
        assert!(wrong(|r| r.window = 5).contains("window is 5"));
        assert!(wrong(|r| r.text = Some("  ".into())).contains("needs query text"));
        assert!(wrong(|r| r.vector = None).contains("needs a query vector"));
        assert!(wrong(|r| r.vector = Some(vec![1.0; 3])).contains("has 3 dimensions, the index 2"));
        assert!(wrong(|r| r.vector = Some(vec![0.0, 0.0])).contains("length zero"));
        assert!(wrong(|r| r.vector = Some(vec![f32::NAN, 0.0])).contains("not finite"));
        let weights = wrong(|r| {
            r.fusion = Fusion::MinMax {
                bm25_weight: 0.3,
                vector_weight: 0.8,
            };
        });
        assert!(weights.contains("0.3") && weights.contains("0.8"));
        assert!(wrong(|r| r.fusion = Fusion::Rrf { rank_constant: 0 }).contains("rank_constant"));
    }
}
