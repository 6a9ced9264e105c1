//! Reading what is meant, as fast as it may go, up to the ends that were captured.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{bail, ensure};
use millrace_kafka::replay::Span;
use millrace_kafka::{Admin, AdminError, KafkaConfig, ReaderError, Record, TopicReader};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::filter::Filter;
use crate::rate::{Pacer, Rate};

/// Records that are taken from the reader at a time.
const TAKE: usize = 256;
/// Records, and bytes of them, that are written together. A writer that is free has what is there.
const MAX_BATCH: usize = 4_096;
const MAX_BATCH_BYTES: usize = 4 << 20;
/// Records that are looked at before it is told how far that is, though none was meant.
const MAX_LOOKED_AT: u64 = 16_384;
/// How long nothing may come before it is asked whether the topic is there still.
const PATIENCE: Duration = Duration::from_secs(10);

/// Records to write, and where reading was behind the last of them.
#[derive(Debug, Default)]
pub struct Batch {
    /// Those that are meant.
    pub records: Vec<Record>,
    /// The offset to go on from, by partition.
    pub reached: BTreeMap<i32, i64>,
    looked_at: u64,
    bytes: usize,
}

/// What is read, and how.
pub struct Reading<'a> {
    /// The topics.
    pub kafka: &'a KafkaConfig,
    /// For asking whether the topic is there.
    pub admin: &'a Admin,
    /// The topic's full name.
    pub topic: &'a str,
    /// Which records are meant.
    pub filter: &'a Filter,
    /// At most so many a second.
    pub rate: Option<Rate>,
    /// From where to where.
    pub spans: BTreeMap<i32, Span>,
}

impl Reading<'_> {
    /// Hands on batches until the end, which is `true`; or until it is stopped, or nobody takes them.
    ///
    /// # Errors
    /// The topic can't be read, or is gone.
    pub async fn run(
        &self,
        batches: mpsc::Sender<Batch>,
        stop: &CancellationToken,
    ) -> anyhow::Result<bool> {
        let of = |(&partition, span): (&i32, &Span)| (partition, (span.next, span.end));
        let ranges = self.spans.iter().map(of).collect();
        let mut reader = TopicReader::open_ranges(self.kafka, self.topic, &ranges)?;
        let mut batch = Batch::default();
        let mut pacer = Pacer::new(self.rate);
        loop {
            let next = tokio::select! {
                next = tokio::time::timeout(PATIENCE, reader.next_batch(TAKE)) => next,
                () = stop.cancelled() => return Ok(false),
            };
            let Ok(next) = next else {
                self.require_topic().await?;
                continue;
            };
            let Some(records) = next else { break };
            let records = match records {
                Ok(records) => records,
                Err(error) => return Err(self.explained(error).await),
            };
            for record in records {
                if !self.filter.lets_pass(&record) {
                    batch.pass(&record);
                    continue;
                }
                if let Some(due) = pacer.next_due() {
                    // What is there does not wait for what is due later.
                    if batch.looked_at > 0
                        && batches.send(std::mem::take(&mut batch)).await.is_err()
                    {
                        return Ok(false);
                    }
                    tokio::select! {
                        () = tokio::time::sleep_until(due.into()) => {}
                        () = stop.cancelled() => return Ok(false),
                    }
                }
                batch.pass(&record);
                batch.bytes += record.size_bytes();
                batch.records.push(record);
                if batch.is_full() && batches.send(std::mem::take(&mut batch)).await.is_err() {
                    return Ok(false);
                }
            }
            if batch.is_full() {
                if batches.send(std::mem::take(&mut batch)).await.is_err() {
                    return Ok(false);
                }
            } else if batch.looked_at > 0
                && let Ok(free) = batches.try_reserve()
            {
                free.send(std::mem::take(&mut batch));
            }
        }
        // The last offsets may be those of records that were compacted away, or of transactions.
        let ends = self.spans.iter().map(|(&number, span)| (number, span.end));
        batch.reached.extend(ends);
        Ok(batches.send(batch).await.is_ok())
    }

    /// What a failed read means where the topic is gone.
    async fn explained(&self, error: ReaderError) -> anyhow::Error {
        match self.require_topic().await {
            Err(gone) => gone,
            Ok(()) => error.into(),
        }
    }

    async fn require_topic(&self) -> anyhow::Result<()> {
        let there = match self.admin.partitions(self.topic).await {
            Err(AdminError::UnknownTopic { topic }) => bail!(
                "{topic} was deleted while it was replayed; what was read of it before is written"
            ),
            there => there?,
        };
        for (partition, span) in &self.spans {
            ensure!(
                there.contains(partition),
                "{} was made anew while it was replayed, without partition {partition}",
                self.topic
            );
            let (_, end) = self.admin.watermarks(self.topic, *partition).await?;
            ensure!(
                end >= span.end,
                "{} was made anew while it was replayed: partition {partition} ends at {end} now, before {}",
                self.topic,
                span.end
            );
        }
        Ok(())
    }
}

impl Batch {
    fn pass(&mut self, record: &Record) {
        self.looked_at += 1;
        self.reached.insert(record.partition, record.offset + 1);
    }

    fn is_full(&self) -> bool {
        self.records.len() >= MAX_BATCH
            || self.bytes >= MAX_BATCH_BYTES
            || self.looked_at >= MAX_LOOKED_AT
    }
}
