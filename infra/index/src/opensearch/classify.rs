//! What a bulk item's answer means: types before status, Halt before Retry before Reject.

use super::client::EngineError;
use crate::{ItemOutcome, Obstacle, Rejection};

/// The outcome of an item that was answered with `status` and `error`.
pub(super) fn classify(status: u16, error: Option<&EngineError>) -> ItemOutcome {
    let Some(error) = error else {
        return match status {
            200..300 | 404 => ItemOutcome::Indexed, // 404: `not_found` on a delete
            _ => by_status(status, &no_body(status)),
        };
    };
    match error.error_type.as_str() {
        "index_not_found_exception"
        | "index_closed_exception"
        | "cluster_block_exception"
        | "security_exception" => ItemOutcome::Halt(obstacle(status, error)),
        // The type says little; only the reason tells a missing write index from a bad item.
        "illegal_argument_exception" if names_no_write_index(error) => {
            ItemOutcome::Halt(obstacle(status, error))
        }
        "version_conflict_engine_exception" => ItemOutcome::Stale,
        "circuit_breaking_exception"
        | "opensearch_rejected_execution_exception"
        | "rejected_execution_exception" => ItemOutcome::Retry(obstacle(status, error)),
        "mapper_parsing_exception" if breaker_tripped(error) => {
            ItemOutcome::Retry(obstacle(status, error))
        }
        _ => by_status(status, error),
    }
}

fn by_status(status: u16, error: &EngineError) -> ItemOutcome {
    match status {
        401 | 403 => ItemOutcome::Halt(obstacle(status, error)),
        429 => ItemOutcome::Retry(obstacle(status, error)),
        409 => ItemOutcome::Stale,
        400..500 => ItemOutcome::Reject(Rejection {
            error_type: error.error_type.clone(),
            cause_type: error
                .caused_by
                .as_ref()
                .map(|cause| cause.error_type.clone()),
            reason: full_reason(error),
            status,
        }),
        // 5xx; and what no refusal of an item says: such an answer means something else than the item.
        _ => ItemOutcome::Retry(obstacle(status, error)),
    }
}

fn names_no_write_index(error: &EngineError) -> bool {
    let reason = error.reason.as_deref().unwrap_or_default();
    reason.contains("no write index is defined for alias") || reason.contains("is not an alias")
}

/// The k-NN plugin reports its tripped breaker as the cause of a parsing error, in a type that
/// says nothing.
fn breaker_tripped(error: &EngineError) -> bool {
    let mut cause = error.caused_by.as_deref();
    while let Some(error) = cause {
        let reason = error.reason.as_deref().unwrap_or_default();
        if error.error_type == "circuit_breaking_exception"
            || (error.error_type == "illegal_state_exception" && reason.contains("circuit breaker"))
        {
            return true;
        }
        cause = error.caused_by.as_deref();
    }
    false
}

fn obstacle(status: u16, error: &EngineError) -> Obstacle {
    Obstacle {
        error_type: error.error_type.clone(),
        reason: full_reason(error),
        status: Some(status),
    }
}

fn full_reason(error: &EngineError) -> String {
    let own = error.reason.clone().unwrap_or_default();
    match error
        .caused_by
        .as_deref()
        .and_then(|cause| cause.reason.as_deref())
    {
        Some(cause) => format!("{own}: {cause}"),
        None => own,
    }
}

