//! What stands on the topics, and whether all that was acknowledged does.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::Context;
use millrace_kafka::{DeadLetter, KafkaConfig, ReadFrom, ReadUntil, Record, TopicReader, topics};
use millrace_schemas::{
    DocumentEvent, DocumentNotice, DocumentOutcome, DocumentVersion, Origin, Signal, decode,
};

use super::Findings;
use crate::workload::ledger::{AcceptedNotice, Promises};

/// A record of `documents`.
pub struct Noticed {
    /// As it stands there.
    pub record: Record,
    /// What it says, where it can be read.
    pub notice: Option<DocumentNotice>,
}

/// All topics, read to their ends.
pub struct Topics {
    /// By origin.
    pub documents: BTreeMap<Origin, Noticed>,
    /// In their order.
    pub dead_letters: Vec<DeadLetter>,
    /// The last signal of each item.
    pub last_signals: HashMap<String, Signal>,
    /// Records that have an outcome.
    pub finished: BTreeSet<Origin>,
}

impl Topics {
    /// Reads all topics to their present ends.
    pub async fn read(kafka: &KafkaConfig) -> anyhow::Result<Self> {
        let documents = read(kafka, topics::DOCUMENTS)
            .await?
            .into_iter()
            .map(|record| {
                let notice = record.value.as_deref().and_then(|value| decode(value).ok());
                (record.origin(), Noticed { record, notice })
            })
            .collect();
        let dead_letters = read(kafka, topics::DOCUMENTS_DLQ).await?;
        // An item's signals are in one partition, in their order.
        let mut last_signals = HashMap::new();
        for record in read(kafka, topics::SIGNALS).await? {
            let value = record.value.as_deref().context("a signal has a value")?;
            let signal: Signal = decode(value)
                .with_context(|| format!("the signal at {} can't be read", record.origin()))?;
            last_signals.insert(signal.item_id.clone(), signal);
        }
        let mut finished = BTreeSet::new();
        for record in read(kafka, topics::OUTCOMES).await? {
            let value = record.value.as_deref().context("an outcome has a value")?;
            let outcome: DocumentOutcome = decode(value)
                .with_context(|| format!("the outcome at {} can't be read", record.origin()))?;
            finished.insert(outcome.origin);
        }
        Ok(Self {
            documents,
            dead_letters: dead_letters
                .into_iter()
                .map(DeadLetter::from_record)
                .collect(),
            last_signals,
            finished,
        })
    }

    /// Holds the promises of the endpoint and the brokers: what was acknowledged is there, and each
    /// record that is there was taken to an end.
    pub fn check(&self, promises: &Promises, findings: &mut Findings) {
        for sent in &promises.acknowledged {
            let origin = Origin {
                topic: sent.position.topic.clone(),
                partition: sent.position.partition,
                offset: sent.position.offset,
            };
            let record = self.documents.get(&origin).map(|noticed| &noticed.record);
            let same = record.is_some_and(|record| {
                record.key.as_ref() == Some(&sent.key) && record.value == sent.value
            });
            if !same {
                findings.violation(
                    "a record that the brokers acknowledged stands where they said",
                    origin.to_string(),
                    match record {
                        Some(_) => "another record stands there".to_owned(),
                        None => "nothing stands there".to_owned(),
                    },
                );
            }
        }
        let published: BTreeSet<AcceptedNotice> = self
            .documents
            .values()
            .filter_map(|noticed| noticed.notice.as_ref())
            .map(|notice| AcceptedNotice {
                uri: notice.uri.clone(),
                event_time_ms: notice.event_time_ms,
                etag: notice
                    .etag
                    .clone()
                    .filter(|_| notice.event == DocumentEvent::Created),
            })
            .collect();
        for lost in promises.accepted.difference(&published) {
            findings.violation(
                "a notice that was answered with 200 is on the topic",
                &lost.uri,
                format!("the notice of {} ms is not there", lost.event_time_ms),
            );
        }
        for origin in self.documents.keys() {
            if !self.finished.contains(origin) {
                findings.violation(
                    "every record is taken to an end before its offset is passed",
                    origin.to_string(),
                    "it has no outcome".to_owned(),
                );
            }
        }
    }
}

impl Noticed {
    /// The version of the event, where its time can be believed at `now_ms`.
    #[must_use]
    pub fn version(&self, now_ms: i64) -> Option<i64> {
        let notice = self.notice.as_ref()?;
        DocumentVersion::checked(notice.event_time_ms, self.record.offset, now_ms)
            .ok()
            .map(DocumentVersion::get)
    }
}

pub(super) async fn read(kafka: &KafkaConfig, name: &str) -> anyhow::Result<Vec<Record>> {
    let topic = kafka.topic(name);
    let reader = TopicReader::open(kafka, &topic, &ReadFrom::Beginning, ReadUntil::PresentEnd);
    let records = async { reader.await?.collect().await };
    records
        .await
        .with_context(|| format!("the topic {topic} can't be read"))
}
