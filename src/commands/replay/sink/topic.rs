//! Records on a topic, acknowledged; notices on `documents`, and what became of them.

use std::collections::HashSet;

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use millrace_kafka::replay::{Copied, Copier};
use millrace_kafka::{KafkaConfig, Producer, ReadFrom, ReadUntil, Record, TopicReader, topics};
use millrace_objects::{ObjectStores, ObjectUri};
use millrace_retry::error_chain;
use millrace_schemas::{DocumentNotice, DocumentOutcome, decode};
use tokio_util::sync::CancellationToken;

use super::Written;
use crate::commands::ingest::Outcomes;
use crate::refusals::Refused;

/// Writes to a topic.
pub struct TopicSink {
    copier: Copier,
    notices: Option<Notices>,
}

/// Notices that were published again.
struct Notices {
    /// Of `documents.outcomes`.
    reader: TopicReader,
    documents: String,
    /// Where they stand, as far as their outcome is not known.
    pending: HashSet<(i32, i64)>,
    outcomes: Outcomes,
    /// What a pipeline of this process may read. It leaves the rest, and nobody would tell its outcome.
    objects: Option<ObjectStores>,
}

impl TopicSink {
    /// Copies records of `topic` to `target`, both by full name.
    ///
    /// # Errors
    /// The brokers can't be reached.
    pub async fn open(
        kafka: &KafkaConfig,
        producer: Producer,
        topic: &str,
        target: &str,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            copier: Copier::open(kafka, producer, topic, target).await?,
            notices: None,
        })
    }

    /// Publishes notices of `documents` again. `objects`: what may be read, where the pipeline is this
    /// process's own.
    ///
    /// # Errors
    /// The brokers can't be reached.
    pub async fn open_index(
        kafka: &KafkaConfig,
        producer: Producer,
        objects: Option<ObjectStores>,
    ) -> anyhow::Result<Self> {
        let documents = kafka.topic(topics::DOCUMENTS);
        let outcomes = kafka.topic(topics::OUTCOMES);
        // Before anything is published, so that no outcome is missed.
        let reader = TopicReader::open(kafka, &outcomes, &ReadFrom::End, ReadUntil::Forever);
        Ok(Self {
            copier: Copier::open(kafka, producer, &documents, &documents).await?,
            notices: Some(Notices {
                reader: reader.await?,
                documents,
                pending: HashSet::new(),
                outcomes: Outcomes::default(),
                objects,
            }),
        })
    }

    /// Whether records keep their partitions.
    pub fn keeps_partitions(&self) -> bool {
        self.copier.keeps_partitions()
    }

    /// Writes records and waits until all are acknowledged.
    ///
    /// # Errors
    /// The brokers do not answer.
    pub async fn write(&mut self, records: &[Record]) -> anyhow::Result<Written> {
        let mut written = Written::default();
        let outside: HashSet<usize> = match &self.notices {
            Some(notices) => notices.outside(records, &mut written.refused),
            None => HashSet::new(),
        };
        let kept: Vec<Record>;
        let records = if outside.is_empty() {
            records
        } else {
            let places = records.iter().enumerate();
            let inside = places.filter(|(place, _)| !outside.contains(place));
            kept = inside.map(|(_, record)| record.clone()).collect();
            &kept
        };
        let copied = self.copier.copy(records).await;
        let Copied {
            written: positions,
            refused: not_taken,
        } = copied.context("not all records were acknowledged")?;
        written.records = positions.len() as u64;
        let lost: u64 = not_taken
            .iter()
            .map(|(place, _)| records[*place].size_bytes() as u64)
            .sum();
        written.bytes = super::size(records) - lost;
        for (place, error) in not_taken {
            let reason = error_chain(&error);
            written.refused.push(Refused::new(&records[place], reason));
        }
        if let Some(notices) = &mut self.notices {
            notices.outcomes.documents += written.records;
            let places = positions.iter().map(|at| (at.partition, at.offset));
            notices.pending.extend(places);
        }
        Ok(written)
    }

    /// Waits until the pipeline has worked off every notice, or the waiting is stopped; tells what
    /// became of them. `None` of another topic.
    ///
    /// # Errors
    /// The outcomes can't be read.
    pub async fn outcomes(
        &mut self,
        bar: &ProgressBar,
        stop: &CancellationToken,
    ) -> anyhow::Result<Option<(Outcomes, u64)>> {
        let Some(notices) = &mut self.notices else {
            return Ok(None);
        };
        bar.reset();
        bar.set_length(notices.pending.len() as u64);
        bar.set_message("in the pipeline");
        while !notices.pending.is_empty() {
            let record = tokio::select! {
                record = notices.reader.next() => record,
                () = stop.cancelled() => break,
            };
            match record {
                Some(record) => notices.outcome(&record?, bar),
                None => bail!("the outcomes topic ended before all documents were done"),
            }
        }
        let pending = notices.pending.len() as u64;
        Ok(Some((notices.outcomes.clone(), pending)))
    }
}

impl Notices {
    /// The places of notices that a pipeline of this process would leave.
    fn outside(&self, records: &[Record], left: &mut Vec<Refused>) -> HashSet<usize> {
        let Some(objects) = &self.objects else {
            return HashSet::new();
        };
        let mut outside = HashSet::new();
        for (place, record) in records.iter().enumerate() {
            let Some(notice) = record.value.as_deref().map(decode::<DocumentNotice>) else {
                continue;
            };
            // What can't be read becomes a dead letter, which is an outcome.
            if let Ok(notice) = notice
                && notice.content.is_none()
                && let Ok(uri) = ObjectUri::parse(&notice.uri)
                && let Err(error) = objects.allow_list().permits(&uri)
            {
                let reason = format!(
                    "this process may not read it: {error}; change that, or start the `millrace up` that may"
                );
                left.push(Refused::new(record, reason));
                outside.insert(place);
            }
        }
        outside
    }

    fn outcome(&mut self, record: &Record, bar: &ProgressBar) {
        let outcome = record.value.as_deref().map(decode::<DocumentOutcome>);
        let Some(Ok(outcome)) = outcome else {
            tracing::warn!(offset = record.offset, "an outcome could not be read");
            return;
        };
        let place = (outcome.origin.partition, outcome.origin.offset);
        if outcome.origin.topic == self.documents && self.pending.remove(&place) {
            self.outcomes.count(&outcome);
            bar.inc(1);
        }
    }
}