fn no_body(status: u16) -> EngineError {
    EngineError {
        error_type: "http_status".to_owned(),
        reason: Some(format!("status {status} without an error")),
        caused_by: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opensearch::bulk::BulkItem;

    /// Bodies of bulk items: those of OpenSearch 2.19.1 as recorded, or (marked) built by its
    /// documentation where the server could not be brought to it.
    fn outcome(body: &str) -> ItemOutcome {
        let item: BulkItem = serde_json::from_str(body).expect("a bulk item");
        classify(item.status, item.error.as_ref())
    }

    fn rejected(body: &str) -> Rejection {
        match outcome(body) {
            ItemOutcome::Reject(rejection) => rejection,
            other => panic!("not rejected: {other:?}"),
        }
    }

    #[test]
    fn recorded_rejections_keep_type_cause_and_reason() {
        let dimension = rejected(
            r#"{"_index":"items-v1","_id":"bad1","status":400,"error":{"type":"mapper_parsing_exception","reason":"failed to parse field [emb] of type [knn_vector] in document with id 'bad1'. Preview of field's value: 'null'","caused_by":{"type":"illegal_argument_exception","reason":"Vector dimension mismatch. Expected: 384, Given: 100"}}}"#,
        );
        assert_eq!(dimension.error_type, "mapper_parsing_exception");
        assert_eq!(
            dimension.cause_type.as_deref(),
            Some("illegal_argument_exception")
        );
        assert!(dimension.reason.contains("Expected: 384, Given: 100"));
        assert_eq!(dimension.status, 400);

        let number = rejected(
            r#"{"_index":"items-v1","_id":"bad2","status":400,"error":{"type":"mapper_parsing_exception","reason":"failed to parse field [emb] of type [knn_vector] in document with id 'bad2'. Preview of field's value: 'x'","caused_by":{"type":"number_format_exception","reason":"For input string: \"x\""}}}"#,
        );
        assert_eq!(
            number.cause_type.as_deref(),
            Some("number_format_exception")
        );

        let strict = rejected(
            r#"{"_index":"items-v1","_id":"bad3","status":400,"error":{"type":"strict_dynamic_mapping_exception","reason":"mapping set to strict, dynamic introduction of [foo] within [_doc] is not allowed"}}"#,
        );
        assert_eq!(
            (strict.error_type.as_str(), strict.cause_type),
            ("strict_dynamic_mapping_exception", None)
        );

        rejected(
            r#"{"_index":"items-v1","_id":"bad4","status":400,"error":{"type":"mapper_parsing_exception","reason":"failed to parse field [ts] of type [date] in document with id 'bad4'. Preview of field's value: 'yesterday'","caused_by":{"type":"illegal_argument_exception","reason":"failed to parse date field [yesterday] with format [strict_date_optional_time||epoch_millis]","caused_by":{"type":"date_time_parse_exception","reason":"Failed to parse with all enclosed parsers"}}}}"#,
        );
        rejected(
            r#"{"_index":"items-v1","_id":"bad5","status":400,"error":{"type":"mapper_parsing_exception","reason":"failed to parse field [emb] of type [knn_vector] in document with id 'bad5'. Preview of field's value: 'null'","caused_by":{"type":"illegal_argument_exception","reason":"zero vector is not supported when space type is [cosinesimil]"}}}"#,
        );
    }

    #[test]
    fn recorded_conflicts_are_stale_and_successes_indexed() {
        for body in [
            r#"{"_index":"items-v1","_id":"ext1","status":409,"error":{"type":"version_conflict_engine_exception","reason":"[ext1]: version conflict, current version [7] is higher or equal to the one provided [6]","index":"items-v1","shard":"0","index_uuid":"G-_6-a9WS7CsezPgtbf0Fg"}}"#,
            r#"{"_index":"items-v1","_id":"ext1","status":409,"error":{"type":"version_conflict_engine_exception","reason":"[ext1]: version conflict, current version [8] is higher or equal to the one provided [8]"}}"#,
        ] {
            assert_eq!(outcome(body), ItemOutcome::Stale);
        }
        for body in [
            r#"{"_index":"t1","_id":"a","_version":5,"result":"created","_shards":{"total":1,"successful":1,"failed":0},"_seq_no":0,"_primary_term":1,"status":201}"#,
            r#"{"_index":"t1","_id":"a","_version":5,"result":"updated","status":200}"#,
            r#"{"_index":"t1","_id":"a","_version":9,"result":"not_found","status":404}"#,
        ] {
            assert_eq!(outcome(body), ItemOutcome::Indexed);
        }
    }

    #[test]
    fn what_a_person_must_repair_halts() {
        for body in [
            // Recorded: a missing alias under require_alias.
            r#"{"_index":"t1-nope","_id":"a","status":404,"error":{"type":"index_not_found_exception","reason":"no such index [t1-nope] and [require_alias] request flag is [true] and [t1-nope] is not an alias","index":"t1-nope","index_uuid":"_na_"}}"#,
            // Recorded: no permission.
            r#"{"_index":"x","_id":"a","status":403,"error":{"type":"security_exception","reason":"no permissions for [indices:data/write/index] and User [name=reader, backend_roles=[], requestedTenant=null]"}}"#,
            // By the documentation: a read-only index, the flood stage (as 429), no write index.
            r#"{"_index":"x","_id":"a","status":403,"error":{"type":"cluster_block_exception","reason":"index [x] blocked by: [FORBIDDEN/8/index write (api)];"}}"#,
            r#"{"_index":"x","_id":"a","status":429,"error":{"type":"cluster_block_exception","reason":"index [x] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark, index has read-only-allow-delete block];"}}"#,
            r#"{"_index":"x","_id":"a","status":400,"error":{"type":"illegal_argument_exception","reason":"no write index is defined for alias [x]. The write index may be explicitly disabled using is_write_index=false or the alias points to multiple indices without one being designated as a write index"}}"#,
        ] {
            assert!(matches!(outcome(body), ItemOutcome::Halt(_)), "{body}");
        }
        assert!(matches!(classify(401, None), ItemOutcome::Halt(_)));
    }

    #[test]
    fn what_may_pass_later_is_sent_again() {
        for body in [
            r#"{"_index":"x","_id":"a","status":429,"error":{"type":"opensearch_rejected_execution_exception","reason":"rejected execution of coordinating operation"}}"#,
            r#"{"_index":"x","_id":"a","status":503,"error":{"type":"unavailable_shards_exception","reason":"primary shard is not active"}}"#,
            r#"{"_index":"x","_id":"a","status":400,"error":{"type":"mapper_parsing_exception","reason":"failed to parse","caused_by":{"type":"illegal_state_exception","reason":"Parsing the created knn vector fields prior to indexing has failed as the circuit breaker triggered."}}}"#,
        ] {
            assert!(matches!(outcome(body), ItemOutcome::Retry(_)), "{body}");
        }
        for status in [429, 500, 502, 503, 504] {
            assert!(matches!(classify(status, None), ItemOutcome::Retry(_)));
        }
    }

    #[test]
    fn other_illegal_arguments_are_the_items_own_fault() {
        rejected(
            r#"{"_index":"x","_id":"a","status":400,"error":{"type":"illegal_argument_exception","reason":"Document contains at least one immense term in field=\"uri\""}}"#,
        );
    }
}
