//! What a new generation lacks once it has read the topic: documents whose notices the topic no longer
//! has, and those that can't be read again. They are made of the old generation's text.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use millrace_index::{BulkSink, MAX_HEADERS, Record, SinkConfig};
use millrace_kafka::{KafkaConfig, Producer, ReadFrom, ReadUntil, TopicReader, topics};
use millrace_retry::error_chain;
use millrace_schemas::{EventHeaders, Signal, decode};
use millrace_vectorizer::{Refill, RefillError, Refilled, VectorizerConfig};

use super::measure::Pair;

const SOURCE: &str = "millrace/rollout";
/// Documents that are made in one go: their signals are looked for on the topic together.
const ROUND: usize = 2_000;

/// Ids of the live documents of the old generation that the new one lacks, or has at an older version.
///
/// # Errors
/// A generation can't be read.
pub async fn lacking(pair: Pair<'_>) -> anyhow::Result<BTreeSet<String>> {
    for open in [pair.old, pair.new] {
        open.index.refresh().await?;
    }
    let mut lacking = BTreeSet::new();
    let mut after: Option<String> = None;
    loop {
        let page = pair.old.index.headers("", after.as_deref(), MAX_HEADERS);
        let page = page.await?;
        let Some(last) = page.last() else {
            return Ok(lacking);
        };
        after = Some(last.uri.clone());
        let live = page.into_iter().filter(|header| !header.deleted);
        lacking.extend(
            still(pair, live.collect())
                .await?
                .into_iter()
                .map(|it| it.doc_id),
        );
    }
}

/// Of these headers of the old generation, those that the new one lacks.
async fn still(pair: Pair<'_>, headers: Vec<Record>) -> anyhow::Result<Vec<Record>> {
    let ids: Vec<String> = headers.iter().map(|header| header.doc_id.clone()).collect();
    let found = pair.new.index.get(&ids).await?;
    let lacks = |(old, new): (Record, Option<Record>)| {
        let is_there = new.is_some_and(|new| new.version >= old.version);
        (!is_there).then_some(old)
    };
    Ok(headers.into_iter().zip(found).filter_map(lacks).collect())
}

/// Makes those of `ids` that are lacking still, with their signals; how many. What can't be made is
/// logged and left: the gate of coverage counts it.
///
/// # Errors
/// A generation, the encoder or the brokers are away; done again, it goes on.
pub async fn fill(
    pair: Pair<'_>,
    ids: &BTreeSet<String>,
    kafka: &KafkaConfig,
    producer: &Producer,
    config: &VectorizerConfig,
) -> anyhow::Result<u64> {
    let sink = BulkSink::start(pair.new.index.clone(), SinkConfig::default());
    let refill = Refill::new(
        pair.old.index.clone(),
        pair.new.index.clone(),
        sink,
        pair.new.encoder.clone(),
        config,
    );
    let ids: Vec<String> = ids.iter().cloned().collect();
    let mut filled = 0;
    for round in ids.chunks(ROUND) {
        let headers = pair.old.index.get(round).await?;
        let live = headers.into_iter().flatten().filter(|it| !it.deleted);
        let headers = still(pair, live.collect()).await?;
        // In one model's space the documents have their signals, which name no generation.
        let needs_signals = !pair.is_one_model();
        let mut signals = match needs_signals {
            true => signals(kafka, &headers, pair.old.encoder.version()).await?,
            false => BTreeMap::new(),
        };
        for header in headers {
            let prepared = match refill.prepare(&header).await {
                Ok(Some(prepared)) => prepared,
                Ok(None) => continue,
                Err(error @ RefillError::Chunk { .. }) => {
                    tracing::warn!(uri = header.uri, reason = error_chain(&error), "not filled");
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            // Before the document: one that is lacking still is done again, with its signal.
            if let Some(signal) = signals.remove(&header.doc_id) {
                let signal = Signal {
                    model_version: pair.new.encoder.version().to_owned(),
                    vector: prepared.vector(),
                    ..signal
                };
                publish(producer, &signal).await?;
            } else if needs_signals {
                tracing::warn!(
                    uri = header.uri,
                    "filled without a signal: the topic has none of this version"
                );
            }
            match refill.write(prepared).await? {
                Refilled::Written => filled += 1,
                Refilled::Newer => {}
            }
        }
    }
    Ok(filled)
}

/// The old model's last signals of these documents, as far as they are of the same version.
async fn signals(
    kafka: &KafkaConfig,
    headers: &[Record],
    model_version: &str,
) -> anyhow::Result<BTreeMap<String, Signal>> {
    let wanted: BTreeMap<&str, i64> = headers
        .iter()
        .map(|header| (header.doc_id.as_str(), header.version))
        .collect();
    let mut found = BTreeMap::new();
    if wanted.is_empty() {
        return Ok(found);
    }
    let topic = kafka.topic(topics::SIGNALS);
    let opened = TopicReader::open(kafka, &topic, &ReadFrom::Beginning, ReadUntil::PresentEnd);
    let mut reader = opened.await?;
    while let Some(record) = reader.next().await {
        let record = record?;
        let is_wanted = record.key_text().is_some_and(|key| {
            key.split_once('@').is_some_and(|(item_id, model)| {
                model == model_version && wanted.contains_key(item_id)
            })
        });
        let Some(value) = record.value.as_deref().filter(|_| is_wanted) else {
            continue;
        };
        match decode::<Signal>(value) {
            Ok(signal) => {
                let version = wanted.get(signal.item_id.as_str());
                if version == Some(&signal.document_version) && !signal.deleted {
                    found.insert(signal.item_id.clone(), signal);
                }
            }
            Err(error) => {
                tracing::warn!(origin = %record.origin(), %error, "a signal can't be read");
            }
        }
    }
    Ok(found)
}

async fn publish(producer: &Producer, signal: &Signal) -> anyhow::Result<()> {
    let headers = EventHeaders {
        id: format!(
            "{}/{}/{}",
            signal.origin, signal.document_version, signal.model_version
        ),
        source: SOURCE.to_owned(),
        type_: "millrace.signals.updated".to_owned(),
        time_ms: Some(jiff::Timestamp::now().as_millisecond()),
        traceparent: None,
    };
    let key = signal.key();
    let sent = producer.send(&key, Some(&signal.item_id), signal, &headers);
    sent.await
        .with_context(|| format!("the signal of {} can't be published", signal.uri))?;
    Ok(())
}
