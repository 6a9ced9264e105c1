//! The state machine of one classic consumer group.
//!
//! `Empty` → (a member joins) → `PreparingRebalance`: gather everybody → `CompletingRebalance`: the
//! leader assigns → `Stable`. Any change of members or of what they say leads back to preparing.
//! Time comes in as an argument; replies go out through the members' channels.

mod join;
mod rebalance;

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use tokio::sync::oneshot;

use super::member::{JoinRefused, Member, subscribed_topics};
use crate::clock::now_ms;
use crate::metadata::GroupRecord;

/// Where a group is between two assignments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Empty,
    /// Until the deadline, or until everybody is there unless this is the group's first members,
    /// who wait for one another.
    PreparingRebalance {
        deadline: Instant,
        first: bool,
    },
    CompletingRebalance {
        deadline: Instant,
    },
    Stable,
}

/// A request to join.
#[derive(Debug)]
pub struct Join {
    /// Empty for a member that has none yet.
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout: Duration,
    pub rebalance_timeout: Duration,
    pub protocol_type: String,
    pub protocols: Vec<(String, Bytes)>,
    /// KIP-394: a new member first gets an id and comes back with it, so that a lost answer leaves
    /// no ghost behind.
    pub id_required_first: bool,
}

/// Who speaks, in every later request.
#[derive(Clone, Copy, Debug)]
pub struct Speaker<'a> {
    pub member_id: &'a str,
    pub instance_id: Option<&'a str>,
    pub generation: i32,
}

/// An answer now, or later.
#[derive(Debug)]
pub enum Outcome<T> {
    Now(T),
    Later(oneshot::Receiver<T>),
}

/// One group.
#[derive(Debug)]
pub struct Group {
    pub state: State,
    pub generation: i32,
    pub protocol_type: String,
    pub protocol: Option<String>,
    pub members: BTreeMap<String, Member>,
    leader: Option<String>,
    /// Ids given out and not yet used, until when they are waited for.
    pending: HashMap<String, Instant>,
    first_wait: Duration,
    empty_since_ms: Option<i64>,
    /// What is in the journal is not this any more.
    pub changed: bool,
}

impl Group {
    pub fn new(first_wait: Duration) -> Group {
        Group {
            state: State::Empty,
            generation: 0,
            protocol_type: String::new(),
            protocol: None,
            members: BTreeMap::new(),
            leader: None,
            pending: HashMap::new(),
            first_wait,
            empty_since_ms: Some(now_ms()),
            changed: false,
        }
    }

    pub fn restore(record: GroupRecord, first_wait: Duration, now: Instant) -> Group {
        let members: BTreeMap<String, Member> = record
            .members
            .into_iter()
            .map(|member| (member.id.clone(), Member::restore(member, now)))
            .collect();
        Group {
            state: if members.is_empty() {
                State::Empty
            } else {
                State::Stable
            },
            generation: record.generation,
            protocol_type: record.protocol_type,
            protocol: record.protocol,
            members,
            leader: record.leader,
            pending: HashMap::new(),
            first_wait,
            empty_since_ms: record.empty_since_ms,
            changed: false,
        }
    }

    pub fn record(&self) -> GroupRecord {
        GroupRecord {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            members: self.members.values().map(Member::record).collect(),
            empty_since_ms: self.empty_since_ms,
        }
    }

