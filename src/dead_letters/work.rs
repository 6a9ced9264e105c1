//! Doing what was ordered, in batches: publish, resolve, then move the position.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::bail;
use indicatif::ProgressBar;
use millrace_kafka::{
    Admin, DeadLetterPosition, KafkaConfig, LetterScan, ReadFrom, ResolvedLetters, Resolver,
    ScannedLetter, WorkedOff, topics,
};
use millrace_retry::error_chain;

use super::order::Order;
use super::plan::{Act, Judge, Judged};
use super::report::Done;
use crate::rate::Pacer;
use crate::stack::stop::StopSignals;

/// Letters that are published together. What a kill may have done twice is at most this much, and the
/// next replay finds that out.
const MAX_BATCH: usize = 256;
/// Bytes of records that are held at a time.
const MAX_BATCH_BYTES: usize = 4 << 20;
/// How often the position is committed.
const COMMIT_EVERY: Duration = Duration::from_secs(1);

/// An order being carried out.
pub struct Work<'a> {
    pub order: &'a Order,
    pub kafka: &'a KafkaConfig,
    pub resolver: Resolver,
    pub resolved: ResolvedLetters,
    pub present: &'a HashSet<String>,
    pub bar: ProgressBar,
    pub stop: StopSignals,
    pub pacer: Pacer,
    pub done: Done,
}

/// Where a topic's letters stand while they are worked off.
struct Progress {
    position: DeadLetterPosition,
    committed: WorkedOff,
    /// The first letter of each partition that stays open.
    open: BTreeMap<i32, i64>,
    /// The offset after the last one that was worked off.
    reached: BTreeMap<i32, i64>,
    last_commit: Instant,
}

