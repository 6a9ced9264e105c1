//! Everything durable that is not a record: topics, committed offsets, groups, transactions.
//!
//! [`Metadata`] is the fold of [`Fact`]s. The journal holds the facts; opening it folds them again,
//! and a snapshot is the shortest list of facts with the same fold.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Topic and partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    pub topic: String,
    pub partition: i32,
}

/// A change that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Fact {
    Cluster {
        id: String,
    },
    Topic {
        name: String,
        record: TopicRecord,
    },
    TopicDeleted {
        name: String,
    },
    NextTopicId {
        id: u64,
    },
    NextProducerId {
        id: i64,
    },
    Offsets {
        group: String,
        offsets: Vec<(TopicPartition, CommittedOffset)>,
    },
    OffsetsDeleted {
        group: String,
        partitions: Vec<TopicPartition>,
    },
    Group {
        id: String,
        record: GroupRecord,
    },
    GroupDeleted {
        id: String,
    },
    Transaction {
        id: String,
        record: TransactionRecord,
    },
    /// The markers are written; a commit's offsets take effect with this very line.
    TransactionCompleted {
        id: String,
    },
}

/// A topic as declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicRecord {
    /// Distinguishes a topic from an earlier one of its name.
    pub id: u64,
    pub partitions: i32,
    pub config: BTreeMap<String, String>,
}

/// A consumer group's position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedOffset {
    pub offset: i64,
    pub leader_epoch: i32,
    pub metadata: String,
    pub committed_ms: i64,
}

/// A group between rebalances, so that a restart of the broker causes none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRecord {
    pub generation: i32,
    pub protocol_type: String,
    pub protocol: Option<String>,
    pub leader: Option<String>,
    pub members: Vec<MemberRecord>,
    /// Since when it has had no members.
    pub empty_since_ms: Option<i64>,
}

/// A member of a stable group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    pub id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    pub protocols: Vec<(String, Base64)>,
    pub assignment: Base64,
}

/// How far a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransactionState {
    Empty,
    Ongoing,
    /// Decided; the markers may be missing in some partitions.
    PrepareCommit,
    PrepareAbort,
    CompleteCommit,
    CompleteAbort,
}

/// The producer and the transaction of a transactional id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionRecord {
    pub producer_id: i64,
    pub epoch: i16,
    pub timeout_ms: i32,
    pub state: TransactionState,
    pub started_ms: i64,
    pub partitions: Vec<TopicPartition>,
    /// Groups whose offsets the transaction may commit.
    pub groups: Vec<String>,
    /// Offsets that take effect when it commits.
    pub offsets: Vec<(String, TopicPartition, CommittedOffset)>,
}

/// Opaque bytes of the protocol, as text in the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Base64(pub bytes::Bytes);

impl Serialize for Base64 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use base64::Engine as _;
        serializer.serialize_str(&base64::engine::general_purpose::STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Base64, D::Error> {
        use base64::Engine as _;
        let text = String::deserialize(deserializer)?;
        let decoded = base64::engine::general_purpose::STANDARD.decode(text);
        decoded
            .map(|bytes| Base64(bytes.into()))
            .map_err(serde::de::Error::custom)
    }
}

/// Offsets of one group.
pub type GroupOffsets = BTreeMap<TopicPartition, CommittedOffset>;

/// The present state.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    pub cluster_id: String,
    pub topics: BTreeMap<String, TopicRecord>,
    pub next_topic_id: u64,
    pub next_producer_id: i64,
    pub offsets: BTreeMap<String, GroupOffsets>,
    pub groups: BTreeMap<String, GroupRecord>,
    pub transactions: BTreeMap<String, TransactionRecord>,
}

impl Metadata {
    pub fn apply(&mut self, fact: Fact) {
        match fact {
            Fact::Cluster { id } => self.cluster_id = id,
            Fact::Topic { name, record } => {
                self.next_topic_id = self.next_topic_id.max(record.id + 1);
                self.topics.insert(name, record);
            }
            Fact::TopicDeleted { name } => {
                self.topics.remove(&name);
                for offsets in self.offsets.values_mut() {
                    offsets.retain(|at, _| at.topic != name);
                }
                self.offsets.retain(|_, offsets| !offsets.is_empty());
                for transaction in self.transactions.values_mut() {
                    transaction.partitions.retain(|at| at.topic != name);
                }
            }
            Fact::NextTopicId { id } => self.next_topic_id = self.next_topic_id.max(id),
            Fact::NextProducerId { id } => self.next_producer_id = self.next_producer_id.max(id),
            Fact::Offsets { group, offsets } => {
                self.offsets.entry(group).or_default().extend(offsets);
            }
            Fact::OffsetsDeleted { group, partitions } => {
                if let Some(offsets) = self.offsets.get_mut(&group) {
                    offsets.retain(|at, _| !partitions.contains(at));
                    if offsets.is_empty() {
                        self.offsets.remove(&group);
                    }
                }
            }
            Fact::Group { id, record } => drop(self.groups.insert(id, record)),
            Fact::GroupDeleted { id } => {
                self.groups.remove(&id);
                self.offsets.remove(&id);
            }
            Fact::Transaction { id, record } => drop(self.transactions.insert(id, record)),
            Fact::TransactionCompleted { id } => self.complete_transaction(&id),
        }
    }

    fn complete_transaction(&mut self, id: &str) {
        let Some(transaction) = self.transactions.get_mut(id) else {
            return;
        };
        let committed = transaction.state == TransactionState::PrepareCommit;
        transaction.state = if committed {
            TransactionState::CompleteCommit
        } else {
            TransactionState::CompleteAbort
        };
        transaction.partitions.clear();
        transaction.groups.clear();
        let offsets = std::mem::take(&mut transaction.offsets);
        for (group, at, offset) in offsets {
            // A topic deleted meanwhile takes its offsets along.
            if committed && self.topics.contains_key(&at.topic) {
                self.offsets.entry(group).or_default().insert(at, offset);
            }
        }
    }

    /// The facts that make this state from nothing.
    pub fn facts(&self) -> Vec<Fact> {
        let mut facts = vec![
            Fact::Cluster {
                id: self.cluster_id.clone(),
            },
            Fact::NextTopicId {
                id: self.next_topic_id,
            },
            Fact::NextProducerId {
                id: self.next_producer_id,
            },
        ];
        let topics = self.topics.iter().map(|(name, record)| Fact::Topic {
            name: name.clone(),
            record: record.clone(),
        });
        facts.extend(topics);
        facts.extend(self.offsets.iter().map(|(group, offsets)| {
            Fact::Offsets {
                group: group.clone(),
                offsets: offsets
                    .iter()
                    .map(|(at, offset)| (at.clone(), offset.clone()))
                    .collect(),
            }
        }));
        facts.extend(self.groups.iter().map(|(id, record)| Fact::Group {
            id: id.clone(),
            record: record.clone(),
        }));
        let transactions = self
            .transactions
            .iter()
            .map(|(id, record)| Fact::Transaction {
                id: id.clone(),
                record: record.clone(),
            });
        facts.extend(transactions);
        facts
    }

    /// Whether an unfinished transaction holds offsets of a group back.
    pub fn has_pending_offsets(&self, group: &str, at: &TopicPartition) -> bool {
        self.transactions.values().any(|transaction| {
            transaction
                .offsets
                .iter()
                .any(|(of, pending, _)| of == group && pending == at)
        })
    }
}
