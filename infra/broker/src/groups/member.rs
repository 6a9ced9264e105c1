//! One member of a consumer group.

use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ConsumerProtocolSubscription;
use kafka_protocol::protocol::Decodable;
use tokio::sync::oneshot;

use crate::metadata::{Base64, MemberRecord};

/// What a member gets when a rebalance has gathered everybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    pub generation: i32,
    pub protocol_type: String,
    pub protocol: String,
    pub leader: String,
    pub member_id: String,
    /// For the leader, who assigns: id, instance id, and the metadata of each member.
    pub members: Vec<(String, Option<String>, Bytes)>,
}

/// A refused join; the id is the one to come back with, or the one that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRefused {
    pub error: ResponseError,
    pub member_id: String,
}

/// What a member gets when the leader has assigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    pub protocol_type: String,
    pub protocol: String,
    pub assignment: Bytes,
}

pub type JoinReply = Result<Joined, JoinRefused>;
pub type SyncReply = Result<Synced, ResponseError>;

/// A member as the coordinator knows it.
#[derive(Debug)]
pub struct Member {
    pub id: String,
    /// Set for static members, which keep their place over a restart.
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout: Duration,
    pub rebalance_timeout: Duration,
    /// Name and metadata, by preference.
    pub protocols: Vec<(String, Bytes)>,
    pub assignment: Bytes,
    pub last_seen: Instant,
    pub joining: Option<oneshot::Sender<JoinReply>>,
    pub syncing: Option<oneshot::Sender<SyncReply>>,
}

impl Member {
    /// Whether it waits for the rebalance to complete; a connection that was lost does not wait.
    pub fn has_joined(&self) -> bool {
        self.joining
            .as_ref()
            .is_some_and(|reply| !reply.is_closed())
    }

    pub fn awaits_assignment(&self) -> bool {
        self.syncing
            .as_ref()
            .is_some_and(|reply| !reply.is_closed())
    }

    pub fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    /// What it says under a protocol: subscription and own state of the assignor.
    pub fn metadata(&self, protocol: &str) -> Bytes {
        let said = self.protocols.iter().find(|(name, _)| name == protocol);
        said.map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }

    pub fn answer_join(&mut self, reply: JoinReply) {
        if let Some(waiting) = self.joining.take() {
            // A lost connection needs no answer.
            let _gone = waiting.send(reply);
        }
    }

    pub fn answer_sync(&mut self, reply: SyncReply) {
        if let Some(waiting) = self.syncing.take() {
            let _gone = waiting.send(reply);
        }
    }

    pub fn record(&self) -> MemberRecord {
        MemberRecord {
            id: self.id.clone(),
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            session_timeout_ms: millis(self.session_timeout),
            rebalance_timeout_ms: millis(self.rebalance_timeout),
            protocols: self
                .protocols
                .iter()
                .map(|(name, said)| (name.clone(), Base64(said.clone())))
                .collect(),
            assignment: Base64(self.assignment.clone()),
        }
    }

    pub fn restore(record: MemberRecord, now: Instant) -> Member {
        Member {
            id: record.id,
            instance_id: record.instance_id,
            client_id: record.client_id,
            client_host: record.client_host,
            session_timeout: duration(record.session_timeout_ms),
            rebalance_timeout: duration(record.rebalance_timeout_ms),
            protocols: record
                .protocols
                .into_iter()
                .map(|(name, said)| (name, said.0))
                .collect(),
            assignment: record.assignment.0,
            last_seen: now,
            joining: None,
            syncing: None,
        }
    }
}

/// The topics of a consumer's subscription, if it is one.
pub fn subscribed_topics(metadata: &Bytes) -> Option<Vec<String>> {
    let mut body = metadata.clone();
    if body.remaining() < 2 {
        return None;
    }
    let version = body.get_i16().clamp(0, 3);
    let subscription = ConsumerProtocolSubscription::decode(&mut body, version).ok()?;
    let mut topics: Vec<String> = subscription
        .topics
        .iter()
        .map(ToString::to_string)
        .collect();
    topics.sort_unstable();
    Some(topics)
}

pub fn duration(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
