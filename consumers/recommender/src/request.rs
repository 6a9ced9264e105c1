//! What a caller asks for, and what can be wrong with it.

use millrace_index::Filter;
use millrace_schemas::TraceParent;
use serde::{Deserialize, Serialize};

use crate::config::LimitsConfig;

/// Longest id of a request, user, scene or item, in bytes: as behavior has it.
pub const MAX_ID_BYTES: usize = 512;
/// Most items to recommend the likes of.
pub const MAX_LIKE: usize = 20;
/// Most characters of a caller's text that an error sends back.
pub(crate) const MAX_ECHOED_CHARS: usize = 100;

/// Items for a user, chosen among all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecommendRequest {
    /// Names the answer: clicks carry it back. Everything drawn by chance is drawn from it.
    pub request_id: String,
    /// Whose configuration holds; the empty id's is the default.
    pub instance: String,
    /// Whom it is for; a user that is not known gets a stated fall-back.
    pub user_id: String,
    /// Where it will be shown. Default: `recommender.default_scene`.
    pub scene: Option<String>,
    /// How many items. Default: the scene's.
    pub count: Option<usize>,
    /// Items to recommend the likes of, by their documents' ids: the list is then of what is near to
    /// them, in the user's order. Default: none, and the list is the user's own.
    pub like: Vec<String>,
    /// What may be in the answer at all, besides the scene's own rules.
    pub filter: Filter,
    /// Say of each item where it came from, its features and its scores.
    pub explain: bool,
    /// Somebody only looks: the answer is no impression, and nothing learns from it.
    pub preview: bool,
    /// The trace that the request belongs to.
    pub traceparent: Option<TraceParent>,
}

/// The caller's own candidates, in a better order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RerankRequest {
    /// As [`RecommendRequest::request_id`].
    pub request_id: String,
    /// As [`RecommendRequest::instance`].
    pub instance: String,
    /// Whom it is for.
    pub user_id: String,
    /// What is to be ranked; an item that is not known stays, after all others.
    pub candidates: Vec<ItemRef>,
    /// Where it will be shown: its pipeline says which ranker. Default: `recommender.default_scene`.
    pub scene: Option<String>,
    /// Say of each item its features and its scores.
    pub explain: bool,
    /// The trace that the request belongs to.
    pub traceparent: Option<TraceParent>,
}

/// One of the caller's candidates.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemRef {
    /// The item's id: the document's. An object's URI, or an id in an upstream system's words, is
    /// made into one by whoever takes the request.
    pub item_id: String,
    /// How good the caller thinks it is, the greater the better: a feature of the ranker, in the
    /// caller's unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f32>,
}

/// A request that has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// An id is missing.
    #[error("`{field}` is empty")]
    Empty {
        /// The field.
        field: &'static str,
    },
    /// An id is too long.
    #[error("`{field}` has {bytes} bytes; at most {MAX_ID_BYTES} are an id")]
    TooLong {
        /// The field.
        field: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// An id holds what no id holds, a line break for one.
    #[error("`{field}` holds the control character {}", .character.escape_unicode())]
    ControlCharacter {
        /// The field.
        field: &'static str,
        /// The first such character.
        character: char,
    },
    /// A number of items that no answer has.
    #[error("`count` is {count}; give 1 to {max} (recommender.limits.max_count)")]
    Count {
        /// What was asked for, which may be no number at all.
        count: String,
        /// The limit.
        max: usize,
    },
    /// More items to recommend the likes of than are compared with.
    #[error("`items` names {items} items; give at most {MAX_LIKE}")]
    Like {
        /// How many were given.
        items: usize,
    },
    /// The caller's own list is empty or too long.
    #[error(
        "there are {candidates} candidates; give 1 to {max} (recommender.limits.max_candidates)"
    )]
    Candidates {
        /// How many were given.
        candidates: usize,
        /// The limit.
        max: usize,
    },
    /// The caller's score of a candidate is NaN or infinite.
    #[error("the score of candidate `{item_id}` is {score}, not a finite number")]
    Score {
        /// The candidate.
        item_id: String,
        /// Its score, as text.
        score: String,
    },
    /// A scene that is not configured.
    #[error("there is no scene `{scene}`; configured (recommender.scenes): {known}")]
    UnknownScene {
        /// What was asked for.
        scene: String,
        /// The scenes that there are.
        known: String,
    },
}

impl RecommendRequest {
    /// Checks what does not need the scene.
    pub(crate) fn validate(&self, limits: &LimitsConfig) -> Result<(), RequestError> {
        check_id("request_id", &self.request_id)?;
        check_id("user_id", &self.user_id)?;
        if self.like.len() > MAX_LIKE {
            let items = self.like.len();
            return Err(RequestError::Like { items });
        }
        for item_id in &self.like {
            check_id("items", item_id)?;
        }
        match self.count {
            Some(count) if count == 0 || count > limits.max_count => Err(RequestError::Count {
                count: count.to_string(),
                max: limits.max_count,
            }),
            _ => Ok(()),
        }
    }
}

