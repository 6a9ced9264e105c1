//! How far consumer groups are behind, in records and in seconds.
//!
//! A group's offsets, its members and both ends of its partitions come in one request each, whatever their
//! number. The seconds are no estimate: `ages` reads the next record that the group has not.

mod ages;
mod history;
mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use serde::Serialize;

use crate::admin::{Admin, AdminError, PartitionEnds, SETTLE_INTERVAL, SETTLE_TIMEOUT};
use crate::groups::{DescribedGroup, TopicPartition};
use crate::pause_note;

pub use self::history::LagHistory;
pub use self::status::{Assessment, LagStatus};
use self::status::{Look, assess};

/// How far a group is behind on one partition.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PartitionLag {
    /// The group's name.
    pub group: String,
    /// The topic's full name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset that the group resumes from: the committed one, or the oldest where it has
    /// committed none.
    pub current: i64,
    /// The offset that the group has committed, wherever that is: retention may have overtaken it, and a
    /// topic that was made anew may end before it.
    pub committed: Option<i64>,
    /// The oldest offset that is there.
    pub oldest: i64,
    /// The offset that the next record gets.
    pub end: i64,
    /// Records between the two. Compaction and transactions leave gaps, so fewer may be left.
    pub lag: i64,
    /// The age of the next unread record in seconds; 0 where there is none. Absent where it was not asked
    /// for, or could not be read in time.
    pub lag_seconds: Option<f64>,
    /// Who has the partition; absent where nobody has, or where members were not asked for.
    pub member: Option<LagMember>,
    /// Whether its member fetched no more when it last committed, having as much in hand as it may. Absent
    /// where nobody has the partition or nothing was committed, and where the member is none of ours.
    pub paused: Option<bool>,
}

/// The member of a group that has a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LagMember {
    /// What the coordinator calls it.
    pub id: String,
    /// What its client calls itself.
    pub client_id: String,
    /// Where it is, as the coordinator sees it.
    pub host: String,
}

/// How far groups are behind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupLags {
    /// As their coordinators describe them, in the order they were asked for.
    pub groups: Vec<DescribedGroup>,
    /// By group, topic and partition.
    pub partitions: Vec<PartitionLag>,
}

impl Admin {
    /// How far `group` is behind on `topics` (full names), in records: without members, and without the
    /// seconds, which [`read_ages`](Self::read_ages) adds. Without topics: on all those where it has
    /// committed an offset. Sorted by topic and partition.
    ///
    /// # Errors
    /// The brokers cannot be reached, a named topic does not exist, or nobody leads a partition of it.
    pub async fn group_lag(
        &self,
        group: &str,
        topics: &[String],
    ) -> Result<Vec<PartitionLag>, AdminError> {
        let mut committed = self.committed(&[group.to_owned()]).await?;
        let committed = committed.remove(group).unwrap_or_default();
        let partitions: BTreeSet<TopicPartition> = if topics.is_empty() {
            committed.keys().cloned().collect()
        } else {
            let mut named = BTreeSet::new();
            for topic in topics {
                let numbers = self.partitions(topic).await?.into_iter();
                named.extend(numbers.map(|number| (topic.clone(), number)));
            }
            named
        };
        let ends = self.settled_ends(&partitions).await?;
        // Left out, a partition without a leader would look like one that has caught up.
        if !topics.is_empty()
            && let Some((topic, partition)) = partitions.iter().find(|it| !ends.contains_key(it))
        {
            return Err(AdminError::NoLeader {
                topic: topic.clone(),
                partition: *partition,
            });
        }
        let of = |partition: &TopicPartition| {
            let ends = *ends.get(partition)?;
            let committed = committed.get(partition).map(|it| it.offset);
            Some(PartitionLag::new(group, partition, committed, ends))
        };
        Ok(partitions.iter().filter_map(of).collect())
    }

