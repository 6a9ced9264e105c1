//! One publication, to the outcome of its last document.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use anyhow::bail;
use futures::StreamExt;
use futures::stream::BoxStream;
use indicatif::ProgressBar;
use millrace_kafka::{Producer, ReadFrom, ReadUntil, TopicReader, topics};
use millrace_producers::{Noticed, Published, Publisher};
use millrace_retry::error_chain;
use millrace_schemas::{DocumentOutcome, decode};

use super::summary::{Outcomes, Summary};
use crate::output::Output;
use crate::session::Session;

/// What may be published, in order; an error ends nothing but itself.
pub type Source = BoxStream<'static, anyhow::Result<Noticed>>;

/// One publication and the wait for its outcomes, whatever else flows.
pub struct Ingestion {
    publisher: Publisher,
    /// Of `documents.outcomes`.
    reader: TopicReader,
    documents_topic: String,
    bar: ProgressBar,
    /// Published and not done yet, by partition and offset.
    pending: HashSet<(i32, i64)>,
    /// Done before its publication was acknowledged to us.
    early: HashMap<(i32, i64), DocumentOutcome>,
    outcomes: Outcomes,
    tokens: i64,
}

impl Ingestion {
    /// Reads outcomes from here on, so that none of the publications that follow is missed.
    ///
    /// # Errors
    /// The brokers can't be reached.
    pub async fn begin(session: &Session, output: Output) -> anyhow::Result<Self> {
        let kafka = &session.kafka;
        let topic = kafka.topic(topics::OUTCOMES);
        let reader = TopicReader::open(kafka, &topic, &ReadFrom::End, ReadUntil::Forever).await?;
        Ok(Self {
            publisher: Publisher::new(Producer::connect(kafka)?),
            reader,
            documents_topic: kafka.topic(topics::DOCUMENTS),
            bar: output.progress(Some(0), "docs"),
            pending: HashSet::new(),
            early: HashMap::new(),
            outcomes: Outcomes::default(),
            tokens: 0,
        })
    }

    /// Publishes all of `source` and waits until each of it is done; also tells how much of it could not be listed.
    ///
    /// # Errors
    /// The brokers refuse a notice, or the pipeline stops.
    pub async fn run(mut self, source: Source) -> anyhow::Result<(Summary, u64)> {
        let started = Instant::now();
        let publisher = self.publisher.clone();
        let unlisted = AtomicU64::new(0);
        let noticed = source.filter_map(|noticed| {
            let unlisted = &unlisted;
            async move {
                noticed
                    .inspect_err(|error| {
                        unlisted.fetch_add(1, Relaxed);
                        tracing::warn!("not listed: {}", error_chain(error.as_ref()));
                    })
                    .ok()
            }
        });
        let mut published = std::pin::pin!(publisher.publish_all(noticed));
        let mut publishing = true;
        while publishing || !self.pending.is_empty() {
            tokio::select! {
                next = published.next(), if publishing => match next {
                    Some(position) => self.published(position?),
                    None => {
                        publishing = false;
                        // Whatever came early and was not ours never will be.
                        self.early.clear();
                    }
                },
                record = self.reader.next() => match record {
                    Some(record) => self.outcome(&record?, publishing),
                    None => bail!("the outcomes topic ended before all documents were done"),
                },
            }
        }
        self.bar.finish_and_clear();
        let seconds = started.elapsed().as_secs_f64();
        let mut summary = Summary {
            outcomes: self.outcomes,
            seconds,
            ..Summary::default()
        };
        if seconds > 0.0 {
            summary.docs_per_second = summary.outcomes.documents as f64 / seconds;
            summary.tokens_per_second = self.tokens as f64 / seconds;
        }
        Ok((summary, unlisted.load(Relaxed)))
    }

    fn published(&mut self, published: Published) {
        self.outcomes.documents += 1;
        self.bar.inc_length(1);
        match published {
            Published::Document(position) => {
                let place = (position.partition, position.offset);
                match self.early.remove(&place) {
                    Some(outcome) => self.count(&outcome),
                    None => {
                        self.pending.insert(place);
                    }
                }
            }
            Published::Rejected(_) => {
                self.outcomes.dead_lettered += 1;
                self.bar.inc(1);
            }
        }
    }

    fn outcome(&mut self, record: &millrace_kafka::Record, publishing: bool) {
        let Some(outcome) = record.value.as_deref().and_then(|value| decode(value).ok()) else {
            tracing::warn!(offset = record.offset, "an outcome could not be read");
            return;
        };
        let outcome: DocumentOutcome = outcome;
        if outcome.origin.topic != self.documents_topic {
            return;
        }
        let place = (outcome.origin.partition, outcome.origin.offset);
        if self.pending.remove(&place) {
            self.count(&outcome);
        } else if publishing {
            self.early.insert(place, outcome);
        }
    }

    fn count(&mut self, outcome: &DocumentOutcome) {
        self.bar.inc(1);
        self.tokens += outcome.tokens;
        self.outcomes.count(outcome);
    }
}
