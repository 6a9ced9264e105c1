//! The transaction coordinator.
//!
//! Every step is a fact in the journal before it is answered. Ending a transaction takes three: the
//! decision (`Prepare…`), a marker in each partition, and the completion, with which a commit's
//! offsets take effect. A crash between them is finished on the next start; a marker that is there
//! already is not written twice, since only partitions where the transaction is open get one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use tracing::{info, warn};

use crate::clock::now_ms;
use crate::journal::Journal;
use crate::log::AppendError;
use crate::metadata::{CommittedOffset, Fact, TopicPartition, TransactionRecord, TransactionState};
use crate::partition::{Partition, Stored};
use crate::storage::FlushPolicy;
use crate::topic_config::TopicConfig;
use crate::topics::Topics;

const MAX_TIMEOUT_MS: i32 = 900_000;

/// A producer's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
}

/// A transactional append that was refused.
#[derive(Debug)]
pub enum TransactionalAppendError {
    Refused(ResponseError),
    Append(AppendError),
}

/// All transactional ids.
#[derive(Debug)]
pub struct Transactions {
    /// Held from a check to what depends on it, markers and transactional appends included: an append
    /// that slipped in behind its own marker would stay open forever (KIP-890).
    order: Mutex<()>,
    journal: Arc<Journal>,
    topics: Arc<Topics>,
    policy: FlushPolicy,
}

impl Transactions {
    pub fn new(journal: Arc<Journal>, topics: Arc<Topics>, policy: FlushPolicy) -> Transactions {
        Transactions {
            order: Mutex::default(),
            journal,
            topics,
            policy,
        }
    }

