//! The last signal of each document tells of the version that the index holds.

use std::collections::{BTreeMap, HashMap};

use millrace_index::Record;
use millrace_schemas::DocId;

use super::Findings;
use super::documents::Expected;
use super::topics::Topics;

const MISSING: &str = "no signal is missing";
const LAST: &str = "no signal of a superseded version is last";

pub(super) fn check(
    topics: &Topics,
    expected: &BTreeMap<String, Expected>,
    stored: &HashMap<String, Record>,
    findings: &mut Findings,
) {
    for (uri, state) in expected {
        let doc_id = DocId::from_uri(uri).to_string();
        let (header, last) = (stored.get(uri), topics.last_signals.get(&doc_id));
        match (header, last) {
            (None, None) => {}
            (None, Some(signal)) => findings.violation(
                LAST,
                uri,
                format!(
                    "signal of version {}, and no header",
                    signal.document_version
                ),
            ),
            (Some(header), None) => findings.violation(
                MISSING,
                uri,
                format!("the index has version {}", header.version),
            ),
            (Some(header), Some(signal)) => {
                let same = signal.document_version == header.version
                    && signal.deleted == header.deleted
                    && signal.vector.is_empty() == header.deleted;
                if same {
                    continue;
                }
                let found = format!(
                    "the last signal is of version {} (deleted: {}, by {}), the index has {} (deleted: {})",
                    signal.document_version,
                    signal.deleted,
                    signal.origin,
                    header.version,
                    header.deleted
                );
                if state.is_inline() {
                    findings.violation_unless_zombie(LAST, uri, found);
                } else {
                    findings.violation(LAST, uri, found);
                }
            }
        }
    }
    for (item, signal) in &topics.last_signals {
        if !expected.contains_key(&signal.uri) {
            let found = format!("item {item}, version {}", signal.document_version);
            findings.violation("no signal tells of what is not indexed", &signal.uri, found);
        }
    }
}
