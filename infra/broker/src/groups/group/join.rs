//! How a member gets in: the first time, again, or in the place of its earlier self.

use std::time::Instant;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use tokio::sync::oneshot;

use super::{Group, Join, Outcome, State};
use crate::groups::member::{JoinRefused, JoinReply, Member, subscribed_topics};

impl Group {
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
}
