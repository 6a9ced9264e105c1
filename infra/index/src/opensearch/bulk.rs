//! The bulk request: its body, and its answer with a type.

use opensearch::http::Method;
use serde::Deserialize;
use serde_json::json;

use super::classify::classify;
use super::client::{Answer, Client, EngineError};
use super::documents::document;
use crate::admission::refuse;
use crate::{BulkAction, IndexError, ItemOutcome, Obstacle};

/// Answer of one item.
#[derive(Debug, Deserialize)]
pub(super) struct BulkItem {
    pub(super) status: u16,
    pub(super) error: Option<EngineError>,
}

#[derive(Debug, Deserialize)]
struct BulkAnswer {
    items: Vec<Operation>,
}

#[derive(Debug, Deserialize)]
struct Operation {
    index: BulkItem,
}

/// One attempt through `alias`; an outcome an item.
pub(super) async fn bulk(
    client: &Client,
    alias: &str,
    dimension: usize,
    actions: Vec<BulkAction>,
) -> Result<Vec<ItemOutcome>, IndexError> {
    let mut outcomes: Vec<Option<ItemOutcome>> = Vec::with_capacity(actions.len());
    let mut body = Vec::new();
    for action in actions {
        let record = action.into_record();
        if let Some(rejection) = refuse(&record, dimension) {
            outcomes.push(Some(ItemOutcome::Reject(rejection)));
            continue;
        }
        let operation = json!({"index": {
            "_id": record.id,
            "version": record.version,
            "version_type": "external_gte",
        }});
        for line in [operation, document(&record)] {
            body.extend_from_slice(line.to_string().as_bytes());
            body.push(b'\n');
        }
        outcomes.push(None);
    }
    let sent = outcomes.iter().filter(|outcome| outcome.is_none()).count();
    let mut answers = if sent == 0 {
        Vec::new()
    } else {
        send(client, alias, body, sent).await?
    }
    .into_iter();
    // `send` gives as many outcomes as were sent.
    Ok(outcomes
        .into_iter()
        .filter_map(|outcome| outcome.or_else(|| answers.next()))
        .collect())
}

async fn send(
    client: &Client,
    alias: &str,
    body: Vec<u8>,
    items: usize,
) -> Result<Vec<ItemOutcome>, IndexError> {
    let bytes = body.len();
    // The alias must exist: otherwise a typing error would create an index with guessed fields.
    let query = [("require_alias", "true")];
    let path = format!("/{alias}/_bulk");
    let sent = client
        .send(
            Method::Post,
            &path,
            &query,
            Some(body),
            "application/x-ndjson",
        )
        .await;
    match sent {
        Ok(Answer { status: 413, .. }) => Err(IndexError::TooLarge { bytes }),
        Ok(answer) => Ok(read(&answer, items)),
        Err(error) if error.is_transient() => {
            let mut reason = error.to_string();
            if let Some(source) = std::error::Error::source(&error) {
                reason = format!("{reason}: {source}");
            }
            Ok(retry(items, "transport", reason, None))
        }
        Err(error) => Err(error),
    }
}

/// The outcomes in an answer; whatever the answer, as many as were sent.
pub(super) fn read(answer: &Answer, items: usize) -> Vec<ItemOutcome> {
    if answer.status != 200 {
        return whole_request(answer, items);
    }
    match serde_json::from_slice::<BulkAnswer>(&answer.body) {
        Ok(read) if read.items.len() == items => read
            .items
            .iter()
            .map(|operation| classify(operation.index.status, operation.index.error.as_ref()))
            .collect(),
        Ok(read) => {
            let reason = format!("{} answers for {items} items", read.items.len());
            retry(items, "malformed_response", reason, Some(200))
        }
        Err(error) => retry(items, "malformed_response", error.to_string(), Some(200)),
    }
}

