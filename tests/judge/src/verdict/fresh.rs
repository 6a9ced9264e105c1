//! The pipeline still works, as its users see it: by searching.

use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};

use super::{Findings, LOOK_EVERY};
use crate::object_server::ObjectServer;
use crate::target::Target;
use crate::workload::delivery::{Delivery, object_uri};
use crate::workload::ledger::Ledger;
use crate::workload::{Notices, OBJECT_PREFIX, Obligation, mark};

const FOUND_LIMIT: Duration = Duration::from_secs(60);
/// Of all versions that are gone, this many of the newest are searched for.
const OLD_VERSIONS: usize = 60;
const FRESH: &str = "a fresh document passes from end to end";

/// Every file of the watched folder is found by its last content.
pub(super) async fn files_are_found(
    target: &Target,
    ledger: &Ledger,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let files = ledger.lock().files.clone();
    let search = Search::new(target)?;
    for (name, text) in files {
        if !search.until(mark(&text), true).await {
            let found = format!("not found by {:?} within {FOUND_LIMIT:?}", mark(&text));
            findings.violation("a file of the watched folder is found", name, found);
        }
    }
    Ok(())
}

/// A new object is found, and when it is removed it is found no more.
pub(super) async fn a_fresh_document_passes(
    target: &Target,
    delivery: &Delivery,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let key = format!("{OBJECT_PREFIX}fresh.txt");
    let text = "uniquefreshmark lantern".to_owned();
    let notices = Notices {
        late_ms: vec![0],
        skew_ms: 0,
        same_time: false,
    };
    let search = Search::new(target)?;
    let put = Obligation::PutObject {
        key: key.clone(),
        text,
        notices: notices.clone(),
    };
    hand_out(delivery, put).await?;
    if !search.until("uniquefreshmark", true).await {
        let found = format!("not found within {FOUND_LIMIT:?}");
        findings.violation(FRESH, object_uri(&key), found);
    }
    hand_out(
        delivery,
        Obligation::DeleteObject {
            key: key.clone(),
            notices,
        },
    )
    .await?;
    if !search.until("uniquefreshmark", false).await {
        let found = format!("still found {FOUND_LIMIT:?} after its removal");
        findings.violation(FRESH, object_uri(&key), found);
    }
    Ok(())
}

/// Neither removed documents nor versions that were overwritten are found.
pub(super) async fn no_old_version_is_found(
    target: &Target,
    store: &ObjectServer,
    ledger: &Ledger,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let old: Vec<String> = {
        let promises = ledger.lock();
        let current: Vec<String> = promises
            .objects
            .iter()
            .filter_map(|key| store.get(key))
            .map(|object| mark(&String::from_utf8_lossy(&object.bytes)).to_owned())
            .chain(promises.files.values().map(|text| mark(text).to_owned()))
            .collect();
        promises
            .marks
            .iter()
            .rev()
            .filter(|mark| !current.contains(mark))
            .take(OLD_VERSIONS)
            .cloned()
            .collect()
    };
    let search = Search::new(target)?;
    for mark in old {
        for uri in search.find(&mark).await? {
            // Which of a document's inline versions is the last, its notices decide: see the index.
            if !uri.contains('#') {
                let found = format!("it is found by {mark:?}, a word of an older version");
                findings.violation("no old version is found", uri, found);
            }
        }
    }
    Ok(())
}

async fn hand_out(delivery: &Delivery, obligation: Obligation) -> anyhow::Result<()> {
    tokio::time::timeout(FOUND_LIMIT, delivery.hand_out(obligation))
        .await
        .context("a notice was not acknowledged although there are no faults")?
}

struct Search {
    http: reqwest::Client,
    url: String,
}

impl Search {
    fn new(target: &Target) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(30))
            .build()?;
        Ok(Self {
            http,
            url: format!("{}/v1/search", target.search_api),
        })
    }

    /// URIs of the documents that hold the word.
    async fn find(&self, word: &str) -> anyhow::Result<Vec<String>> {
        let query = json!({ "query": word, "mode": "text", "k": 10 });
        let answer = self.http.post(&self.url).json(&query).send().await?;
        let answer: Value = answer.error_for_status()?.json().await?;
        let hits = answer["hits"].as_array().context("a search has hits")?;
        Ok(hits
            .iter()
            .filter_map(|hit| hit["uri"].as_str().map(str::to_owned))
            .collect())
    }

    /// Asks until the word is found, or is not.
    async fn until(&self, word: &str, found: bool) -> bool {
        let deadline = Instant::now() + FOUND_LIMIT;
        loop {
            // A search that fails says neither.
            if self
                .find(word)
                .await
                .is_ok_and(|uris| uris.is_empty() != found)
            {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