    /// Between assignments there is nothing to record: a restart then makes members join anew.
    pub fn is_settled(&self) -> bool {
        matches!(self.state, State::Empty | State::Stable)
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub fn state_name(&self) -> &'static str {
        match self.state {
            State::Empty => "Empty",
            State::PreparingRebalance { .. } => "PreparingRebalance",
            State::CompletingRebalance { .. } => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }

    /// Since when there have been no members, for the expiry of offsets.
    pub fn empty_since_ms(&self) -> Option<i64> {
        self.empty_since_ms
            .filter(|_| self.members.is_empty() && self.pending.is_empty())
    }

    /// Whether a member's subscription names the topic.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        self.members.values().any(|member| {
            subscribed_topics(&member.metadata(protocol))
                .is_some_and(|topics| topics.iter().any(|name| name == topic))
        })
    }

    fn owner_of(&self, instance_id: &str) -> Option<String> {
        let owner = self
            .members
            .values()
            .find(|member| member.instance_id.as_deref() == Some(instance_id));
        owner.map(|member| member.id.clone())
    }

    /// Checks who speaks, and takes it as a sign of life.
    fn check(&mut self, speaker: Speaker<'_>, now: Instant) -> Result<(), ResponseError> {
        if let Some(owner) = speaker
            .instance_id
            .and_then(|instance| self.owner_of(instance))
            && owner != speaker.member_id
        {
            return Err(ResponseError::FencedInstanceId);
        }
        if !self.members.contains_key(speaker.member_id) {
            return Err(ResponseError::UnknownMemberId);
        }
        if speaker.generation != self.generation {
            return Err(ResponseError::IllegalGeneration);
        }
        self.touch(speaker.member_id, now);
        Ok(())
    }

    fn touch(&mut self, id: &str, now: Instant) {
        if let Some(member) = self.members.get_mut(id) {
            member.last_seen = now;
        }
    }

    pub fn heartbeat(&mut self, speaker: Speaker<'_>, now: Instant) -> Result<(), ResponseError> {
        self.check(speaker, now)?;
        match self.state {
            State::PreparingRebalance { .. } => Err(ResponseError::RebalanceInProgress),
            State::Empty | State::CompletingRebalance { .. } | State::Stable => Ok(()),
        }
    }

    /// Whether a member may commit offsets now.
    pub fn check_commit(
        &mut self,
        speaker: Speaker<'_>,
        now: Instant,
    ) -> Result<(), ResponseError> {
        if speaker.generation < 0 && self.members.is_empty() {
            return Ok(());
        }
        self.check(speaker, now)?;
        match self.state {
            State::CompletingRebalance { .. } => Err(ResponseError::RebalanceInProgress),
            State::Empty | State::PreparingRebalance { .. } | State::Stable => Ok(()),
        }
    }

    /// A member leaves by its own will, or by an administrator's, who knows the instance only.
    pub fn leave(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        now: Instant,
    ) -> Result<(), ResponseError> {
        let owner = instance_id.and_then(|instance| self.owner_of(instance));
        let id = match (owner, member_id) {
            (Some(owner), "") => owner,
            (Some(owner), said) if owner != said => return Err(ResponseError::FencedInstanceId),
            (None, _) if instance_id.is_some() => return Err(ResponseError::UnknownMemberId),
            (_, said) => said.to_owned(),
        };
        if self.pending.remove(&id).is_some() {
            self.complete_if_gathered(now);
            return Ok(());
        }
        if !self.members.contains_key(&id) {
            return Err(ResponseError::UnknownMemberId);
        }
        self.remove(&id, now);
        Ok(())
    }

    fn remove(&mut self, id: &str, now: Instant) {
        let Some(mut member) = self.members.remove(id) else {
            return;
        };
        let gone = ResponseError::UnknownMemberId;
        member.answer_join(Err(JoinRefused {
            error: gone,
            member_id: id.to_owned(),
        }));
        member.answer_sync(Err(gone));
        self.prepare_rebalance(now);
        self.complete_if_gathered(now);
    }

    /// Lets time pass: lost members go, and late ones are not waited for any longer.
    pub fn tick(&mut self, now: Instant) {
        self.pending.retain(|_, until| *until > now);
        let lost = |member: &&Member| {
            let waits = member.has_joined() || member.awaits_assignment();
            !waits && now.saturating_duration_since(member.last_seen) >= member.session_timeout
        };
        let lost: Vec<String> = self
            .members
            .values()
            .filter(lost)
            .map(|member| member.id.clone())
            .collect();
        for id in lost {
            tracing::info!(member = id, "a member's session ended without a heartbeat");
            self.remove(&id, now);
        }
        if let State::CompletingRebalance { deadline } = self.state
            && now >= deadline
        {
            let silent = |member: &&Member| !member.awaits_assignment();
            let silent: Vec<String> = self
                .members
                .values()
                .filter(silent)
                .map(|member| member.id.clone())
                .collect();
            for id in silent {
                self.remove(&id, now);
            }
        }
        self.complete_if_gathered(now);
    }
}