impl Work<'_> {
    /// Works off the letters of the topic that is declared as `source`.
    ///
    /// # Errors
    /// The brokers do not answer. What was done is counted in `done`; it can be gone on with.
    pub async fn topic(&mut self, source: &'static str) -> anyhow::Result<()> {
        let mut progress = self.begin(source).await?;
        let resolved = std::mem::take(&mut self.resolved);
        let worked = self.letters(source, &resolved, &mut progress).await;
        self.resolved = resolved;
        let ends = worked?;
        // All that was published is resolved: nothing is under way any more.
        if let Act::Replay { .. } = self.order.act {
            progress.committed.replaying_since_ms = None;
        }
        for (partition, end) in ends {
            progress.reached.insert(partition, end);
        }
        progress.commit().await
    }

    async fn begin(&mut self, source: &'static str) -> anyhow::Result<Progress> {
        let admin = Admin::connect(self.kafka)?;
        let topic = topics::dead_letter_topic(&self.kafka.topic(source));
        let ends = admin.end_offsets(&topic).await?;
        let position = DeadLetterPosition::new(self.kafka, source)?;
        let mut committed = position.committed(ends.keys().copied()).await?;
        // Beyond the end: of a topic that was made anew.
        committed
            .offsets
            .retain(|partition, offset| ends.get(partition).is_some_and(|end| *offset <= *end));
        for partition in ends.keys() {
            committed.offsets.entry(*partition).or_insert(0);
        }
        if let Act::Replay { .. } = self.order.act {
            if let Some(since_ms) = committed.replaying_since_ms {
                let recovered = self
                    .resolver
                    .recover(self.kafka, source, since_ms, &mut self.resolved)
                    .await?;
                self.done.recovered += recovered;
                tracing::info!(source, recovered, "an earlier replay was cut off");
            }
            let now_ms = jiff::Timestamp::now().as_millisecond();
            committed.replaying_since_ms = Some(now_ms);
            position.commit(&committed).await?;
        }
        Ok(Progress {
            position,
            committed,
            open: BTreeMap::new(),
            reached: BTreeMap::new(),
            last_commit: Instant::now(),
        })
    }

    /// Tells up to where all letters were looked at; nothing where it was stopped before.
    async fn letters(
        &mut self,
        source: &'static str,
        resolved: &ResolvedLetters,
        progress: &mut Progress,
    ) -> anyhow::Result<BTreeMap<i32, i64>> {
        let from = ReadFrom::Offsets(progress.committed.offsets.clone());
        let mut scan = LetterScan::open(self.kafka, source, &from, resolved).await?;
        let judge = Judge::new(self.order.act, scan.source().to_owned(), self.present);
        let mut batch: Vec<ScannedLetter> = Vec::new();
        let mut batch_bytes = 0;
        let max = self.order.max.unwrap_or(u64::MAX);
        while self.done.taken < max {
            let scanned = tokio::select! {
                scanned = scan.next() => scanned,
                () = self.stop.first() => {
                    self.done.interrupted = true;
                    return Ok(BTreeMap::new());
                }
            };
            let Some(scanned) = scanned.transpose()? else {
                self.flush(&mut batch, progress).await?;
                return Ok(scan.end_offsets().clone());
            };
            let judged = judge.judge(&scanned);
            if judged == Judged::Resolved {
                continue;
            }
            if judged != Judged::Selected || !self.order.filter.lets_pass(&scanned.letter) {
                progress.stays_open(&scanned);
                continue;
            }
            let due = self.pacer.next_due();
            // What is there does not wait for what is due later.
            if due.is_some() || batch.len() >= MAX_BATCH || batch_bytes >= MAX_BATCH_BYTES {
                self.flush(&mut batch, progress).await?;
                batch_bytes = 0;
            }
            if let Some(due) = due {
                tokio::select! {
                    () = tokio::time::sleep_until(due.into()) => {}
                    () = self.stop.first() => {
                        self.done.interrupted = true;
                        return Ok(BTreeMap::new());
                    }
                }
            }
            self.done.taken += 1;
            batch_bytes += scanned.letter.original.size_bytes();
            batch.push(scanned);
        }
        self.flush(&mut batch, progress).await?;
        Ok(BTreeMap::new())
    }

    async fn flush(
        &mut self,
        batch: &mut Vec<ScannedLetter>,
        progress: &mut Progress,
    ) -> anyhow::Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let letters = std::mem::take(batch);
        let resolver = self.resolver.clone();
        let act = self.order.act;
        let working = async {
            anyhow::Ok(match act {
                Act::Replay { .. } => Some(resolver.replay(&letters).await?),
                Act::Discard => {
                    resolver.discard(&letters).await?;
                    None
                }
            })
        };
        let replayed = tokio::select! {
            replayed = working => replayed?,
            () = self.stop.nth(2) => bail!("stopped at once: the last letters may be done or not; run it again"),
        };
        match replayed {
            Some(replayed) => {
                self.done.replayed += replayed.published;
                for (place, error) in replayed.refused {
                    progress.stays_open(&letters[place]);
                    self.done.refuse(&letters[place], error_chain(&error));
                }
            }
            None => self.done.discarded += letters.len() as u64,
        }
        self.bar.inc(letters.len() as u64);
        for scanned in &letters {
            let position = &scanned.letter.position;
            progress
                .reached
                .insert(position.partition, position.offset + 1);
        }
        if progress.last_commit.elapsed() >= COMMIT_EVERY {
            progress.commit().await?;
        }
        Ok(())
    }
}

impl Progress {
    fn stays_open(&mut self, scanned: &ScannedLetter) {
        let position = &scanned.letter.position;
        let first = self
            .open
            .entry(position.partition)
            .or_insert(position.offset);
        *first = (*first).min(position.offset);
    }

    /// Commits what is below the first open letter of each partition.
    async fn commit(&mut self) -> anyhow::Result<()> {
        for (partition, offset) in &mut self.committed.offsets {
            let reached = self.reached.get(partition).copied().unwrap_or(*offset);
            let open = self.open.get(partition).copied().unwrap_or(i64::MAX);
            *offset = reached.min(open).max(*offset);
        }
        self.position.commit(&self.committed).await?;
        self.last_commit = Instant::now();
        Ok(())
    }
}