    /// How far `groups` are behind on all partitions of the topics that they read, which are those where
    /// they have committed an offset or were given a partition; with who has each.
    ///
    /// # Errors
    /// The brokers cannot be reached.
    pub async fn group_lags(&self, groups: &[String]) -> Result<GroupLags, AdminError> {
        let mut lags = self.group_offsets(groups).await?;
        self.read_ages(&mut lags.partitions).await?;
        Ok(lags)
    }

    /// As [`group_lags`](Self::group_lags) without the seconds, for which records have to be read.
    ///
    /// # Errors
    /// The brokers cannot be reached.
    pub async fn group_offsets(&self, groups: &[String]) -> Result<GroupLags, AdminError> {
        let committed = self.committed(groups).await?;
        let described = self.describe_groups(groups).await?;
        let mut members: BTreeMap<(&str, &TopicPartition), LagMember> = BTreeMap::new();
        for group in &described {
            for member in &group.members {
                let member_of = LagMember {
                    id: member.id.clone(),
                    client_id: member.client_id.clone(),
                    host: member.host.clone(),
                };
                for partition in &member.assigned {
                    members.insert((&group.name, partition), member_of.clone());
                }
            }
        }
        let assigned = members.keys().map(|(group, (topic, _))| (*group, topic));
        let offsets = committed.iter().flat_map(|(group, offsets)| {
            let topics = offsets.keys().map(|(topic, _)| topic);
            topics.map(move |topic| (group.as_str(), topic))
        });
        let topics: BTreeSet<(&str, &String)> = assigned.chain(offsets).collect();
        // Also where it has read nothing yet: records wait there, and nobody else would tell of them.
        let partitions = self.all_partitions().await?;
        let all: BTreeSet<(&str, TopicPartition)> = topics
            .into_iter()
            .flat_map(|(group, topic)| {
                let numbers = partitions.get(topic).into_iter().flatten();
                numbers.map(move |number| (group, (topic.clone(), *number)))
            })
            .collect();
        let partitions: BTreeSet<&TopicPartition> = all.iter().map(|(_, known)| known).collect();
        let ends = self
            .ends_of(partitions.iter().map(|it| (*it).clone()))
            .await?;
        let of = |(group, partition): &(&str, TopicPartition)| {
            // A topic that was deleted meanwhile has no ends.
            let ends = *ends.get(partition)?;
            let committed = committed.get(*group)?.get(partition);
            let member = members.get(&(*group, partition)).cloned();
            let note = committed.filter(|_| member.is_some());
            Some(PartitionLag {
                member,
                paused: note.and_then(|it| pause_note::read(&it.note)),
                ..PartitionLag::new(group, partition, committed.map(|it| it.offset), ends)
            })
        };
        let lags = all.iter().filter_map(of).collect();
        Ok(GroupLags {
            partitions: lags,
            groups: described,
        })
    }

    /// Both ends of each partition, once it has a leader.
    async fn settled_ends(
        &self,
        partitions: &BTreeSet<TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, PartitionEnds>, AdminError> {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        loop {
            let ends = self.ends_of(partitions.iter().cloned()).await?;
            if ends.len() == partitions.len() || Instant::now() >= deadline {
                return Ok(ends);
            }
            tokio::time::sleep(SETTLE_INTERVAL).await;
        }
    }
}

impl PartitionLag {
    fn new(
        group: &str,
        (topic, partition): &TopicPartition,
        committed: Option<i64>,
        PartitionEnds { oldest, next }: PartitionEnds,
    ) -> Self {
        // Retention may have removed what the group had still to read.
        let current = committed
            .map_or(oldest, |offset| offset.max(oldest))
            .min(next);
        Self {
            group: group.to_owned(),
            topic: topic.clone(),
            partition: *partition,
            current,
            committed,
            oldest,
            end: next,
            lag: next - current,
            lag_seconds: (next == current).then_some(0.0),
            member: None,
            paused: None,
        }
    }
}
