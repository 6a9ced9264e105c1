//! Committed offsets: who may commit, and when they are forgotten.

use std::time::Instant;

use kafka_protocol::error::ResponseError;
use tracing::{info, warn};

use super::Coordinator;
use super::group::Speaker;
use crate::metadata::{CommittedOffset, Fact, TopicPartition};

/// A group without members and offsets is forgotten after this.
const FORGET_EMPTY_MS: i64 = 600_000;

impl Coordinator {
    /// Commits offsets for a member, or for a client that assigns itself (generation −1).
    pub fn commit(
        &self,
        id: &str,
        speaker: Speaker<'_>,
        offsets: Vec<(TopicPartition, CommittedOffset)>,
    ) -> Result<(), ResponseError> {
        // The groups stay locked over the write: a commit must not slip past a rebalance.
        let mut groups = self.groups();
        match groups.get_mut(id) {
            Some(group) => group.check_commit(speaker, Instant::now())?,
            None if speaker.generation < 0 => {}
            None => return Err(ResponseError::IllegalGeneration),
        }
        let recorded = self.journal.record(vec![Fact::Offsets {
            group: id.to_owned(),
            offsets,
        }]);
        recorded.map_err(|error| {
            warn!(group = id, %error, "offsets could not be recorded");
            ResponseError::CoordinatorNotAvailable
        })
    }

    /// Whether a transactional producer may commit for a member (KIP-447).
    pub fn check_transactional(&self, id: &str, speaker: Speaker<'_>) -> Result<(), ResponseError> {
        if speaker.generation < 0 && speaker.member_id.is_empty() {
            return Ok(());
        }
        let mut groups = self.groups();
        let group = groups.get_mut(id).ok_or(ResponseError::IllegalGeneration)?;
        group.check_commit(speaker, Instant::now())
    }

    /// Removes offsets of topics that no member reads; an answer a partition.
    pub fn delete_offsets(
        &self,
        id: &str,
        partitions: &[TopicPartition],
    ) -> Result<Vec<Result<(), ResponseError>>, ResponseError> {
        let groups = self.groups();
        let has_offsets = self
            .journal
            .read(|metadata| metadata.offsets.contains_key(id));
        let group = groups.get(id);
        if group.is_none() && !has_offsets {
            return Err(ResponseError::GroupIdNotFound);
        }
        let is_read =
            |at: &TopicPartition| group.is_some_and(|group| group.is_subscribed(&at.topic));
        let removed: Vec<TopicPartition> = partitions
            .iter()
            .filter(|at| !is_read(at))
            .cloned()
            .collect();
        if !removed.is_empty() {
            let fact = Fact::OffsetsDeleted {
                group: id.to_owned(),
                partitions: removed,
            };
            self.journal
                .record(vec![fact])
                .map_err(|_| ResponseError::CoordinatorNotAvailable)?;
        }
        let answer = |at| {
            if is_read(at) {
                Err(ResponseError::GroupSubscribedToTopic)
            } else {
                Ok(())
            }
        };
        Ok(partitions.iter().map(answer).collect())
    }

    /// Forgets groups that have been without members for `retention_ms`, with their offsets.
    pub fn expire(&self, now_ms: i64, retention_ms: i64) {
        let mut groups = self.groups();
        let ids = self.journal.read(|metadata| {
            let ids: Vec<String> = metadata
                .offsets
                .keys()
                .chain(metadata.groups.keys())
                .cloned()
                .collect();
            ids.into_iter()
                .map(|id| {
                    let committed = metadata.offsets.get(&id);
                    let latest = committed
                        .and_then(|all| all.values().map(|offset| offset.committed_ms).max());
                    (id, latest)
                })
                .collect::<Vec<_>>()
        });
        for (id, latest_commit_ms) in ids {
            let empty_since_ms = match groups.get(&id) {
                Some(group) => group.empty_since_ms(),
                None => Some(i64::MIN),
            };
            let Some(empty_since_ms) = empty_since_ms else {
                continue;
            };
            let keep_ms = if latest_commit_ms.is_some() {
                retention_ms
            } else {
                FORGET_EMPTY_MS
            };
            let last_use_ms = empty_since_ms.max(latest_commit_ms.unwrap_or(i64::MIN));
            if now_ms.saturating_sub(last_use_ms) < keep_ms {
                continue;
            }
            info!(group = id, "forgetting a group that nobody used");
            match self
                .journal
                .record(vec![Fact::GroupDeleted { id: id.clone() }])
            {
                Ok(()) => drop(groups.remove(&id)),
                Err(error) => warn!(group = id, %error, "an old group could not be forgotten"),
            }
        }
    }
}
