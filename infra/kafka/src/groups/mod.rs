//! Consumer groups as the brokers know them: who is in them, and what they have committed.

mod described;
mod ffi;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::timeout;

use self::described::described;
pub use self::described::{DescribedGroup, GroupMember};
use crate::admin::{Admin, AdminError, REQUEST_TIMEOUT, blocking, failed, options};
use crate::position::{NotedOffset, commit};

/// Full name of a topic, and the number of a partition.
pub type TopicPartition = (String, i32);

/// How long librdkafka keeps a request to a group's coordinator: far longer than anybody here waits.
///
/// One that it gives up while the coordinator can't be reached ends the process once that can be (2.12,
/// `rd_kafka_admin_coord_request`; confluentinc/librdkafka#3663), and one that it does not give up may wait for
/// ever. So who has waited in vain throws the client away, and the request with it.
pub(crate) const COORDINATOR_TIMEOUT: Duration = Duration::from_secs(600);

/// As the protocol numbers it.
const UNKNOWN_TOPIC_OR_PARTITION: i32 = 3;

/// Which end of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PartitionEnd {
    /// The oldest offset.
    Oldest,
    /// The offset that the next record gets.
    Next,
}

impl Admin {
    /// The names of all consumer groups that the brokers know, sorted.
    ///
    /// # Errors
    /// The brokers cannot be reached.
    pub async fn groups(&self) -> Result<Vec<String>, AdminError> {
        let reader = Arc::clone(&self.reader);
        let result = blocking(move || {
            let list = reader.fetch_group_list(None, REQUEST_TIMEOUT)?;
            Ok(list
                .groups()
                .iter()
                .map(|group| group.name().to_owned())
                .collect())
        });
        let mut names: Vec<String> = result.await?.map_err(failed(format!(
            "list the groups at {}",
            self.config.bootstrap
        )))?;
        names.sort_unstable();
        Ok(names)
    }

    /// State and members of `groups`. One that does not exist is `Dead` and has no members.
    ///
    /// # Errors
    /// The brokers cannot be reached.
    pub async fn describe_groups(
        &self,
        groups: &[String],
    ) -> Result<Vec<DescribedGroup>, AdminError> {
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        let only = match groups {
            [group] => Some(group.clone()),
            _ => None,
        };
        // Not librdkafka's admin request of that name: it ends the process by a failed assertion where the
        // connection to a coordinator is just being made (2.12, `rd_kafka_admin_coord_request`;
        // confluentinc/librdkafka#4605).
        let reader = Arc::clone(&self.reader);
        let known = blocking(move || {
            let list = reader.fetch_group_list(only.as_deref(), REQUEST_TIMEOUT)?;
            Ok(list.groups().iter().map(described).collect())
        });
        let known: Vec<DescribedGroup> = known.await?.map_err(failed("describe the groups"))?;
        let mut known: BTreeMap<String, DescribedGroup> = known
            .into_iter()
            .map(|group| (group.name.clone(), group))
            .collect();
        let of = |name: &String| {
            known.remove(name).unwrap_or_else(|| DescribedGroup {
                name: name.clone(),
                state: "Dead".to_owned(),
                members: Vec::new(),
            })
        };
        Ok(groups.iter().map(of).collect())
    }

    /// Those of `topics` (full names) of which no member of a group of ours has a partition. None while one of
    /// them is being rebalanced: it is not known who will have them.
    ///
    /// # Errors
    /// The brokers cannot be reached.
    pub async fn without_readers(&self, topics: &[String]) -> Result<Vec<String>, AdminError> {
        let mut ours = self.groups().await?;
        ours.retain(|group| group.starts_with(&self.config.topic_prefix));
        let groups = self.describe_groups(&ours).await?;
        if groups.iter().any(DescribedGroup::is_rebalancing) {
            return Ok(Vec::new());
        }
        let assigned = groups.iter().flat_map(DescribedGroup::assigned);
        let read: BTreeSet<&String> = assigned.map(|(topic, _)| topic).collect();
        let unread = topics.iter().filter(|topic| !read.contains(topic));
        Ok(unread.cloned().collect())
    }

    /// What `groups` have committed, each by topic and partition.
    ///
    /// # Errors
    /// The brokers cannot be reached, or a name has a NUL byte.
    pub async fn committed(
        &self,
        groups: &[String],
    ) -> Result<BTreeMap<String, BTreeMap<TopicPartition, NotedOffset>>, AdminError> {
        // Not the admin client: where a coordinator has moved, librdkafka (2.12, `rd_kafka_handle_OffsetFetch`)
        // tells the client's own group, and ends the process by a null pointer where the client has none.
        let names = names(groups)?;
        let idle = || {
            let idle = self.coordinator_client.lock();
            idle.unwrap_or_else(PoisonError::into_inner)
        };
        let action = "read the offsets of the groups";
        let client = match idle().take() {
            Some(client) => client,
            None => self
                .config
                .reader_client()?
                .create()
                .map_err(failed(action))?,
        };
        let asked = blocking(move || {
            let found = ffi::committed(client.client(), &names, REQUEST_TIMEOUT)?;
            Ok((client, found))
        });
        let (client, found) = asked.await?.map_err(failed(action))?;
        *idle() = Some(client);
        let of = |(group, offsets): (String, Vec<_>)| (group, offsets.into_iter().collect());
        Ok(found.into_iter().map(of).collect())
    }

