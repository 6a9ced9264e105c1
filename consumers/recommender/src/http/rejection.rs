//! What is wrong with a query or a body, in the caller's words instead of a library's.
//!
//! Both are refused with 400, whether they can't be read or say what can't be; 413 and 415 are told apart.

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::http::StatusCode;

use crate::request::beginning;

/// Longest body of a request, in bytes.
pub const MAX_BODY_BYTES: usize = 2 << 20;
/// Longest explanation: it may quote what the caller sent.
const MAX_MESSAGE_CHARS: usize = 300;

/// Which parameter of a query is wrong.
#[must_use]
pub fn of_query(rejection: &QueryRejection) -> String {
    let text = rejection.body_text();
    let told = text.strip_prefix("Failed to deserialize query string: ");
    format!("the query: {}", in_plain_words(told.unwrap_or(&text)))
}

/// Status, stable name, and what is wrong with a body.
#[must_use]
pub fn of_body(rejection: &JsonRejection) -> (StatusCode, &'static str, String) {
    let text = rejection.body_text();
    let after = |prefix: &str| in_plain_words(text.strip_prefix(prefix).unwrap_or(&text));
    match rejection {
        JsonRejection::JsonDataError(_) => (
            StatusCode::BAD_REQUEST,
            "invalid_request",
            format!(
                "the body: {}",
                after("Failed to deserialize the JSON body into the target type: ")
            ),
        ),
        JsonRejection::JsonSyntaxError(_) => (
            StatusCode::BAD_REQUEST,
            "malformed_json",
            format!(
                "the body is broken JSON: {}",
                after("Failed to parse the request body as JSON: ")
            ),
        ),
        JsonRejection::MissingJsonContentType(_) => (
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "send the header `content-type: application/json`".to_owned(),
        ),
        other if other.status() == StatusCode::PAYLOAD_TOO_LARGE => (
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            format!("the body has more than {MAX_BODY_BYTES} bytes, the most that is read"),
        ),
        other => (other.status(), "body_unreadable", text),
    }
}

/// `field: invalid type: string "x", expected f64` with the field marked and types as JSON names them.
fn in_plain_words(told: &str) -> String {
    let mut text = match told.split_once(": ") {
        Some((path, rest)) if is_path(path) => format!("`{path}`: {rest}"),
        _ => told.to_owned(),
    };
    for (theirs, plain) in [
        ("expected f64", "expected a number"),
        ("expected f32", "expected a number"),
        ("expected usize", "expected a whole number of 0 or more"),
        ("expected u64", "expected a whole number of 0 or more"),
        ("expected i64", "expected a whole number"),
        ("expected a sequence", "expected an array"),
        ("invalid type: map", "invalid type: object"),
        ("invalid type: sequence", "invalid type: array"),
        ("a borrowed string", "a string"),
        (
            "data did not match any variant of untagged enum Candidate",
            "expected an item's id, or {\"item_id\":…,\"score\":…}",
        ),
    ] {
        text = text.replace(theirs, plain);
    }
    beginning(&text, MAX_MESSAGE_CHARS)
}

/// Whether this names a field, such as `hybrid_ranking.bm25_weight` or `candidates[3]`.
fn is_path(text: &str) -> bool {
    let allowed = |c: char| c.is_alphanumeric() || "_.[]".contains(c);
    text != "." && !text.is_empty() && text.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use axum::Json;
    use axum::extract::Query;
    use axum::http::Uri;
    use serde::de::DeserializeOwned;

    use super::super::control::{ConfigBody, Deploy};
    use super::super::own::{RecommendParameters, RerankBody};
    use super::*;

    fn body<T: DeserializeOwned>(text: &str) -> (u16, &'static str, String) {
        let refused = Json::<T>::from_bytes(text.as_bytes()).err().unwrap();
        let (status, error_type, message) = of_body(&refused);
        (status.as_u16(), error_type, message)
    }

    #[test]
    fn a_wrong_body_is_told_by_field_and_what_is_expected() {
        for (text, complaint) in [
            (
                "[]",
                "expected an object with `semantic_recall`, `hybrid_ranking` and `bm25_weight_by_query`",
            ),
            (
                r#"{"hybrid_ranking":{"bm25_weight":"0.3","vector_weight":0.7}}"#,
                "`hybrid_ranking.bm25_weight`: invalid type: string \"0.3\", expected a number",
            ),
            (
                r#"{"hybrid_ranking":5}"#,
                "`hybrid_ranking`: invalid type: integer `5`, expected an object with `bm25_weight`",
            ),
            (
                r#"{"semantic_recall":"yes"}"#,
                "`semantic_recall`: invalid type",
            ),
        ] {
            let (status, error_type, message) = body::<ConfigBody>(text);
            assert_eq!((status, error_type), (400, "invalid_request"), "{text}");
            assert!(message.contains(complaint), "{text}: {message}");
            assert!(!message.contains("struct"), "{message}");
        }
        let (status, error_type, message) = body::<ConfigBody>("{bad");
        assert_eq!((status, error_type), (400, "malformed_json"));
        assert!(message.ends_with("at line 1 column 2"), "{message}");
        let (_, _, message) = body::<RerankBody>(r#"{"user_id":"u","candidates":[5]}"#);
        assert!(message.contains("expected an item's id"), "{message}");
        // What the caller sent is not sent back whole.
        let long = format!("{{\"{}\":1}}", "x".repeat(100_000));
        let (_, _, message) = body::<Deploy>(&long);
        assert!(message.chars().count() < 400, "{message}");
    }

    #[test]
    fn a_wrong_query_is_told_by_parameter() {
        let query = |text: &str| {
            let uri: Uri = format!("/?{text}").parse().unwrap();
            of_query(
                &Query::<RecommendParameters>::try_from_uri(&uri)
                    .err()
                    .unwrap(),
            )
        };
        let told = query("user_id=u&explain=5");
        assert!(told.starts_with("the query: `explain`: "), "{told}");
        assert!(query("user_id=u&cuont=3").contains("unknown field `cuont`"));
        assert!(query("").contains("missing field `user_id`"));
    }
}
