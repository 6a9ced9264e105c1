//! One partition from its assignment to its end: claim, catch up with the topic beside, apply, write.
//!
//! A batch is what has come while the one before was being written, so a single click is written at
//! once and a flood in large steps. The order within a batch is what the promise rests on:
//!
//! 1. dead letters and outputs are acknowledged by the brokers;
//! 2. the state is written, changes and offsets in one step;
//! 3. the records are acknowledged, which moves the committed offset that shows the lag.
//!
//! A crash after 1 repeats outputs, with the origins they had; one after 2 repeats nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use millrace_kafka::{
    Admin, AdminError, AssignedConsumer, AssignedPartition, AssignedRecord, AssignedRecords,
    Delivery, Producer,
};
use millrace_retry::while_unavailable;
use millrace_state::{Position, Shard, ShardWriter, StateError, StateStore};
use tokio::sync::{mpsc, oneshot};

use crate::publish::publish;
use crate::work::{Batch, PartitionWork, Work, WorkError};

/// How often a partition is told of the clock.
const TICK: Duration = Duration::from_secs(1);

/// How a partition of this process stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing<V> {
    /// Where its state stands.
    pub position: Position,
    /// Whether all that was there of the topic beside has been read, and the consumer's own begun.
    pub started: bool,
    /// What the consumer itself tells.
    pub view: V,
}

/// What all partitions share.
pub(crate) struct Context<W: Work> {
    pub work: Arc<W>,
    pub producer: Producer,
    pub state: Arc<dyn StateStore>,
    pub admin: Admin,
    /// Of the topic beside: its reader and its full name.
    pub beside: Option<(AssignedConsumer, String)>,
    pub generation: u32,
    /// The generation that this one is to replace, while it is built.
    pub replays: Option<u32>,
    pub batch_records: usize,
    pub batch_bytes: usize,
    pub refused_writes: AtomicU64,
    pub standings: Mutex<BTreeMap<i32, Standing<ViewOf<W>>>>,
}

type ViewOf<W> = <<W as Work>::Partition as PartitionWork>::View;

/// Asks a partition to take its input as ended.
pub(crate) struct EndOfInput {
    /// The ends of its topics at that moment.
    pub own: i64,
    pub beside: i64,
    pub done: oneshot::Sender<()>,
}

/// Works on `assigned` until it is revoked.
pub(crate) async fn run<W: Work>(
    context: Arc<Context<W>>,
    assigned: AssignedPartition,
    requests: mpsc::Receiver<EndOfInput>,
) -> Result<(), WorkError> {
    let number = assigned.partition();
    let Some(mut partition) = Partition::open(Arc::clone(&context), assigned).await? else {
        return Ok(());
    };
    let ended = partition.run(requests).await;
    context.standings().remove(&number);
    match ended {
        Err(WorkError::State(StateError::Refused { .. })) => {
            context.refused_writes.fetch_add(1, Relaxed);
            tracing::warn!(
                consumer = W::NAME,
                partition = number,
                "the state stands elsewhere than this writer thought; claiming it again"
            );
            partition.assigned.begin_again();
            Ok(())
        }
        ended => ended,
    }
}

struct Partition<W: Work> {
    context: Arc<Context<W>>,
    assigned: AssignedPartition,
    work: W::Partition,
    beside: Option<AssignedRecords>,
    /// Where its topic begins, for a generation that is built and has read nothing: what is gone by
    /// retention counts as read, or else a partition that has nothing left would never be.
    begins: Option<i64>,
    started: bool,
    ending: Vec<EndOfInput>,
}

impl<W: Work> Partition<W> {
    /// Claims the state. `None` where the partition was lost meanwhile.
    async fn open(
        context: Arc<Context<W>>,
        assigned: AssignedPartition,
    ) -> Result<Option<Self>, WorkError> {
        let number = assigned.partition();
        let shard = Shard {
            generation: context.generation,
            partition: number,
        };
        let shard = ShardWriter::claim(Arc::clone(&context.state), shard).await?;
        tracing::info!(
            consumer = W::NAME,
            partition = number,
            epoch = shard.epoch(),
            position = %shard.position(),
            "claimed"
        );
        let work = context
            .work
            .open(shard, assigned.topic(), context.replays)
            .await?;
        let position = work.position();
        context.check_offsets(&assigned, &position).await?;
        if !assigned.is_current() {
            return Ok(None);
        }
        let begins = match position.get(W::TOPIC) {
            None if context.replays.is_some() => {
                let (start, _) = context.watermarks(assigned.topic(), number).await?;
                (start > 0).then_some(start)
            }
            _ => None,
        };
        let beside = context.beside.as_ref().map(|(reader, _)| {
            let offset = W::BESIDE.and_then(|topic| position.get(topic));
            reader.assign(number, offset)
        });
        let mut partition = Self {
            context,
            assigned,
            work,
            beside,
            begins,
            started: false,
            ending: Vec::new(),
        };
        if partition.beside.is_none() {
            partition.start();
        }
        partition.tell();
        Ok(Some(partition))
    }

    async fn run(&mut self, mut requests: mpsc::Receiver<EndOfInput>) -> Result<(), WorkError> {
        let (records, bytes) = (self.context.batch_records, self.context.batch_bytes);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut beside = Vec::new();
        loop {
            let mut deliveries = Vec::new();
            let backlog = self.work.has_backlog();
            tokio::select! {
                read = receive(&mut self.beside, &mut beside, records) => {
                    if read == 0 {
                        // Another assignment of the same partition reads them now.
                        return Ok(());
                    }
                }
                batch = self.assigned.recv_batch(records, bytes) => match batch {
                    Some(batch) => deliveries = batch,
                    None => return Ok(()),
                },
                Some(request) = requests.recv() => self.ending.push(request),
                _ = ticks.tick() => self.work.tick(Instant::now()),
                () = std::future::ready(()), if backlog => {}
            }
            let caught_up = self.beside.is_none() || beside.contains(&AssignedRecord::End);
            self.write(&mut beside, deliveries).await?;
            if caught_up && !self.started {
                // Only now: a backlog of the consumer's own topic would else outrun what is there
                // already of the other.
                self.start();
                self.tell();
            }
            self.end_input(caught_up).await?;
        }
    }

