//! What fuzzing asks of answers to bulk requests. Compiled for fuzzing and for the test that replays
//! the corpus.

use serde_json::Value;

use super::bulk::read;
use super::client::Answer;
use crate::ItemOutcome;

/// The statuses that an answer as a whole is given, by the input's first byte.
const STATUSES: [u16; 16] = [
    200, 200, 200, 200, 200, 201, 204, 302, 400, 401, 403, 404, 405, 429, 500, 503,
];

/// Status, number of items sent and body of any answer: as many outcomes as items, and none that
/// the answer does not carry. Above all, an item is dead-lettered only for what is said of *it*.
pub fn bulk_answer(input: &[u8]) {
    let &[status, items, ref body @ ..] = input else {
        return;
    };
    let status = STATUSES[usize::from(status) % STATUSES.len()];
    let items = usize::from(items % 16) + 1;
    let answer = Answer {
        status,
        body: body.to_vec(),
    };
    let outcomes = read(&answer, items);
    assert_eq!(outcomes.len(), items);
    // Where the answer is not read it may hold any bytes; this reader reads all of it.
    let told: Option<Value> = serde_json::from_str(&String::from_utf8_lossy(body)).ok();
    let operations = told
        .as_ref()
        .and_then(|told| told.get("items")?.as_array())
        .filter(|operations| status == 200 && operations.len() == items);
    for (at, outcome) in outcomes.iter().enumerate() {
        let item = operations.and_then(|operations| operations[at].get("index"));
        match outcome {
            ItemOutcome::Indexed | ItemOutcome::Stale => {
                assert!(item.is_some(), "{outcome:?} without an item's answer");
            }
            ItemOutcome::Reject(rejection) => {
                assert!(
                    (400..500).contains(&rejection.status),
                    "a status of {} is no refusal",
                    rejection.status
                );
                assert!(
                    !matches!(rejection.status, 401 | 403 | 429),
                    "nothing is wrong with the item"
                );
                let error = match item {
                    Some(item) => item.get("error"),
                    None => told.as_ref().and_then(|told| told.get("error")),
                };
                assert!(
                    item.is_some() || error.and_then(|error| error.get("type")).is_some(),
                    "the index did not refuse it: {rejection:?}"
                );
            }
            ItemOutcome::Retry(_) | ItemOutcome::Halt(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_of_bulk_answers() {
        millrace_fuzz::replay("bulk_answer", super::bulk_answer);
    }
}
