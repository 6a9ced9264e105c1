//! From a change of members to the assignment that everybody has.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use tokio::sync::oneshot;

use super::{Group, Outcome, Speaker, State};
use crate::clock::now_ms;
use crate::groups::member::{Joined, Member, SyncReply, Synced};

impl Group {
    pub(super) fn prepare_rebalance(&mut self, now: Instant) {
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

    pub(super) fn complete_if_gathered(&mut self, now: Instant) {
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
    pub(super) fn select_protocol(&self) -> Option<String> {
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

    pub(super) fn joined(&self, id: &str) -> Joined {
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

    pub(super) fn synced(&self, id: &str) -> Synced {
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
}
