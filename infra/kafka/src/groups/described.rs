//! What coordinators say of a group and its members.

use bytes::{Buf as _, TryGetError};
use rdkafka::groups::{GroupInfo, GroupMemberInfo};

use super::TopicPartition;

/// A group as its coordinator describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedGroup {
    /// Its name.
    pub name: String,
    /// `Stable`, `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Dead` or `Unknown`.
    pub state: String,
    /// Its members.
    pub members: Vec<GroupMember>,
}

impl DescribedGroup {
    /// Whether its members are being given their partitions.
    #[must_use]
    pub fn is_rebalancing(&self) -> bool {
        self.state.ends_with("Rebalance")
    }

    /// The partitions that its members have.
    pub fn assigned(&self) -> impl Iterator<Item = &TopicPartition> {
        self.members.iter().flat_map(|member| &member.assigned)
    }
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// What the coordinator calls it.
    pub id: String,
    /// What its client calls itself.
    pub client_id: String,
    /// Where it is, as the coordinator sees it.
    pub host: String,
    /// The partitions that it was given.
    pub assigned: Vec<TopicPartition>,
}

pub(super) fn described(group: &GroupInfo) -> DescribedGroup {
    DescribedGroup {
        name: group.name().to_owned(),
        state: group.state().to_owned(),
        members: group.members().iter().map(member).collect(),
    }
}

fn member(member: &GroupMemberInfo) -> GroupMember {
    let assignment = member.assignment().unwrap_or_default();
    GroupMember {
        id: member.id().to_owned(),
        client_id: member.client_id().to_owned(),
        host: member.client_host().to_owned(),
        // Empty while the group is being rebalanced, something else in groups that are none of consumers.
        assigned: assigned(assignment).unwrap_or_default(),
    }
}

/// The partitions of a member's assignment as the consumer protocol has it: version, then topics, each with the
/// numbers of its partitions, then what is not read here.
///
/// By hand, since the codec allocates what a length says, and these bytes are another member's: a few of them
/// could ask for gigabytes.
fn assigned(mut assignment: &[u8]) -> Result<Vec<TopicPartition>, TryGetError> {
    let mut assigned = Vec::new();
    let _version = assignment.try_get_i16()?;
    for _ in 0..assignment.try_get_i32()? {
        let length = usize::try_from(assignment.try_get_i16()?).unwrap_or(0);
        let Some((topic, rest)) = assignment.split_at_checked(length) else {
            return Err(TryGetError {
                requested: length,
                available: assignment.len(),
            });
        };
        assignment = rest;
        let topic = String::from_utf8_lossy(topic);
        for _ in 0..assignment.try_get_i32()? {
            assigned.push((topic.clone().into_owned(), assignment.try_get_i32()?));
        }
    }
    Ok(assigned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_read() {
        let two = b"\0\x01\0\0\0\x02\0\x01a\0\0\0\x02\0\0\0\0\0\0\0\x05\0\x02bc\0\0\0\x01\0\0\0\x07\xff\xff\xff\xff";
        let of = |topic: &str, number| (topic.to_owned(), number);
        let partitions = vec![of("a", 0), of("a", 5), of("bc", 7)];
        assert_eq!(assigned(two), Ok(partitions));
    }

    #[test]
    fn a_length_that_lies_takes_no_memory() {
        for lie in [
            &b""[..],
            b"\0",
            b"\0\0\x7f\xff\xff\xff",
            b"\0\0\0\0\0\x01\x7f\xffa",
            b"\0\0\0\0\0\x01\0\x01a\x7f\xff\xff\xff\0\0\0\x01",
        ] {
            assert!(assigned(lie).is_err(), "{lie:?}");
        }
    }
}