    /// Moves where `group` resumes from. The brokers refuse it while the group has members.
    ///
    /// # Errors
    /// The brokers cannot be reached, or refuse it.
    pub async fn set_offsets(
        &self,
        group: &str,
        offsets: &BTreeMap<TopicPartition, i64>,
    ) -> Result<(), AdminError> {
        let action = || format!("set the offsets of the group {group}");
        let client = self.config.offsets_client(group)?;
        let consumer = client.create().map_err(failed(action()))?;
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for ((topic, partition), offset) in offsets {
            list.add_partition_offset(topic, *partition, Offset::Offset(*offset))
                .map_err(failed(action()))?;
        }
        commit(Arc::new(consumer), group, list).await
    }

    /// Has the brokers forget a group and its offsets. `false` where they know none of that name.
    ///
    /// # Errors
    /// It has members, or the brokers cannot be reached.
    pub async fn delete_group(&self, group: &str) -> Result<bool, AdminError> {
        let action = format!("delete the group {group}");
        let admin: AdminClient<DefaultClientContext> = {
            let client = self.config.admin_client()?;
            client.create().map_err(failed(action.as_str()))?
        };
        let options = options().request_timeout(Some(COORDINATOR_TIMEOUT));
        let deleted = timeout(REQUEST_TIMEOUT, admin.delete_groups(&[group], &options)).await;
        let late = |_| Err(KafkaError::AdminOp(RDKafkaErrorCode::OperationTimedOut));
        let deleted = deleted.unwrap_or_else(late);
        let deleted = deleted.map_err(failed(action.as_str()))?;
        match deleted.into_iter().next() {
            Some(Err((_, RDKafkaErrorCode::GroupIdNotFound))) => Ok(false),
            Some(Err((_, code))) => Err(failed(action)(KafkaError::AdminOp(code))),
            Some(Ok(_)) | None => Ok(true),
        }
    }

    /// One end of each of these partitions. Those that do not exist, or have no leader, are absent.
    ///
    /// # Errors
    /// The brokers cannot be reached.
    pub(crate) async fn partition_ends(
        &self,
        partitions: impl IntoIterator<Item = &TopicPartition>,
        end: PartitionEnd,
    ) -> Result<BTreeMap<TopicPartition, i64>, AdminError> {
        let offset = match end {
            PartitionEnd::Oldest => Offset::Beginning,
            PartitionEnd::Next => Offset::End,
        };
        let mut ends = BTreeMap::new();
        let mut left: Vec<TopicPartition> = partitions.into_iter().cloned().collect();
        for is_last in [false, true] {
            let told = self.offsets(&left, offset).await?;
            left.clear();
            for (partition, offset) in told {
                match offset {
                    Ok(offset) => {
                        ends.insert(partition, offset);
                    }
                    // There is no such partition, as the brokers have it.
                    Err(UNKNOWN_TOPIC_OR_PARTITION) => {}
                    Err(code) => {
                        tracing::debug!(?partition, code, "its offset is not told");
                        left.push(partition);
                    }
                }
            }
            if left.is_empty() || is_last {
                break;
            }
            // Asked with the leader and epoch of before a restart, brokers refuse for as long as those are not
            // looked up again.
            self.all_partitions().await?;
        }
        Ok(ends)
    }

    async fn offsets(
        &self,
        partitions: &[TopicPartition],
        offset: Offset,
    ) -> Result<Vec<ffi::ToldOffset>, AdminError> {
        let action = "read the offsets of the topics";
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let mut wanted = TopicPartitionList::with_capacity(partitions.len());
        for (topic, partition) in partitions {
            wanted
                .add_partition_offset(topic, *partition, offset)
                .map_err(failed(action))?;
        }
        // The client that also looks up topics, and so has the leaders as they are now.
        let reader = Arc::clone(&self.reader);
        let asked = blocking(move || ffi::offsets(reader.client(), &wanted, REQUEST_TIMEOUT));
        asked.await?.map_err(failed(action))
    }
}

fn names(groups: &[String]) -> Result<Vec<CString>, AdminError> {
    let name = |group: &String| {
        CString::new(group.as_str()).map_err(|_| AdminError::InvalidGroup {
            group: group.clone(),
        })
    };
    groups.iter().map(name).collect()
}
