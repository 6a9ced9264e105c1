//! `millrace status URI`: what became of this document?

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use millrace_kafka::{
    Admin, DescribedGroup, ReadFrom, ReadUntil, TopicReader, java_partition, topics,
};
use millrace_objects::{ObjectUri, UriError};
use millrace_producers::airec::item_uri;
use millrace_schemas::{DocId, DocumentOutcome, decode};
use serde::Serialize;

use crate::api::records::DocumentHeader;
use crate::config::Config;
use crate::output::{Output, counted, time};
use crate::session::Session;
use crate::stack::{Needs, vectorizer_group};

/// Tell what became of a document: its last outcome and what the index holds.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Path or URI of the document; a line of a corpus is `corpus.jsonl#id`.
    uri: String,
}

#[derive(Debug, Serialize)]
struct Status {
    uri: String,
    doc_id: String,
    /// How the last notice ended; none where there is no outcome within the topic's retention.
    outcome: Option<String>,
    last: Option<DocumentOutcome>,
    indexed: Option<DocumentHeader>,
    waiting: Option<Waiting>,
}

/// The newest notice of a document that has no outcome yet.
#[derive(Debug, Serialize)]
struct Waiting {
    topic: String,
    partition: i32,
    offset: i64,
    /// When it was published, ms since 1970.
    since_ms: Option<i64>,
    /// Records that the vectorizer has to do before it, its partition's.
    before: i64,
    /// Whether a vectorizer has the partition.
    is_read: bool,
}

pub async fn run(args: Args, config: Config, output: Output) -> anyhow::Result<ExitCode> {
    let uri = document_uri(&args.uri).with_context(|| format!("{} is no document", args.uri))?;
    let doc_id = DocId::from_uri(&uri).as_str().to_owned();
    let session = Session::attach_or_start(&config, Needs::STATUS).await?;
    let found = async {
        let headers = session.api.headers(std::slice::from_ref(&doc_id)).await?;
        let admin = Admin::connect(&session.kafka)?;
        let last = last_outcome(&session, &admin, &uri).await?;
        let waiting = waiting(&session, &admin, &uri, last.as_ref()).await?;
        anyhow::Ok((headers.into_iter().next().flatten(), last, waiting))
    }
    .await;
    session.close().await;
    let (indexed, last, waiting) = found?;
    let status = Status {
        outcome: last.as_ref().map(|last| last.outcome.to_string()),
        uri,
        doc_id,
        last,
        indexed,
        waiting,
    };
    output.result(&status, || text(&status))?;
    Ok(ExitCode::SUCCESS)
}

/// The URI of a document: of a line where `PATH#id` is no file and PATH is; of an item of AIRec's
/// tables, which is no object.
pub(super) fn document_uri(text: &str) -> Result<String, UriError> {
    if let Some((instance, item)) = item_uri::parse(text) {
        return Ok(item_uri::item_uri(&instance, &item));
    }
    if !text.contains("://")
        && !Path::new(text).exists()
        && let Some((path, id)) = text.rsplit_once('#')
        && Path::new(path).exists()
    {
        return Ok(ObjectUri::parse(path)?.with_fragment(id)?.to_string());
    }
    Ok(ObjectUri::parse(text)?.to_string())
}

/// The newest outcome of this URI. Outcomes are keyed by URI, so one partition holds them all.
async fn last_outcome(
    session: &Session,
    admin: &Admin,
    uri: &str,
) -> anyhow::Result<Option<DocumentOutcome>> {
    let kafka = &session.kafka;
    let topic = kafka.topic(topics::OUTCOMES);
    let partitions = admin.partitions(&topic).await?;
    let count = i32::try_from(partitions.len()).context("more partitions than Kafka allows")?;
    let partition = java_partition(uri.as_bytes(), count);
    let (start, _) = admin.watermarks(&topic, partition).await?;
    let from = ReadFrom::Offsets([(partition, start)].into());
    let mut reader = TopicReader::open(kafka, &topic, &from, ReadUntil::PresentEnd).await?;
    let mut last = None;
    while let Some(record) = reader.next().await {
        let record = record?;
        if record.key.as_deref() == Some(uri.as_bytes())
            && let Some(value) = record.value.as_deref()
        {
            last = Some(decode(value).with_context(|| {
                format!("the outcome at {}/{}/{}", topic, partition, record.offset)
            })?);
        }
    }
    Ok(last)
}

