//! Versions of OpenSearch, and what differs between them: all of it is here.
//!
//! 2.19 is the oldest that works: it brought reciprocal rank fusion (`score-ranker-processor`)
//! and `pagination_depth`. 3.x takes the same requests: what it removed (the nmslib engine) is
//! not used, the engine of a vector is always named (its default changed from nmslib to faiss),
//! and pipelines go with the request in both. 3.x scores text by Lucene's own BM25, without the
//! constant factor k1 + 1 = 2.2 that 2.x (and tantivy) keep: text scores are smaller there, their
//! order and every normalised score are the same.

use serde_json::{Value, json};

use crate::{Fusion, IndexError};

/// Refuses a server that is too old; gives its version.
pub(super) fn supported(root: &Value) -> Result<String, IndexError> {
    let number = root["version"]["number"].as_str().unwrap_or_default();
    let mut parts = number
        .split('.')
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if version < (2, 19) || root["version"]["distribution"] == "elasticsearch" {
        let message =
            format!("the server is version {number:?}; OpenSearch 2.19 or newer is needed");
        return Err(IndexError::InvalidRequest { message });
    }
    Ok(number.to_owned())
}

/// The search pipeline that fuses as `fusion` says, sent with the request: a named one would be
/// state in the cluster for every pair of weights.
pub(super) fn pipeline(fusion: Fusion) -> Value {
    let processor = match fusion {
        Fusion::MinMax {
            bm25_weight,
            vector_weight,
        } => json!({"normalization-processor": {
            "normalization": {"technique": "min_max"},
            "combination": {
                "technique": "arithmetic_mean",
                "parameters": {"weights": [bm25_weight, vector_weight]},
            },
        }}),
        Fusion::Rrf { rank_constant } => json!({"score-ranker-processor": {
            "combination": {"technique": "rrf", "rank_constant": rank_constant},
        }}),
    };
    json!({"phase_results_processors": [processor]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_are_refused_by_number() {
        let root =
            |number: &str| json!({"version": {"number": number, "distribution": "opensearch"}});
        assert_eq!(supported(&root("2.19.1")).expect("new enough"), "2.19.1");
        assert_eq!(supported(&root("3.1.0")).expect("new enough"), "3.1.0");
        let message = supported(&root("2.11.0")).expect_err("too old").to_string();
        assert!(
            message.contains("2.11.0") && message.contains("2.19"),
            "{message}"
        );
    }
}