impl RerankRequest {
    /// Checks what does not need the scene.
    pub(crate) fn validate(&self, limits: &LimitsConfig) -> Result<(), RequestError> {
        check_id("request_id", &self.request_id)?;
        check_id("user_id", &self.user_id)?;
        let candidates = self.candidates.len();
        if candidates == 0 || candidates > limits.max_candidates {
            return Err(RequestError::Candidates {
                candidates,
                max: limits.max_candidates,
            });
        }
        for candidate in &self.candidates {
            check_id("item_id", &candidate.item_id)?;
            if let Some(score) = candidate.score.filter(|score| !score.is_finite()) {
                return Err(RequestError::Score {
                    item_id: candidate.item_id.clone(),
                    score: score.to_string(),
                });
            }
        }
        Ok(())
    }
}

/// How many items a caller asks for, as an address has it.
pub(crate) fn count(text: &str, limits: &LimitsConfig) -> Result<usize, RequestError> {
    text.parse().map_err(|_| RequestError::Count {
        count: format!("{:?}", beginning(text, MAX_ECHOED_CHARS)),
        max: limits.max_count,
    })
}

/// A text that a caller sent, short enough to be sent back to them.
pub(crate) fn beginning(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// The rule that producers hold ids of behavior to: others have no profile and no signal.
pub(crate) fn check_id(field: &'static str, id: &str) -> Result<(), RequestError> {
    if id.is_empty() {
        return Err(RequestError::Empty { field });
    }
    if id.len() > MAX_ID_BYTES {
        let bytes = id.len();
        return Err(RequestError::TooLong { field, bytes });
    }
    match id.chars().find(|character| character.is_control()) {
        Some(character) => Err(RequestError::ControlCharacter { field, character }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recommend(change: impl FnOnce(&mut RecommendRequest)) -> String {
        let mut request = RecommendRequest {
            request_id: "r".to_owned(),
            user_id: "u".to_owned(),
            ..RecommendRequest::default()
        };
        change(&mut request);
        match request.validate(&LimitsConfig::default()) {
            Ok(()) => "fine".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_is_wrong_with_a_request_is_named() {
        assert_eq!(recommend(|_| ()), "fine");
        assert_eq!(recommend(|r| r.count = Some(100)), "fine");
        assert_eq!(
            recommend(|r| r.count = Some(0)),
            "`count` is 0; give 1 to 200 (recommender.limits.max_count)"
        );
        assert_eq!(
            recommend(|r| r.count = Some(1_000_000)),
            "`count` is 1000000; give 1 to 200 (recommender.limits.max_count)"
        );
        let limits = LimitsConfig::default();
        assert_eq!(count("12", &limits), Ok(12));
        for text in ["-1", "x", "", "1.5"] {
            let told = count(text, &limits).unwrap_err().to_string();
            let expected = format!("`count` is {text:?}; give 1 to ");
            assert!(told.starts_with(&expected), "{told}");
        }
        let told = count(&"9".repeat(100_000), &limits)
            .unwrap_err()
            .to_string();
        assert!(told.chars().count() < 250, "{told}");
        assert_eq!(
            recommend(|r| r.user_id = "a\nb".to_owned()),
            "`user_id` holds the control character \\u{a}"
        );
        assert_eq!(recommend(|r| r.user_id.clear()), "`user_id` is empty");
        assert_eq!(
            recommend(|r| r.like = vec!["a".to_owned(); 21]),
            "`items` names 21 items; give at most 20"
        );
        assert_eq!(
            recommend(|r| r.like = vec!["a\nb".to_owned()]),
            "`items` holds the control character \\u{a}"
        );
        let long = recommend(|r| r.request_id = "x".repeat(1 << 20));
        assert!(long.starts_with("`request_id` has 1048576 bytes"), "{long}");
    }

    #[test]
    fn what_is_wrong_with_candidates_is_named() {
        let item = |item_id: &str, score| ItemRef {
            item_id: item_id.to_owned(),
            score,
        };
        let rerank = |candidates: Vec<ItemRef>| {
            let request = RerankRequest {
                request_id: "r".to_owned(),
                user_id: "u".to_owned(),
                candidates,
                ..RerankRequest::default()
            };
            match request.validate(&LimitsConfig::default()) {
                Ok(()) => "fine".to_owned(),
                Err(error) => error.to_string(),
            }
        };
        assert_eq!(rerank(vec![item("a", Some(1.5))]), "fine");
        assert!(rerank(Vec::new()).starts_with("there are 0 candidates"));
        assert!(rerank(vec![item("a", None); 1_000_000]).starts_with("there are 1000000"));
        assert_eq!(
            rerank(vec![item("a", Some(f32::NAN))]),
            "the score of candidate `a` is NaN, not a finite number"
        );
        assert!(rerank(vec![item("a\r\n", None)]).starts_with("`item_id` holds"));
    }
}
