//! The group coordinator: every group, their offsets, and what of both is durable.

pub mod group;
pub mod member;
mod offsets;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kafka_protocol::error::ResponseError;
use tracing::warn;

use self::group::{Group, Join, Outcome, Speaker};
use self::member::{JoinRefused, JoinReply, SyncReply};
use crate::clock::now_ms;
use crate::journal::Journal;
use crate::metadata::Fact;

const MIN_SESSION: Duration = Duration::from_millis(100);
const MAX_SESSION: Duration = Duration::from_mins(30);

/// All groups.
#[derive(Debug)]
pub struct Coordinator {
    groups: Mutex<BTreeMap<String, Group>>,
    journal: Arc<Journal>,
    first_wait: Duration,
    /// Ids must differ from those that an earlier process gave out.
    started_ms: i64,
    next_member: AtomicU64,
}

impl Coordinator {
    /// Restores the groups as they were: members go on without joining anew, where they are kept.
    pub fn new(journal: Arc<Journal>, first_wait: Duration, keep_members: bool) -> Coordinator {
        let now = Instant::now();
        let records = journal.read(|metadata| metadata.groups.clone());
        let groups = records
            .into_iter()
            .map(|(id, mut record)| {
                if !keep_members && !record.members.is_empty() {
                    record.members.clear();
                    record.empty_since_ms = Some(now_ms());
                }
                (id, Group::restore(record, first_wait, now))
            })
            .collect();
        let (started_ms, next_member) = (now_ms(), AtomicU64::new(1));
        Coordinator {
            groups: Mutex::new(groups),
            journal,
            first_wait,
            started_ms,
            next_member,
        }
    }

    fn groups(&self) -> MutexGuard<'_, BTreeMap<String, Group>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn persist(&self, id: &str, group: &mut Group) {
        if !group.changed || !group.is_settled() {
            return;
        }
        let recorded = self.journal.record(vec![Fact::Group {
            id: id.to_owned(),
            record: group.record(),
        }]);
        match recorded {
            Ok(()) => group.changed = false,
            // Without it, a restart makes the members join anew: no reason to stop them now.
            Err(error) => warn!(group = id, %error, "a group's members could not be recorded"),
        }
    }

    pub fn join(&self, id: &str, join: Join) -> Outcome<JoinReply> {
        let refuse = |error| {
            Outcome::Now(Err(JoinRefused {
                error,
                member_id: join.member_id.clone(),
            }))
        };
        if id.is_empty() {
            return refuse(ResponseError::InvalidGroupId);
        }
        if !(MIN_SESSION..=MAX_SESSION).contains(&join.session_timeout) {
            return refuse(ResponseError::InvalidSessionTimeout);
        }
        let mut groups = self.groups();
        if !join.member_id.is_empty() && !groups.contains_key(id) {
            return refuse(ResponseError::UnknownMemberId);
        }
        let group = groups
            .entry(id.to_owned())
            .or_insert_with(|| Group::new(self.first_wait));
        let prefix = join
            .instance_id
            .clone()
            .unwrap_or_else(|| join.client_id.clone());
        let new_id = || {
            let number = self.next_member.fetch_add(1, Ordering::Relaxed);
            format!("{prefix}-{:x}-{number:x}", self.started_ms)
        };
        let outcome = group.join(join, new_id, Instant::now());
        self.persist(id, group);
        outcome
    }

    pub fn sync(
        &self,
        id: &str,
        speaker: Speaker<'_>,
        protocol_type: Option<&str>,
        protocol: Option<&str>,
        assignments: Vec<(String, bytes::Bytes)>,
    ) -> Outcome<SyncReply> {
        let mut groups = self.groups();
        let Some(group) = groups.get_mut(id) else {
            return Outcome::Now(Err(ResponseError::UnknownMemberId));
        };
        let outcome = group.sync(
            speaker,
            protocol_type,
            protocol,
            assignments,
            Instant::now(),
        );
        self.persist(id, group);
        outcome
    }

    pub fn heartbeat(&self, id: &str, speaker: Speaker<'_>) -> Result<(), ResponseError> {
        let mut groups = self.groups();
        let group = groups.get_mut(id).ok_or(ResponseError::UnknownMemberId)?;
        group.heartbeat(speaker, Instant::now())
    }

    pub fn leave(
        &self,
        id: &str,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), ResponseError> {
        let mut groups = self.groups();
        let group = groups.get_mut(id).ok_or(ResponseError::UnknownMemberId)?;
        let left = group.leave(member_id, instance_id, Instant::now());
        self.persist(id, group);
        left
    }

    /// Lets time pass in every group.
    pub fn tick(&self) {
        let now = Instant::now();
        for (id, group) in self.groups().iter_mut() {
            group.tick(now);
            self.persist(id, group);
        }
    }

    /// Every group's name, protocol type and state; those with offsets alone are empty ones.
    pub fn list(&self) -> Vec<(String, String, &'static str)> {
        let groups = self.groups();
        let mut listed: BTreeMap<String, (String, &'static str)> = BTreeMap::new();
        let names = self
            .journal
            .read(|metadata| metadata.offsets.keys().cloned().collect::<Vec<_>>());
        listed.extend(
            names
                .into_iter()
                .map(|name| (name, ("consumer".to_owned(), "Empty"))),
        );
        let known = groups.iter().map(|(name, group)| {
            (
                name.clone(),
                (group.protocol_type.clone(), group.state_name()),
            )
        });
        listed.extend(known);
        listed
            .into_iter()
            .map(|(name, (protocol_type, state))| (name, protocol_type, state))
            .collect()
    }

    /// Looks at one group, if it has or had members.
    pub fn describe<T>(&self, id: &str, look: impl FnOnce(&Group) -> T) -> Option<T> {
        self.groups().get(id).map(look)
    }

    /// Removes a group and its offsets.
    pub fn delete(&self, id: &str) -> Result<(), ResponseError> {
        let mut groups = self.groups();
        let has_offsets = self
            .journal
            .read(|metadata| metadata.offsets.contains_key(id));
        match groups.get(id) {
            Some(group) if !group.is_empty() => return Err(ResponseError::NonEmptyGroup),
            None if !has_offsets => return Err(ResponseError::GroupIdNotFound),
            Some(_) | None => {}
        }
        let deleted = self
            .journal
            .record(vec![Fact::GroupDeleted { id: id.to_owned() }]);
        deleted.map_err(|_| ResponseError::CoordinatorNotAvailable)?;
        groups.remove(id);
        Ok(())
    }
}