/// The newest notice of this URI that the vectorizer has not come to. It reads what the group has not
/// done of one partition, which is its lag.
async fn waiting(
    session: &Session,
    admin: &Admin,
    uri: &str,
    last: Option<&DocumentOutcome>,
) -> anyhow::Result<Option<Waiting>> {
    let kafka = &session.kafka;
    let topic = kafka.topic(topics::DOCUMENTS);
    let info = session.api.info().await?;
    let index = info.index["writes"].as_str().unwrap_or_default();
    let group = vectorizer_group(kafka, index);
    let lags = admin
        .group_lag(&group, std::slice::from_ref(&topic))
        .await?;
    let count = i32::try_from(lags.len()).context("more partitions than Kafka allows")?;
    let partition = java_partition(uri.as_bytes(), count);
    let Some(lag) = lags.iter().find(|lag| lag.partition == partition) else {
        return Ok(None);
    };
    let from = ReadFrom::Offsets([(partition, lag.current)].into());
    let mut reader = TopicReader::open(kafka, &topic, &from, ReadUntil::PresentEnd).await?;
    // Ones behind the first unfinished record may be done already.
    let is_done = |offset| {
        last.is_some_and(|last| {
            let origin = &last.origin;
            origin.topic == topic && origin.partition == partition && origin.offset >= offset
        })
    };
    let mut waiting = None;
    while let Some(record) = reader.next().await {
        let record = record?;
        if record.key.as_deref() == Some(uri.as_bytes()) && !is_done(record.offset) {
            waiting = Some((record.offset, record.timestamp_ms));
        }
    }
    let Some((offset, since_ms)) = waiting else {
        return Ok(None);
    };
    let groups = admin.describe_groups(&[group]).await?;
    let mut assigned = groups.iter().flat_map(DescribedGroup::assigned);
    Ok(Some(Waiting {
        is_read: assigned.any(|it| *it == (topic.clone(), partition)),
        topic,
        partition,
        offset,
        since_ms,
        before: offset - lag.current,
    }))
}

fn text(status: &Status) -> String {
    let mut lines = vec![status.uri.clone()];
    match &status.last {
        None if status.waiting.is_some() => {}
        None => lines.push(
            "  no outcome: it was never noticed, or the topic's retention has passed".to_owned(),
        ),
        Some(last) => {
            lines.push(format!(
                "  {} after {} ms (fetch {}, extract {}, embed {}, index {}) · version {} · {}",
                last.outcome,
                last.total_ms,
                last.fetch_ms,
                last.extract_ms,
                last.embed_ms,
                last.index_ms,
                last.version,
                counted(last.chunks.unsigned_abs().into(), "chunk")
            ));
            if let Some(error) = &last.error_type {
                let message = last.message.as_deref().unwrap_or_default();
                lines.push(format!("  {error}: {message}"));
            }
        }
    }
    if let Some(waiting) = &status.waiting {
        let hint = if waiting.is_read {
            "`millrace lag` tells how fast that goes"
        } else {
            "nobody reads it now: `millrace up` or `millrace run vectorizer` does"
        };
        lines.push(format!(
            "  a notice waits since {}, behind {} ({}/{}/{}); {hint}",
            time(waiting.since_ms),
            counted(waiting.before.unsigned_abs(), "record"),
            waiting.topic,
            waiting.partition,
            waiting.offset,
        ));
    }
    lines.push(match &status.indexed {
        None => "  not in the index".to_owned(),
        Some(header) if header.deleted => {
            format!("  removed from the index at version {}", header.version)
        }
        Some(header) => format!(
            "  in the index: version {}, {}, embedded by {}",
            header.version,
            counted(header.chunks.into(), "chunk"),
            header.model_version
        ),
    });
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_of_a_table_is_a_document_too() {
        let uri = document_uri("airec://shop/item/a b").unwrap();
        assert_eq!(uri, "airec://shop/item/a%20b");
        assert_eq!(
            document_uri("s3://bucket/a b").unwrap(),
            "s3://bucket/a%20b"
        );
        assert!(document_uri("airec://shop/user/7").is_err());
    }
}
