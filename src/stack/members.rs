//! The consumers of this process, as members of their groups.

use std::sync::Arc;

use millrace_joiner::JoinerHandle;
use millrace_kafka::ConsumerHandle;
use millrace_labeler::LabelerHandle;
use millrace_profiles::ProfilesHandle;

use serde::{Deserialize, Serialize};

use super::rollouts::Rollouts;

/// A partition that a consumer of this process has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldPartition {
    /// The consumer's group.
    pub group: String,
    /// The topic's full name.
    pub topic: String,
    /// The number.
    pub partition: i32,
    /// Whether nothing is fetched because the queue is full: what reads is slower than what comes.
    pub paused: bool,
}

/// Those that there are. Cheap to clone.
#[derive(Clone, Default)]
pub struct Members {
    pub rollouts: Option<Arc<Rollouts>>,
    pub joiner: Option<Arc<JoinerHandle>>,
    pub labeler: Option<Arc<LabelerHandle>>,
    pub profiles: Option<Arc<ProfilesHandle>>,
}

impl Members {
    /// The partitions that they have now.
    pub fn partitions(&self) -> Vec<HeldPartition> {
        let mut handles = match &self.rollouts {
            Some(rollouts) => rollouts.consumers(),
            None => Vec::new(),
        };
        if let Some(joiner) = &self.joiner {
            handles.extend([joiner.rekey_consumer().clone(), joiner.join_consumer()]);
        }
        handles.extend(self.labeler.as_ref().map(|labeler| labeler.consumer()));
        handles.extend(self.profiles.as_ref().map(|profiles| profiles.consumer()));
        handles.iter().flat_map(held).collect()
    }
}

fn held(handle: &ConsumerHandle) -> Vec<HeldPartition> {
    let partitions = handle.metrics().partitions.into_iter();
    let held = partitions.map(|partition| HeldPartition {
        group: handle.group().to_owned(),
        topic: partition.topic,
        partition: partition.partition,
        paused: partition.paused,
    });
    held.collect()
}
