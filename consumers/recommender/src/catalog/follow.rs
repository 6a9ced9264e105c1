//! From the topics to the table: a task for each partition, from its beginning and on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use millrace_kafka::{
    Admin, AssignedConsumer, AssignedRecord, AssignedRecords, KafkaConfig, Record, topics,
};
use millrace_retry::while_unavailable;
use millrace_schemas::{
    ItemStats, Message, SchemaError, SchemaRegistry, Signal, User, decode_with,
};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Catalog, Change};
use crate::config::CatalogConfig;
use crate::recommender::StartError;

/// Records that are applied in one go, under the lock: a new signal waits for no more than these.
const BATCH_RECORDS: usize = 64;

/// Which table a topic is.
#[derive(Clone, Copy)]
enum Kind {
    Signals,
    Stats,
    Users,
}

/// One partition to follow.
struct Followed {
    catalog: Arc<Catalog>,
    kind: Kind,
    topic: Arc<str>,
    partition: i32,
    registry: Option<Arc<dyn SchemaRegistry>>,
    embedding_version: Arc<str>,
}

/// Begins to read items and counters, and users where features read them, into a new catalog, until
/// `stop`.
///
/// # Errors
/// The brokers cannot be asked, or a topic is missing.
pub(crate) async fn follow_topics(
    kafka: &KafkaConfig,
    registry: Option<Arc<dyn SchemaRegistry>>,
    config: &CatalogConfig,
    embedding_version: &str,
    with_users: bool,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> Result<Arc<Catalog>, StartError> {
    let admin = Admin::connect(kafka)?;
    let mut partitions = Vec::new();
    let mut behind = BTreeSet::new();
    let users = with_users.then_some((Kind::Users, topics::USERS));
    for (kind, name) in [
        (Kind::Signals, topics::SIGNALS),
        (Kind::Stats, topics::ITEM_STATS),
    ]
    .into_iter()
    .chain(users)
    {
        let topic: Arc<str> = kafka.topic(name).into();
        let consumer = AssignedConsumer::start(kafka, name)?;
        for partition in admin.partitions(&topic).await? {
            behind.insert((Arc::clone(&topic), partition));
            let records = consumer.assign(partition, None);
            partitions.push((kind, Arc::clone(&topic), partition, records));
        }
    }
    let catalog = Arc::new(Catalog::new(config, behind));
    for (kind, topic, partition, records) in partitions {
        let followed = Followed {
            catalog: Arc::clone(&catalog),
            kind,
            topic,
            partition,
            registry: registry.clone(),
            embedding_version: embedding_version.into(),
        };
        let stop = stop.clone();
        tasks.spawn(async move { stop.run_until_cancelled(followed.run(records)).await });
    }
    Ok(catalog)
}

impl Followed {
    async fn run(self, mut records: AssignedRecords) {
        let mut batch = Vec::new();
        while records.recv_many(&mut batch, BATCH_RECORDS).await > 0 {
            let mut changes = Vec::with_capacity(batch.len());
            let (mut next, mut end) = (None, false);
            for record in batch.drain(..) {
                match record {
                    AssignedRecord::Record(record) => {
                        next = Some(record.offset + 1);
                        changes.extend(self.change(&record).await);
                    }
                    AssignedRecord::End => end = true,
                }
            }
            if let Some(next) = next {
                self.catalog
                    .apply(changes, &self.topic, self.partition, next);
            }
            if end {
                self.catalog.caught_up(&self.topic, self.partition);
            }
        }
        tracing::error!(
            topic = &*self.topic,
            partition = self.partition,
            "is read no more; what is recommended gets older from here on"
        );
    }

    async fn change(&self, record: &Record) -> Option<Change> {
        let Some(value) = record.value.as_deref() else {
            return self.removal(record);
        };
        let change = match self.kind {
            Kind::Signals => self.decode::<Signal>(value).await.map(|signal| {
                let traceparent = record.header("traceparent");
                let traceparent = traceparent.and_then(|value| std::str::from_utf8(value).ok());
                Change::Signal {
                    signal: Box::new(signal),
                    traceparent: traceparent.map(str::to_owned),
                }
            }),
            Kind::Stats => self
                .decode::<ItemStats>(value)
                .await
                .map(|stats| Change::Stats(Box::new(stats))),
            Kind::Users => self.decode::<User>(value).await.map(Change::User),
        };
        match change {
            Ok(Change::Signal { signal, .. })
                if signal.model_version != *self.embedding_version =>
            {
                self.catalog.other_models.fetch_add(1, Relaxed);
                None
            }
            Ok(change) => Some(change),
            Err(error) => {
                self.catalog.unreadable.fetch_add(1, Relaxed);
                tracing::warn!(origin = %record.origin(), %error, "cannot be read; left out");
                None
            }
        }
    }

    /// A record without a value: the item's last one is gone from the compacted topic.
    fn removal(&self, record: &Record) -> Option<Change> {
        let key = record.key_text()?;
        match self.kind {
            Kind::Stats => Some(Change::ForgetStats { item_id: key }),
            Kind::Users => Some(Change::ForgetUser { user_id: key }),
            Kind::Signals => {
                let (item_id, model_version) = key.split_once('@')?;
                (model_version == &*self.embedding_version).then(|| Change::ForgetSignal {
                    item_id: item_id.to_owned(),
                })
            }
        }
    }

    /// An unreachable schema registry makes this wait: nothing is wrong with the record.
    async fn decode<M: Message>(&self, value: &[u8]) -> Result<M, SchemaError> {
        let read = || decode_with::<M>(value, self.registry.as_deref());
        while_unavailable("reading a schema", SchemaError::is_retryable, read).await
    }
}
