//! Reading chosen partitions of a topic, each from an offset of the caller's, without a group.
//!
//! For the second side of a join: the group gives a process partitions of one topic, and it reads
//! the same partitions of another one beside them. One thread and one connection serve them all; a
//! partition whose reader is slow pauses, the others go on.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc as commands;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::{ConsumerError, KafkaConfig, Record};

/// Records of a partition that wait for a slow reader before it pauses.
const BUFFERED_RECORDS: usize = 1024;
/// How soon a new partition is begun, and a drained one resumed.
const POLL_TIMEOUT: Duration = Duration::from_millis(10);

/// What a partition gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AssignedRecord {
    /// The next record.
    Record(Record),
    /// All there was at this moment has been given; comes again after more was.
    End,
}

/// Reads partitions of one topic; cheap to clone. Its thread ends with the last clone.
#[derive(Clone)]
pub struct AssignedConsumer {
    commands: Arc<commands::Sender<Command>>,
}

/// One partition's records, in order. Dropped, the partition is read no more.
pub struct AssignedRecords {
    records: mpsc::Receiver<AssignedRecord>,
    partition: i32,
    number: u64,
    commands: Arc<commands::Sender<Command>>,
}

enum Command {
    Assign {
        partition: i32,
        offset: Option<i64>,
        number: u64,
        records: mpsc::Sender<AssignedRecord>,
    },
    Unassign {
        partition: i32,
        number: u64,
    },
}

impl AssignedConsumer {
    /// For the topic declared as `topic`. Brokers and topic need not be there yet.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn start(kafka: &KafkaConfig, topic: &str) -> Result<Self, ConsumerError> {
        let topic = kafka.topic(topic);
        let consumer: BaseConsumer =
            kafka
                .reader_client()?
                .create()
                .map_err(|source| ConsumerError::Client {
                    group: format!("(none, reading {topic})"),
                    source,
                })?;
        let (sender, receiver) = commands::channel();
        let thread = Thread {
            consumer,
            topic,
            partitions: HashMap::new(),
        };
        std::thread::Builder::new()
            .name("poll-assigned".to_owned())
            .spawn(move || thread.run(&receiver))
            .map_err(ConsumerError::Thread)?;
        Ok(Self {
            commands: Arc::new(sender),
        })
    }

    /// Reads `partition` from `offset`, or from its oldest record. Asked for twice, the later
    /// reader has it and the earlier one's records end.
    #[must_use]
    pub fn assign(&self, partition: i32, offset: Option<i64>) -> AssignedRecords {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let (sender, records) = mpsc::channel(BUFFERED_RECORDS);
        // A thread that has gone drops the sender: the records end.
        let _ = self.commands.send(Command::Assign {
            partition,
            offset,
            number,
            records: sender,
        });
        AssignedRecords {
            records,
            partition,
            number,
            commands: Arc::clone(&self.commands),
        }
    }
}

impl AssignedRecords {
    /// Appends what is there to `batch`, at most `max` of it, waiting for the first. 0 once nothing
    /// more will come.
    ///
    /// Safe to cancel.
    pub async fn recv_many(&mut self, batch: &mut Vec<AssignedRecord>, max: usize) -> usize {
        self.records.recv_many(batch, max).await
    }
}

impl Drop for AssignedRecords {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Unassign {
            partition: self.partition,
            number: self.number,
        });
    }
}

struct Thread {
    consumer: BaseConsumer,
    topic: String,
    partitions: HashMap<i32, Partition>,
}

struct Partition {
    number: u64,
    records: mpsc::Sender<AssignedRecord>,
    /// What the reader had no room for; the partition is paused until it has.
    waiting: VecDeque<AssignedRecord>,
}

impl Thread {
    fn run(mut self, commands: &commands::Receiver<Command>) {
        loop {
            loop {
                match commands.try_recv() {
                    Ok(command) => self.obey(command),
                    Err(commands::TryRecvError::Empty) => break,
                    Err(commands::TryRecvError::Disconnected) => return,
                }
            }
            self.resume_drained();
            match self.consumer.poll(POLL_TIMEOUT) {
                None => {}
                Some(Ok(message)) => {
                    let record = Record::copy_from(&message);
                    self.give(record.partition, AssignedRecord::Record(record));
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.give(partition, AssignedRecord::End);
                }
                // librdkafka reconnects, and waits for a topic, by itself.
                Some(Err(error)) => tracing::warn!(topic = self.topic, %error, "while reading"),
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Assign {
                partition,
                offset,
                number,
                records,
            } => {
                if self.partitions.remove(&partition).is_some() {
                    self.unassign(partition);
                }
                let offset = offset.map_or(Offset::Beginning, Offset::Offset);
                let mut list = TopicPartitionList::with_capacity(1);
                let assigned = list
                    .add_partition_offset(&self.topic, partition, offset)
                    .and_then(|()| self.consumer.incremental_assign(&list));
                match assigned {
                    Ok(()) => {
                        let waiting = VecDeque::new();
                        let partition_state = Partition {
                            number,
                            records,
                            waiting,
                        };
                        self.partitions.insert(partition, partition_state);
                    }
                    // The sender is dropped, so the reader learns of it.
                    Err(error) => {
                        tracing::error!(topic = self.topic, partition, %error, "cannot be assigned");
                    }
                }
            }
            Command::Unassign { partition, number } => {
                let current = self.partitions.get(&partition);
                if current.is_some_and(|current| current.number == number) {
                    self.partitions.remove(&partition);
                    self.unassign(partition);
                }
            }
        }
    }

    fn list(&self, partition: i32) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(&self.topic, partition);
        list
    }

    fn unassign(&self, partition: i32) {
        if let Err(error) = self.consumer.incremental_unassign(&self.list(partition)) {
            tracing::warn!(topic = self.topic, partition, %error, "cannot be unassigned");
        }
    }

    fn give(&mut self, number: i32, record: AssignedRecord) {
        let Some(partition) = self.partitions.get_mut(&number) else {
            return;
        };
        if !partition.waiting.is_empty() {
            partition.waiting.push_back(record);
            return;
        }
        match partition.records.try_send(record) {
            // Where the reader is gone its command to unassign is on its way.
            Ok(()) | Err(TrySendError::Closed(_)) => {}
            Err(TrySendError::Full(record)) => {
                partition.waiting.push_back(record);
                if let Err(error) = self.consumer.pause(&self.list(number)) {
                    tracing::warn!(topic = self.topic, number, %error, "cannot be paused");
                }
            }
        }
    }

    /// Hands out what waited, and sets partitions going whose readers took all of it.
    fn resume_drained(&mut self) {
        let mut drained = Vec::new();
        for (&number, partition) in &mut self.partitions {
            if partition.waiting.is_empty() {
                continue;
            }
            while let Some(record) = partition.waiting.pop_front() {
                match partition.records.try_send(record) {
                    Ok(()) | Err(TrySendError::Closed(_)) => {}
                    Err(TrySendError::Full(record)) => {
                        partition.waiting.push_front(record);
                        break;
                    }
                }
            }
            if partition.waiting.is_empty() {
                drained.push(number);
            }
        }
        for number in drained {
            if let Err(error) = self.consumer.resume(&self.list(number)) {
                tracing::warn!(topic = self.topic, number, %error, "cannot be resumed");
            }
        }
    }
}