    fn order(&self) -> MutexGuard<'_, ()> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record_of(&self, id: &str) -> Option<TransactionRecord> {
        self.journal
            .read(|metadata| metadata.transactions.get(id).cloned())
    }

    fn record(&self, id: &str, record: TransactionRecord) -> Result<(), ResponseError> {
        self.write(vec![Fact::Transaction {
            id: id.to_owned(),
            record,
        }])
    }

    fn write(&self, facts: Vec<Fact>) -> Result<(), ResponseError> {
        self.journal.record(facts).map_err(|error| {
            warn!(%error, "a transaction could not be recorded");
            ResponseError::CoordinatorNotAvailable
        })
    }

    /// An identity for an idempotent producer without a transactional id.
    pub fn new_producer(&self) -> Result<Producer, ResponseError> {
        let _order = self.order();
        self.next_producer_id().map(|id| Producer { id, epoch: 0 })
    }

    fn next_producer_id(&self) -> Result<i64, ResponseError> {
        let id = self.journal.read(|metadata| metadata.next_producer_id);
        self.write(vec![Fact::NextProducerId { id: id + 1 }])?;
        Ok(id)
    }

    /// Gives a transactional id to its newest holder: fences the former one and aborts what it left.
    /// `current` is what a producer that goes on after an error believes to be.
    pub fn init(
        &self,
        id: &str,
        timeout_ms: i32,
        current: Option<Producer>,
    ) -> Result<Producer, ResponseError> {
        if id.is_empty() {
            return Err(ResponseError::InvalidRequest);
        }
        if !(1..=MAX_TIMEOUT_MS).contains(&timeout_ms) {
            return Err(ResponseError::InvalidTransactionTimeout);
        }
        let _order = self.order();
        let known = self.record_of(id);
        if let (Some(current), Some(known)) = (current, &known)
            && (current.id != known.producer_id || current.epoch != known.epoch)
        {
            return Err(ResponseError::ProducerFenced);
        }
        let mut record = match known {
            Some(record) => record,
            None => TransactionRecord {
                producer_id: self.next_producer_id()?,
                epoch: -1,
                timeout_ms,
                state: TransactionState::Empty,
                started_ms: 0,
                partitions: Vec::new(),
                groups: Vec::new(),
                offsets: Vec::new(),
            },
        };
        record = match record.state {
            TransactionState::Ongoing => {
                // The markers carry the new epoch, which fences the former holder in the partitions too.
                record.epoch = next_epoch(record.epoch);
                self.decide(id, record, false)?
            }
            TransactionState::PrepareCommit | TransactionState::PrepareAbort => {
                self.finish(id, &record)?
            }
            TransactionState::Empty
            | TransactionState::CompleteCommit
            | TransactionState::CompleteAbort => record,
        };
        if record.epoch >= i16::MAX - 1 {
            record.producer_id = self.next_producer_id()?;
            record.epoch = -1;
        }
        record.epoch += 1;
        record.state = TransactionState::Empty;
        record.timeout_ms = timeout_ms;
        let producer = Producer {
            id: record.producer_id,
            epoch: record.epoch,
        };
        self.record(id, record)?;
        Ok(producer)
    }

    fn check(&self, id: &str, producer: Producer) -> Result<TransactionRecord, ResponseError> {
        let record = self
            .record_of(id)
            .ok_or(ResponseError::InvalidProducerIdMapping)?;
        if record.producer_id != producer.id {
            return Err(ResponseError::InvalidProducerIdMapping);
        }
        if record.epoch != producer.epoch {
            return Err(ResponseError::ProducerFenced);
        }
        Ok(record)
    }

    /// The record of a transaction that may take more, started if it was not.
    fn ongoing(&self, id: &str, producer: Producer) -> Result<TransactionRecord, ResponseError> {
        let mut record = self.check(id, producer)?;
        match record.state {
            TransactionState::Ongoing => {}
            TransactionState::PrepareCommit | TransactionState::PrepareAbort => {
                return Err(ResponseError::ConcurrentTransactions);
            }
            TransactionState::Empty
            | TransactionState::CompleteCommit
            | TransactionState::CompleteAbort => {
                record.state = TransactionState::Ongoing;
                record.started_ms = now_ms();
            }
        }
        Ok(record)
    }

    pub fn add_partitions(
        &self,
        id: &str,
        producer: Producer,
        partitions: Vec<TopicPartition>,
    ) -> Result<(), ResponseError> {
        let _order = self.order();
        let mut record = self.ongoing(id, producer)?;
        for partition in partitions {
            if !record.partitions.contains(&partition) {
                record.partitions.push(partition);
            }
        }
        self.record(id, record)
    }

    pub fn add_group(
        &self,
        id: &str,
        producer: Producer,
        group: &str,
    ) -> Result<(), ResponseError> {
        let _order = self.order();
        let mut record = self.ongoing(id, producer)?;
        if !record.groups.iter().any(|known| known == group) {
            record.groups.push(group.to_owned());
        }
        self.record(id, record)
    }

    pub fn add_offsets(
        &self,
        id: &str,
        producer: Producer,
        group: &str,
        offsets: Vec<(TopicPartition, CommittedOffset)>,
    ) -> Result<(), ResponseError> {
        let _order = self.order();
        let mut record = self.check(id, producer)?;
        if record.state != TransactionState::Ongoing
            || !record.groups.iter().any(|known| known == group)
        {
            return Err(ResponseError::InvalidTxnState);
        }
        for (at, offset) in offsets {
            record
                .offsets
                .retain(|(of, pending, _)| of != group || *pending != at);
            record.offsets.push((group.to_owned(), at, offset));
        }
        self.record(id, record)
    }

    /// Appends a batch of a transaction, which must be under way and know the partition.
    pub fn append(
        &self,
        id: &str,
        producer: Producer,
        at: &TopicPartition,
        partition: &Partition,
        batch: &Bytes,
        config: &TopicConfig,
    ) -> Result<Stored, TransactionalAppendError> {
        let _order = self.order();
        let record = self.check(id, producer).map_err(|error| {
            // On this path clients know the older name of the same thing.
            let fenced = error == ResponseError::ProducerFenced;
            TransactionalAppendError::Refused(if fenced {
                ResponseError::InvalidProducerEpoch
            } else {
                error
            })
        })?;
        if record.state != TransactionState::Ongoing || !record.partitions.contains(at) {
            return Err(TransactionalAppendError::Refused(
                ResponseError::InvalidTxnState,
            ));
        }
        partition
            .append(batch, config, self.policy)
            .map_err(TransactionalAppendError::Append)
    }

    /// Commits or aborts.
    pub fn end(&self, id: &str, producer: Producer, commit: bool) -> Result<(), ResponseError> {
        let _order = self.order();
        let record = self.check(id, producer)?;
        match (record.state, commit) {
            (TransactionState::Ongoing, _) => self.decide(id, record, commit).map(drop),
            // The answer to an earlier try was lost.
            (TransactionState::CompleteCommit, true) | (TransactionState::CompleteAbort, false) => {
                Ok(())
            }
            (TransactionState::PrepareCommit, true) | (TransactionState::PrepareAbort, false) => {
                self.finish(id, &record).map(drop)
            }
            _ => Err(ResponseError::InvalidTxnState),
        }
    }

    fn decide(
        &self,
        id: &str,
        mut record: TransactionRecord,
        commit: bool,
    ) -> Result<TransactionRecord, ResponseError> {
        record.state = if commit {
            TransactionState::PrepareCommit
        } else {
            TransactionState::PrepareAbort
        };
        self.record(id, record.clone())?;
        self.finish(id, &record)
    }

    fn finish(
        &self,
        id: &str,
        record: &TransactionRecord,
    ) -> Result<TransactionRecord, ResponseError> {
        let commit = record.state == TransactionState::PrepareCommit;
        for at in &record.partitions {
            let Some((topic, partition)) = self.topics.partition(&at.topic, at.partition) else {
                continue;
            };
            let ended = partition.end_transaction(
                record.producer_id,
                record.epoch,
                commit,
                &topic.config(),
                self.policy,
            );
            if let Err(error) = ended {
                warn!(transaction = id, topic = at.topic, partition = at.partition, %error, "a marker could not be written; it will be tried again");
                return Err(ResponseError::ConcurrentTransactions);
            }
        }
        self.write(vec![Fact::TransactionCompleted { id: id.to_owned() }])?;
        self.record_of(id)
            .ok_or(ResponseError::InvalidProducerIdMapping)
    }

    /// Finishes what was decided, and aborts what took longer than its timeout. Returns whether
    /// readers may see more now.
    pub fn tick(&self) -> bool {
        let due = self.journal.read(|metadata| {
            let now_ms = now_ms();
            let is_due = |record: &TransactionRecord| match record.state {
                TransactionState::PrepareCommit | TransactionState::PrepareAbort => true,
                TransactionState::Ongoing => {
                    now_ms - record.started_ms > i64::from(record.timeout_ms)
                }
                TransactionState::Empty
                | TransactionState::CompleteCommit
                | TransactionState::CompleteAbort => false,
            };
            let due = metadata
                .transactions
                .iter()
                .filter(|(_, record)| is_due(record));
            due.map(|(id, _)| id.clone()).collect::<Vec<_>>()
        });
        let mut advanced = false;
        for id in due {
            let _order = self.order();
            let Some(mut record) = self.record_of(&id) else {
                continue;
            };
            let finished = match record.state {
                TransactionState::PrepareCommit | TransactionState::PrepareAbort => {
                    self.finish(&id, &record)
                }
                TransactionState::Ongoing
                    if now_ms() - record.started_ms > i64::from(record.timeout_ms) =>
                {
                    info!(
                        transaction = id,
                        timeout_ms = record.timeout_ms,
                        "aborting a transaction that timed out"
                    );
                    record.epoch = next_epoch(record.epoch);
                    self.decide(&id, record, false)
                }
                _ => continue,
            };
            advanced |= finished.is_ok();
        }
        advanced
    }
}

fn next_epoch(epoch: i16) -> i16 {
    epoch.checked_add(1).unwrap_or(epoch)
}
