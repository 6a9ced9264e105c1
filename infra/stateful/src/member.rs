//! One generation's membership in its group: a task for each partition that is assigned.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millrace_kafka::{
    Admin, AssignedConsumer, ConsumerConfig, ConsumerHandle, ConsumerState, Drained,
    PartitionedConsumer,
};
use millrace_retry::error_chain;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::deps::{Deps, StartError, group};
use crate::partition::{self, Context, EndOfInput};
use crate::work::Work;

/// How often an end of input looks whether a partition has a task again.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Bytes of a partition's records that wait in memory.
const QUEUED_BYTES: usize = 16 << 20;

pub(crate) struct Member<W: Work> {
    pub context: Arc<Context<W>>,
    pub consumer: ConsumerHandle,
    /// Where each partition's task takes requests.
    partitions: Mutex<BTreeMap<i32, mpsc::Sender<EndOfInput>>>,
    /// Why it can do nothing more, once it can't.
    failure: watch::Sender<Option<String>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl<W: Work> Member<W> {
    /// Joins the group of `generation`; `replays` names the generation that it is to replace.
    pub fn start(
        deps: &Deps,
        admin: &Admin,
        work: &Arc<W>,
        generation: u32,
        replays: Option<u32>,
    ) -> Result<Arc<Self>, StartError> {
        let kafka = &deps.kafka;
        let beside = match W::BESIDE {
            Some(topic) => Some((AssignedConsumer::start(kafka, topic)?, kafka.topic(topic))),
            None => None,
        };
        let mut config = ConsumerConfig::new(group(kafka, W::NAME, generation), &[W::TOPIC]);
        // While one batch is written the next one gathers.
        config.max_queued_messages_per_partition = 2 * deps.batch_records;
        config.max_queued_bytes_per_partition = QUEUED_BYTES.max(2 * deps.batch_bytes);
        let consumer = PartitionedConsumer::start(kafka, &config)?;
        let member = Arc::new(Self {
            context: Arc::new(Context {
                work: Arc::clone(work),
                producer: deps.producer.clone(),
                state: Arc::clone(&deps.state),
                admin: admin.clone(),
                beside,
                generation,
                replays,
                batch_records: deps.batch_records,
                batch_bytes: deps.batch_bytes,
                refused_writes: AtomicU64::new(0),
                standings: Mutex::default(),
            }),
            consumer: consumer.handle(),
            partitions: Mutex::default(),
            failure: watch::Sender::new(None),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        member.tasks.spawn(Arc::clone(&member).run(consumer));
        Ok(member)
    }

    /// Returns once it can do nothing more, with why.
    pub async fn failed(&self) -> String {
        let mut failure = self.failure.subscribe();
        let failed = failure.wait_for(Option::is_some).await;
        // What it borrows is not to be held while waiting.
        match failed.map(|reason| reason.clone().unwrap_or_default()) {
            Ok(reason) => reason,
            // The sender is this member's own.
            Err(_) => std::future::pending().await,
        }
    }

    /// Takes nothing more, finishes what was begun within `deadline`, commits, leaves the group.
    pub async fn drain(&self, deadline: Duration) -> Drained {
        self.consumer.shutdown(deadline).await
    }

    /// Ends what is left.
    pub async fn stop(&self) {
        self.cut_off();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Ends it where the guard is dropped.
    pub fn guard(&self) -> tokio_util::sync::DropGuard {
        self.stop.clone().drop_guard()
    }

    /// Ends what is left, without waiting for it.
    pub fn cut_off(&self) {
        self.stop.cancel();
    }

    /// Has each partition of this process take its input as ended at these offsets.
    pub async fn end_input(&self, own_ends: &BTreeMap<i32, i64>, beside_ends: &BTreeMap<i32, i64>) {
        while self.consumer.metrics().partitions.is_empty() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        for (&partition, &own) in own_ends {
            let beside = beside_ends.get(&partition).copied().unwrap_or(0);
            // Asked again where the partition's task ended before it answered: it may have claimed
            // its state anew, or be another member's by now.
            while self.has_partition(partition) {
                let (done, answered) = oneshot::channel();
                let request = EndOfInput { own, beside, done };
                let requests = self.partitions().get(&partition).cloned();
                if let Some(requests) = requests
                    && requests.send(request).await.is_ok()
                    && answered.await.is_ok()
                {
                    break;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }

    async fn run(self: Arc<Self>, mut consumer: PartitionedConsumer) {
        while let Some(Some(assigned)) = self
            .stop
            .run_until_cancelled(consumer.next_assignment())
            .await
        {
            let (sender, requests) = mpsc::channel(1);
            let number = assigned.partition();
            self.partitions().insert(number, sender);
            let member = Arc::clone(&self);
            self.tasks.spawn(async move {
                let work = partition::run(Arc::clone(&member.context), assigned, requests);
                if let Some(Err(error)) = member.stop.run_until_cancelled(work).await {
                    member.fail(format!("partition {number}: {}", error_chain(&error)));
                }
            });
        }
        if let ConsumerState::Fatal { reason } = &*consumer.health().borrow() {
            self.fail(reason.clone());
        }
        // Its partitions are given the time to finish by whoever asked it to stop.
        self.stop.cancelled().await;
        drop(consumer);
    }

    fn fail(&self, reason: String) {
        self.failure.send_replace(Some(reason));
        self.cut_off();
    }

    fn partitions(&self) -> MutexGuard<'_, BTreeMap<i32, mpsc::Sender<EndOfInput>>> {
        self.partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn has_partition(&self, partition: i32) -> bool {
        let assigned = self.consumer.metrics().partitions;
        assigned
            .iter()
            .any(|assigned| assigned.partition == partition)
    }
}
