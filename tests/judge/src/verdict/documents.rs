//! The index holds each document as it is, and nothing else.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use millrace_index::{
    EmbeddedIndex, IndexSpec, OpenSearchConfig, OpenSearchIndex, Record, SearchIndex,
};
use millrace_schemas::{DocId, DocumentEvent};

use super::Findings;
use super::topics::Topics;
use crate::object_server::ObjectServer;
use crate::target::{IndexPlace, Target};
use crate::workload::delivery::{now_ms, object_uri};
use crate::workload::ledger::Promises;

const PAGE: usize = 500;
/// No document of the workload has more chunks.
const MAX_CHUNKS: u32 = 16;
const LEFT_OVER: &str = "no chunk is left beyond its document's count";

/// What a document must be.
pub struct Expected {
    /// Its text; none where it must not be there.
    pub text: Option<String>,
    /// Its tag, where the judge knows what it must be.
    pub etag: Option<String>,
    /// Its version, where nothing but the notices decides.
    pub version: Option<i64>,
}

impl Expected {
    /// Whether its content came with its notices, so that no store holds it.
    pub(super) fn is_inline(&self) -> bool {
        self.version.is_some()
    }
}

/// What every document must be, by URI.
pub(super) fn expected(
    topics: &Topics,
    promises: &Promises,
    store: &ObjectServer,
    target: &Target,
) -> BTreeMap<String, Expected> {
    let mut expected = BTreeMap::new();
    for key in &promises.objects {
        let uri = object_uri(key);
        let object = store.get(key);
        let state = Expected {
            text: object
                .as_ref()
                .map(|object| String::from_utf8_lossy(&object.bytes).into_owned()),
            etag: object.map(|object| object.etag),
            version: None,
        };
        expected.insert(uri, state);
    }
    for (name, text) in &promises.files {
        let uri = format!("file://{}", target.watched.join(name).display());
        let state = Expected {
            text: Some(text.clone()),
            etag: None,
            version: None,
        };
        expected.insert(uri, state);
    }
    // The greatest version that is on the topic wins, acknowledged or not.
    let now_ms = now_ms();
    let mut newest: BTreeMap<&str, (i64, Option<String>)> = BTreeMap::new();
    for noticed in topics.documents.values() {
        let Some(notice) = &noticed.notice else {
            continue;
        };
        let (Some(uri), Some(version)) =
            (promises.inline.get(&notice.uri), noticed.version(now_ms))
        else {
            continue;
        };
        let content = notice
            .content
            .as_deref()
            .filter(|_| notice.event == DocumentEvent::Created);
        let text = content.map(|content| String::from_utf8_lossy(content).into_owned());
        if newest
            .get(uri.as_str())
            .is_none_or(|(newest, _)| version > *newest)
        {
            newest.insert(uri, (version, text));
        }
    }
    for (uri, (version, text)) in newest {
        let state = Expected {
            text,
            etag: None,
            version: Some(version),
        };
        expected.insert(uri.to_owned(), state);
    }
    expected
}

/// Compares each document with its records. Returns the headers by URI, tombstones included.
pub(super) async fn check(
    target: &Target,
    spec: &IndexSpec,
    expected: &BTreeMap<String, Expected>,
    findings: &mut Findings,
) -> anyhow::Result<HashMap<String, Record>> {
    let index = open(&target.index).context("the index can't be opened")?;
    index
        .ensure(spec)
        .await
        .context("the index can't be read")?;
    index.refresh().await?;
    let mut headers = HashMap::new();
    let uris: Vec<&String> = expected.keys().collect();
    for page in uris.chunks(PAGE) {
        let ids: Vec<String> = page
            .iter()
            .map(|uri| DocId::from_uri(uri).to_string())
            .collect();
        for (uri, header) in page.iter().zip(index.get(&ids).await?) {
            if let Some(header) = header {
                headers.insert((*uri).clone(), header);
            }
        }
    }
    let mut chunks = 0;
    for (uri, expected) in expected {
        let header = headers.get(uri);
        let live = header.filter(|header| !header.deleted);
        let count = live.and_then(|header| header.chunk_count).unwrap_or(0);
        check_left_over(index.as_ref(), uri, count, findings).await?;
        chunks += check_document(index.as_ref(), uri, expected, header, findings).await?;
    }
    check_rest(index.as_ref(), expected, chunks, findings).await?;
    Ok(headers)
}

fn open(place: &IndexPlace) -> anyhow::Result<Arc<dyn SearchIndex>> {
    Ok(match place {
        IndexPlace::Folder(folder) => Arc::new(EmbeddedIndex::open(folder)?),
        IndexPlace::OpenSearch(address) => {
            let config = OpenSearchConfig::new(vec![address.clone()]);
            Arc::new(OpenSearchIndex::new(config)?)
        }
    })
}

