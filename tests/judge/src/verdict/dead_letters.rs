//! Every poison record is dead-lettered byte for byte under one origin, and nothing else is.

use std::collections::{BTreeMap, BTreeSet};

use millrace_kafka::DeadLetter;
use millrace_schemas::Origin;

use super::Findings;
use super::topics::{Noticed, Topics};
use crate::workload::delivery::now_ms;
use crate::workload::ledger::Promises;
use crate::workload::poison::{Poison, PoisonForm};

const COMPLETE: &str = "every poison record is dead-lettered";
const EXACT: &str = "a dead letter holds the record byte for byte, and why";
const ONLY: &str = "nothing but poison is dead-lettered";
const ONCE: &str = "a poison record is dead-lettered under one origin and stage";

pub(super) fn check(topics: &Topics, promises: &Promises, findings: &mut Findings) {
    let now_ms = now_ms();
    let mut by_origin: BTreeMap<&Origin, Vec<&DeadLetter>> = BTreeMap::new();
    let mut posted = Vec::new();
    for letter in &topics.dead_letters {
        if letter.stage == "notice" {
            posted.push(letter);
        } else {
            by_origin.entry(&letter.origin).or_default().push(letter);
        }
    }
    for (origin, noticed) in &topics.documents {
        let wanted = wanted(noticed, promises, now_ms);
        match (wanted, by_origin.remove(origin)) {
            (None, None) => {}
            (None, Some(letters)) => {
                findings.violation(ONLY, origin.to_string(), describe(letters[0]));
            }
            (Some((stage, error_type)), None) => findings.violation(
                COMPLETE,
                origin.to_string(),
                format!("there is no dead letter; {stage}/{error_type} was expected"),
            ),
            (Some(wanted), Some(letters)) => {
                check_letters(origin, noticed, wanted, &letters, findings);
            }
        }
    }
    for (origin, letters) in by_origin {
        findings.violation(ONLY, origin.to_string(), describe(letters[0]));
    }
    check_posted(&posted, promises, findings);
}

/// Stage and reason that a record must be dead-lettered with.
fn wanted(
    noticed: &Noticed,
    promises: &Promises,
    now_ms: i64,
) -> Option<(&'static str, &'static str)> {
    let key = noticed.record.key_text().unwrap_or_default();
    if let Some(poison) = promises.poison.get(&key) {
        return Some(poison.expected());
    }
    let from_tomorrow = noticed.notice.is_some() && noticed.version(now_ms).is_none();
    from_tomorrow.then_some(("decode", "version_in_future"))
}

fn check_letters(
    origin: &Origin,
    noticed: &Noticed,
    wanted: (&str, &str),
    letters: &[&DeadLetter],
    findings: &mut Findings,
) {
    let stages: BTreeSet<&str> = letters.iter().map(|letter| letter.stage.as_str()).collect();
    if stages.len() > 1 {
        findings.violation(ONCE, origin.to_string(), format!("stages {stages:?}"));
    }
    for letter in letters {
        let record = &noticed.record;
        let exact = letter.original.key == record.key
            && letter.original.value == record.value
            && letter.original.headers == record.headers
            && letter.original.timestamp_ms == record.timestamp_ms;
        let reason = (letter.stage.as_str(), letter.error_type.as_str()) == wanted;
        if !exact || !reason {
            findings.violation(
                EXACT,
                origin.to_string(),
                format!(
                    "bytes equal: {exact}; {}, wanted {}/{}",
                    describe(letter),
                    wanted.0,
                    wanted.1
                ),
            );
        }
    }
}

/// Dead letters of the endpoint: their origin is a hash of what was posted.
fn check_posted(letters: &[&DeadLetter], promises: &Promises, findings: &mut Findings) {
    let mut origins: BTreeMap<&str, BTreeSet<&Origin>> = BTreeMap::new();
    for letter in letters {
        let value = letter.original.value.as_deref().unwrap_or_default();
        let text = String::from_utf8_lossy(value);
        let found = promises
            .posted_poison
            .iter()
            .find(|(mark, _)| text.contains(mark.as_str()));
        let Some((mark, (poison, _))) = found else {
            findings.violation(ONLY, letter.origin.to_string(), describe(letter));
            continue;
        };
        origins.entry(mark).or_default().insert(&letter.origin);
        let kept = kept(poison);
        let exact = kept.is_none_or(|kept| kept.as_bytes() == value);
        let reason = (letter.stage.as_str(), letter.error_type.as_str()) == poison.expected();
        if !exact || !reason {
            findings.violation(
                EXACT,
                mark.as_str(),
                format!("bytes equal: {exact}; {}", describe(letter)),
            );
        }
    }
    for (mark, (_, acknowledged)) in &promises.posted_poison {
        match origins.get(mark.as_str()).map_or(0, BTreeSet::len) {
            0 if *acknowledged => findings.violation(
                COMPLETE,
                mark.as_str(),
                "it was answered, and there is no dead letter".to_owned(),
            ),
            0 | 1 => {}
            count => findings.violation(ONCE, mark.as_str(), format!("{count} origins")),
        }
    }
}

fn kept(poison: &Poison) -> Option<String> {
    match poison.form(0) {
        PoisonForm::Posted { kept, .. } => kept,
        PoisonForm::Raw { .. } | PoisonForm::Notice(_) | PoisonForm::Object { .. } => None,
    }
}

fn describe(letter: &DeadLetter) -> String {
    format!(
        "dead letter {}/{} of key {:?}: {}",
        letter.stage,
        letter.error_type,
        letter.original.key_text().unwrap_or_default(),
        letter.message
    )
}
