//! The state machine of one classic consumer group.
//!
//! `Empty` → (a member joins) → `PreparingRebalance`: gather everybody → `CompletingRebalance`: the
//! leader assigns → `Stable`. Any change of members or of what they say leads back to preparing.
//! Time comes in as an argument; replies go out through the members' channels.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use tokio::sync::oneshot;

use super::member::{JoinRefused, JoinReply, Joined, Member, SyncReply, Synced, subscribed_topics};
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

    pub fn join(
        &mut self,
        join: Join,
        new_id: impl FnOnce() -> String,
        now: Instant,
    ) -> Outcome<JoinReply> {
        let refuse = |error, member_id: &str| {
            Outcome::Now(Err(JoinRefused {
                error,
                member_id: member_id.to_owned(),
            }))
        };
        if !self.accepts_protocols(&join) {
            return refuse(ResponseError::InconsistentGroupProtocol, &join.member_id);
        }
        let owner = join
            .instance_id
            .as_ref()
            .and_then(|instance| self.owner_of(instance));
        if join.member_id.is_empty() {
            let id = new_id();
            return match owner {
                Some(old) => self.replace_static(&old, &id, join, now),
                None if join.id_required_first && join.instance_id.is_none() => {
                    self.pending.insert(id.clone(), now + join.session_timeout);
                    refuse(ResponseError::MemberIdRequired, &id)
                }
                None => self.add(&id, join, now),
            };
        }
        let id = join.member_id.clone();
        if self.pending.remove(&id).is_some() {
            return self.add(&id, join, now);
        }
        if join.instance_id.is_some() && owner.as_ref().is_some_and(|owner| *owner != id) {
            return refuse(ResponseError::FencedInstanceId, &id);
        }
        let Some(member) = self.members.get(&id) else {
            return refuse(ResponseError::UnknownMemberId, &id);
        };
        let says_the_same = member.protocols == join.protocols;
        let is_leader = self.leader.as_ref() == Some(&id);
        match self.state {
            // A leader that joins again has seen a change of topics and wants to assign anew.
            State::Stable if is_leader || !says_the_same => self.rejoin(&id, join, now),
            State::CompletingRebalance { .. } if !says_the_same => self.rejoin(&id, join, now),
            State::PreparingRebalance { .. } | State::Empty => self.rejoin(&id, join, now),
            State::Stable | State::CompletingRebalance { .. } => {
                self.touch(&id, now);
                Outcome::Now(Ok(self.joined(&id)))
            }
        }
    }

    fn accepts_protocols(&self, join: &Join) -> bool {
        if join.protocols.is_empty() || join.protocol_type.is_empty() {
            return false;
        }
        let is_same = |member: &Member| {
            member.id == join.member_id
                || (join.instance_id.is_some() && member.instance_id == join.instance_id)
        };
        let others: Vec<&Member> = self
            .members
            .values()
            .filter(|member| !is_same(member))
            .collect();
        others.is_empty()
            || (self.protocol_type == join.protocol_type
                && join
                    .protocols
                    .iter()
                    .any(|(name, _)| others.iter().all(|member| member.supports(name))))
    }

    fn owner_of(&self, instance_id: &str) -> Option<String> {
        let owner = self
            .members
            .values()
            .find(|member| member.instance_id.as_deref() == Some(instance_id));
        owner.map(|member| member.id.clone())
    }

    fn add(&mut self, id: &str, join: Join, now: Instant) -> Outcome<JoinReply> {
        if self.members.is_empty() {
            self.protocol_type = join.protocol_type;
        }
        let member = Member {
            id: id.to_owned(),
            instance_id: join.instance_id,
            client_id: join.client_id,
            client_host: join.client_host,
            session_timeout: join.session_timeout,
            rebalance_timeout: join.rebalance_timeout,
            protocols: join.protocols,
            assignment: Bytes::new(),
            last_seen: now,
            joining: None,
            syncing: None,
        };
        self.members.insert(id.to_owned(), member);
        self.await_rebalance(id, now)
    }

    fn rejoin(&mut self, id: &str, join: Join, now: Instant) -> Outcome<JoinReply> {
        if let Some(member) = self.members.get_mut(id) {
            member.protocols = join.protocols;
            member.session_timeout = join.session_timeout;
            member.rebalance_timeout = join.rebalance_timeout;
        }
        self.await_rebalance(id, now)
    }

    fn await_rebalance(&mut self, id: &str, now: Instant) -> Outcome<JoinReply> {
        let (reply, later) = oneshot::channel();
        if let Some(member) = self.members.get_mut(id) {
            member.joining = Some(reply);
            member.last_seen = now;
        }
        self.prepare_rebalance(now);
        self.complete_if_gathered(now);
        Outcome::Later(later)
    }

    /// A static member came back under a new id. It keeps its assignment, and nobody else notices,
    /// unless it led (only a leader sees new partitions) or subscribes to other topics than before.
    fn replace_static(
        &mut self,
        old_id: &str,
        id: &str,
        join: Join,
        now: Instant,
    ) -> Outcome<JoinReply> {
        let Some(mut member) = self.members.remove(old_id) else {
            return self.add(id, join, now);
        };
        let fenced = ResponseError::FencedInstanceId;
        member.answer_join(Err(JoinRefused {
            error: fenced,
            member_id: old_id.to_owned(),
        }));
        member.answer_sync(Err(fenced));
        let protocol = self.protocol.clone().unwrap_or_default();
        let subscribed_before = subscribed_topics(&member.metadata(&protocol));
        member.id = id.to_owned();
        member.client_id = join.client_id;
        member.client_host = join.client_host;
        member.session_timeout = join.session_timeout;
        member.rebalance_timeout = join.rebalance_timeout;
        member.protocols = join.protocols;
        member.last_seen = now;
        let same_topics = subscribed_topics(&member.metadata(&protocol)) == subscribed_before;
        self.members.insert(id.to_owned(), member);
        let led = self.leader.as_deref() == Some(old_id);
        if led {
            self.leader = Some(id.to_owned());
        }
        self.changed = true;
        if self.state == State::Stable
            && !led
            && same_topics
            && self.select_protocol() == self.protocol
        {
            return Outcome::Now(Ok(self.joined(id)));
        }
        self.await_rebalance(id, now)
    }

    fn prepare_rebalance(&mut self, now: Instant) {
        if matches!(self.state, State::PreparingRebalance { .. }) {
            return;
        }
        for member in self.members.values_mut() {
            member.answer_sync(Err(ResponseError::RebalanceInProgress));
        }
        let first = self.state == State::Empty;
        let wait = if first {
            self.first_wait
        } else {
            self.longest_rebalance()
        };
        self.state = State::PreparingRebalance {
            deadline: now + wait,
            first,
        };
    }

    fn longest_rebalance(&self) -> Duration {
        self.members
            .values()
            .map(|member| member.rebalance_timeout)
            .max()
            .unwrap_or_default()
    }

    fn complete_if_gathered(&mut self, now: Instant) {
        let State::PreparingRebalance { deadline, first } = self.state else {
            return;
        };
        let gathered = self.pending.is_empty() && self.members.values().all(Member::has_joined);
        if self.members.is_empty() || now >= deadline || (gathered && !first) {
            self.complete_rebalance(now);
        }
    }

    fn complete_rebalance(&mut self, now: Instant) {
        // A static member that is away keeps its place until its session ends.
        self.members
            .retain(|_, member| member.has_joined() || member.instance_id.is_some());
        let joined = self
            .members
            .values()
            .find(|member| member.has_joined())
            .map(|member| member.id.clone());
        if self.members.is_empty() {
            self.become_empty();
            return;
        }
        let Some(any_joined) = joined else {
            self.state = State::PreparingRebalance {
                deadline: now + self.longest_rebalance(),
                first: false,
            };
            return;
        };
        let leads = |id: &String| self.members.get(id).is_some_and(Member::has_joined);
        self.leader = self.leader.take().filter(leads).or(Some(any_joined));
        self.generation += 1;
        self.protocol = self.select_protocol();
        self.empty_since_ms = None;
        self.state = State::CompletingRebalance {
            deadline: now + self.longest_rebalance(),
        };
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let reply = self.joined(&id);
            if let Some(member) = self.members.get_mut(&id) {
                member.assignment = Bytes::new();
                if member.has_joined() {
                    member.last_seen = now;
                }
                member.answer_join(Ok(reply));
            }
        }
    }

    fn become_empty(&mut self) {
        self.state = State::Empty;
        self.generation += 1;
        self.protocol = None;
        self.leader = None;
        self.empty_since_ms = Some(now_ms());
        self.changed = true;
    }

    /// Each member votes for the first of its protocols that all support.
    fn select_protocol(&self) -> Option<String> {
        let supported = |name: &str| self.members.values().all(|member| member.supports(name));
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| supported(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        votes
            .into_iter()
            .max_by_key(|(_, count)| *count)
            .map(|(name, _)| name.to_owned())
    }

    fn joined(&self, id: &str) -> Joined {
        let protocol = self.protocol.clone().unwrap_or_default();
        let leader = self.leader.clone().unwrap_or_default();
        let says = |member: &Member| {
            (
                member.id.clone(),
                member.instance_id.clone(),
                member.metadata(&protocol),
            )
        };
        let members = if leader == id {
            self.members.values().map(says).collect()
        } else {
            Vec::new()
        };
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol,
            leader,
            member_id: id.to_owned(),
            members,
        }
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

    pub fn sync(
        &mut self,
        speaker: Speaker<'_>,
        protocol_type: Option<&str>,
        protocol: Option<&str>,
        assignments: Vec<(String, Bytes)>,
        now: Instant,
    ) -> Outcome<SyncReply> {
        if let Err(error) = self.check(speaker, now) {
            return Outcome::Now(Err(error));
        }
        if protocol_type.is_some_and(|said| said != self.protocol_type)
            || protocol.is_some_and(|said| Some(said) != self.protocol.as_deref())
        {
            return Outcome::Now(Err(ResponseError::InconsistentGroupProtocol));
        }
        match self.state {
            State::Empty => Outcome::Now(Err(ResponseError::UnknownMemberId)),
            State::PreparingRebalance { .. } => {
                Outcome::Now(Err(ResponseError::RebalanceInProgress))
            }
            State::Stable => Outcome::Now(Ok(self.synced(speaker.member_id))),
            State::CompletingRebalance { .. } => {
                let (reply, later) = oneshot::channel();
                if let Some(member) = self.members.get_mut(speaker.member_id) {
                    member.syncing = Some(reply);
                }
                if self.leader.as_deref() == Some(speaker.member_id) {
                    self.assign(assignments, now);
                }
                Outcome::Later(later)
            }
        }
    }

    fn assign(&mut self, assignments: Vec<(String, Bytes)>, now: Instant) {
        for (id, assignment) in assignments {
            if let Some(member) = self.members.get_mut(&id) {
                member.assignment = assignment;
            }
        }
        self.state = State::Stable;
        self.changed = true;
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let reply = self.synced(&id);
            if let Some(member) = self.members.get_mut(&id) {
                if member.awaits_assignment() {
                    member.last_seen = now;
                }
                member.answer_sync(Ok(reply));
            }
        }
    }

    fn synced(&self, id: &str) -> Synced {
        Synced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone().unwrap_or_default(),
            assignment: self
                .members
                .get(id)
                .map(|member| member.assignment.clone())
                .unwrap_or_default(),
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