/// Compares one document; how many live chunks its header claims.
async fn check_document(
    index: &dyn SearchIndex,
    uri: &str,
    expected: &Expected,
    header: Option<&Record>,
    findings: &mut Findings,
) -> anyhow::Result<u64> {
    let live = header.filter(|header| !header.deleted);
    let Some(text) = &expected.text else {
        if let Some(header) = live {
            let found = format!("it is there at version {}", header.version);
            findings.violation("no removed document is in the index", uri, found);
        } else if expected.version.is_some()
            && header.map(|header| header.version) != expected.version
        {
            let found = format!(
                "its tombstone has {:?}, wanted {:?}",
                header.map(|h| h.version),
                expected.version
            );
            findings.violation("the newest version wins", uri, found);
        }
        return Ok(live
            .and_then(|header| header.chunk_count)
            .unwrap_or(0)
            .into());
    };
    let Some(header) = live else {
        let found = match header {
            Some(header) => format!("it was removed at version {}", header.version),
            None => "it has no header".to_owned(),
        };
        findings.violation("every acknowledged document is in the index", uri, found);
        return Ok(0);
    };
    if expected
        .version
        .is_some_and(|version| version != header.version)
    {
        let found = format!("version {}, wanted {:?}", header.version, expected.version);
        findings.violation("the newest version wins", uri, found);
    }
    if expected.etag.is_some() && expected.etag != header.etag {
        let found = format!("tag {:?}, the object has {:?}", header.etag, expected.etag);
        findings.violation("a document is indexed as it is now", uri, found);
    }
    let count = header.chunk_count.unwrap_or(0);
    let doc_id = DocId::from_uri(uri);
    let ids: Vec<String> = (0..count).map(|number| doc_id.chunk(number)).collect();
    let mut indexed = String::new();
    for (number, chunk) in index.fetch(&ids, true).await?.into_iter().enumerate() {
        let whole = chunk.as_ref().filter(|chunk| {
            !chunk.deleted && chunk.version == header.version && chunk.vector.is_some()
        });
        match whole.and_then(|chunk| chunk.text.as_deref()) {
            Some(text) => {
                indexed.push_str(text);
                indexed.push(' ');
            }
            None => {
                let found = format!(
                    "chunk {number} of {count} is {} where the header has version {}",
                    chunk.map_or_else(
                        || "missing".to_owned(),
                        |chunk| format!(
                            "at version {} (deleted: {})",
                            chunk.version, chunk.deleted
                        )
                    ),
                    header.version
                );
                findings.violation("all chunks of a document are of its version", uri, found);
            }
        }
    }
    if !same_words(&indexed, text) {
        let found = format!("its text is {indexed:?}, the document's {text:?}");
        findings.violation("a document is indexed as it is now", uri, found);
    }
    Ok(count.into())
}

/// Live chunks beyond the header's count.
async fn check_left_over(
    index: &dyn SearchIndex,
    uri: &str,
    count: u32,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let doc_id = DocId::from_uri(uri);
    let ids: Vec<String> = (count..MAX_CHUNKS.max(count))
        .map(|number| doc_id.chunk(number))
        .collect();
    for chunk in index.get(&ids).await?.into_iter().flatten() {
        if !chunk.deleted {
            let found = format!(
                "chunk {:?} of version {} is left where the header tells of {count}",
                chunk.chunk, chunk.version
            );
            findings.violation(LEFT_OVER, uri, found);
        }
    }
    Ok(())
}

/// What is live and should not be: documents that nobody handed out, chunks beyond a header's count.
async fn check_rest(
    index: &dyn SearchIndex,
    expected: &BTreeMap<String, Expected>,
    chunks: u64,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let mut after: Option<String> = None;
    loop {
        let page = index.headers("", after.as_deref(), PAGE).await?;
        let Some(last) = page.last() else {
            break;
        };
        after = Some(last.uri.clone());
        for header in page {
            if !expected.contains_key(&header.uri) {
                let found = format!("it is there at version {}", header.version);
                findings.violation("nothing is indexed that should not be", header.uri, found);
            }
        }
    }
    // OpenSearch's count is as of its last refresh.
    let mut counted = index.count().await?.chunks;
    if counted != chunks {
        tokio::time::sleep(Duration::from_secs(1)).await;
        index.refresh().await?;
        counted = index.count().await?.chunks;
    }
    if counted != chunks {
        findings.violation(
            LEFT_OVER,
            "the index",
            format!("{counted} live chunks, the headers tell of {chunks}"),
        );
    }
    Ok(())
}

fn same_words(one: &str, other: &str) -> bool {
    one.split_whitespace().eq(other.split_whitespace())
}