    fn start(&mut self) {
        self.started = true;
        self.assigned.start_at(self.work.position().get(W::TOPIC));
    }

    /// Takes one batch from the topics to the state.
    async fn write(
        &mut self,
        beside: &mut Vec<AssignedRecord>,
        deliveries: Vec<Delivery>,
    ) -> Result<(), WorkError> {
        let batch = self.batch(beside, &deliveries);
        let next = batch.next.clone();
        if let Some(step) = self.work.apply(batch).await? {
            publish(&self.context.producer, &step.outputs).await?;
            self.work.commit(next, step.changes).await?;
            self.work.committed();
        }
        deliveries.into_iter().for_each(Delivery::ack);
        self.tell();
        Ok(())
    }

    fn batch<'a>(&self, beside: &mut Vec<AssignedRecord>, deliveries: &'a [Delivery]) -> Batch<'a> {
        let mut next = self.work.position();
        if let (None, Some(begins)) = (next.get(W::TOPIC), self.begins) {
            next = next.with(W::TOPIC, begins);
        }
        let given = beside.drain(..).filter_map(|given| match given {
            AssignedRecord::Record(record) => Some(record),
            AssignedRecord::End => None,
        });
        let beside: Vec<_> = given.collect();
        if let (Some(topic), Some(last)) = (W::BESIDE, beside.last()) {
            next = next.with(topic, last.offset + 1);
        }
        // Applied before the last write; librdkafka gives them again only after an error.
        let known = next.get(W::TOPIC).unwrap_or(0);
        let new = deliveries
            .iter()
            .filter(|delivery| delivery.offset >= known);
        let records: Vec<_> = new.map(|delivery| &**delivery).collect();
        if let Some(last) = records.last() {
            next = next.with(W::TOPIC, last.offset + 1);
        }
        Batch {
            records,
            beside,
            next,
            now: Instant::now(),
        }
    }

    /// Answers those whose end was reached.
    async fn end_input(&mut self, caught_up: bool) -> Result<(), WorkError> {
        if self.ending.is_empty() {
            return Ok(());
        }
        let position = self.work.position();
        let stands = |topic| position.get(topic).unwrap_or(0);
        let reached = |request: &EndOfInput| {
            stands(W::TOPIC) >= request.own
                && W::BESIDE.is_none_or(|topic| caught_up || stands(topic) >= request.beside)
        };
        let (ended, open) = std::mem::take(&mut self.ending)
            .into_iter()
            .partition::<Vec<_>, _>(reached);
        self.ending = open;
        if ended.is_empty() {
            return Ok(());
        }
        self.work.end_of_input();
        loop {
            self.write(&mut Vec::new(), Vec::new()).await?;
            if !self.work.has_backlog() {
                break;
            }
        }
        for request in ended {
            // Whoever asked may have left.
            let _ = request.done.send(());
        }
        Ok(())
    }

    fn tell(&self) {
        let standing = Standing {
            position: self.work.position(),
            started: self.started,
            view: self.work.view(),
        };
        let partition = self.assigned.partition();
        self.context.standings().insert(partition, standing);
    }
}

/// Waits for ever where there is no topic beside.
async fn receive(
    beside: &mut Option<AssignedRecords>,
    records: &mut Vec<AssignedRecord>,
    max: usize,
) -> usize {
    match beside {
        Some(beside) => beside.recv_many(records, max).await,
        None => std::future::pending().await,
    }
}

impl<W: Work> Context<W> {
    pub fn standings(&self) -> std::sync::MutexGuard<'_, BTreeMap<i32, Standing<ViewOf<W>>>> {
        self.standings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses a state that has read further than a topic goes; tells of records that were deleted
    /// before they were read.
    async fn check_offsets(
        &self,
        assigned: &AssignedPartition,
        position: &Position,
    ) -> Result<(), WorkError> {
        let partition = assigned.partition();
        let beside = self.beside.as_ref().zip(W::BESIDE);
        let beside = beside.map(|((_, topic), source)| (topic.as_str(), source));
        for (topic, source) in [Some((assigned.topic(), W::TOPIC)), beside]
            .into_iter()
            .flatten()
        {
            let Some(position) = position.get(source) else {
                continue;
            };
            let (start, end) = self.watermarks(topic, partition).await?;
            if position > end {
                return Err(WorkError::TopicWentBack {
                    consumer: W::NAME,
                    topic: topic.to_owned(),
                    partition,
                    end,
                    position,
                });
            }
            // A compacted topic starts where it does; what is gone from it was replaced.
            if position < start && source == W::TOPIC {
                tracing::error!(
                    topic,
                    partition,
                    lost = start - position,
                    "records were deleted by retention before they were read"
                );
            }
        }
        Ok(())
    }

    /// Where a partition begins and ends, asked until the brokers answer.
    async fn watermarks(&self, topic: &str, partition: i32) -> Result<(i64, i64), AdminError> {
        let is_retryable = |error: &AdminError| matches!(error, AdminError::Kafka { .. });
        let ask = || self.admin.watermarks(topic, partition);
        while_unavailable("asking for offsets", is_retryable, ask).await
    }
}