fn whole_request(answer: &Answer, items: usize) -> Vec<ItemOutcome> {
    let error = answer.engine_error();
    let outcome = classify(answer.status, error.as_ref());
    let outcome = match outcome {
        ItemOutcome::Halt(_) | ItemOutcome::Retry(_) => outcome,
        // One item that the engine refuses alone is at fault. A refusal of many says nothing about each:
        // halting lets the sink probe them one by one. Without an error of the engine's a proxy
        // refused, and would refuse every document.
        ItemOutcome::Reject(_) if items == 1 && error.is_some() => outcome,
        ItemOutcome::Reject(rejection) => ItemOutcome::Halt(Obstacle {
            error_type: rejection.error_type,
            reason: rejection.reason,
            status: Some(rejection.status),
        }),
        // Not an answer that a bulk request has.
        ItemOutcome::Indexed | ItemOutcome::Stale => {
            return retry(
                items,
                "malformed_response",
                answer.text(),
                Some(answer.status),
            );
        }
    };
    vec![outcome; items]
}

fn retry(items: usize, error_type: &str, reason: String, status: Option<u16>) -> Vec<ItemOutcome> {
    let obstacle = Obstacle {
        error_type: error_type.to_owned(),
        reason,
        status,
    };
    vec![ItemOutcome::Retry(obstacle); items]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(status: u16, body: &str, items: usize) -> Vec<ItemOutcome> {
        let body = body.as_bytes().to_vec();
        read(&Answer { status, body }, items)
    }

    #[test]
    fn each_item_of_a_mixed_answer_has_its_own_outcome() {
        let body = r#"{"took":3,"errors":true,"items":[
            {"index":{"_id":"a","status":201,"result":"created"}},
            {"index":{"_id":"b","status":429,"error":{"type":"opensearch_rejected_execution_exception","reason":"full"}}},
            {"index":{"_id":"c","status":400,"error":{"type":"mapper_parsing_exception","reason":"bad"}}},
            {"index":{"_id":"d","status":409,"error":{"type":"version_conflict_engine_exception","reason":"newer"}}},
            {"index":{"_id":"e","status":503,"error":{"type":"unavailable_shards_exception","reason":"away"}}}]}"#;
        let outcomes = outcomes(200, body, 5);
        assert!(matches!(
            &outcomes[..],
            [
                ItemOutcome::Indexed,
                ItemOutcome::Retry(_),
                ItemOutcome::Reject(_),
                ItemOutcome::Stale,
                ItemOutcome::Retry(_)
            ]
        ));
    }

    #[test]
    fn an_answer_that_cannot_be_matched_to_its_items_is_sent_again_whole() {
        for body in [
            r#"{"items":[{"index":{"_id":"a","status":201}}]}"#,
            "<html>bad gateway</html>",
            "",
        ] {
            let outcomes = outcomes(200, body, 2);
            assert_eq!(outcomes.len(), 2);
            assert!(
                outcomes.iter().all(|o| matches!(o, ItemOutcome::Retry(_))),
                "{body}"
            );
        }
    }

    #[test]
    fn refusals_of_the_whole_request() {
        let halts = |status, body, items| {
            outcomes(status, body, items)
                .iter()
                .all(|o| matches!(o, ItemOutcome::Halt(_)))
        };
        assert!(halts(401, "Unauthorized", 3));
        let malformed = r#"{"error":{"type":"illegal_argument_exception","reason":"Malformed action/metadata line [1], expected one of [create, delete, index, update] but found [nope]"},"status":400}"#;
        assert!(halts(400, malformed, 3));
        assert!(matches!(
            &outcomes(400, malformed, 1)[..],
            [ItemOutcome::Reject(_)]
        ));
        for status in [400, 405, 431] {
            assert!(halts(status, "<html>a proxy's page</html>", 1), "{status}");
        }
        assert!(matches!(
            &outcomes(502, "bad gateway", 1)[..],
            [ItemOutcome::Retry(_)]
        ));
    }
}
