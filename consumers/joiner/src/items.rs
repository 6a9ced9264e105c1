//! What the joiner knows of items, as others read it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use millrace_kafka::{Admin, AdminError, KafkaConfig, java_partition, topics};
use millrace_state::{Shard, StateError, StateStore};
use millrace_stateful::read;

use crate::signals::ItemSignals;
use crate::tables::SIGNALS;

/// Reads the joiner's table of signals, by whoever reaches its state; cheap to clone.
#[derive(Clone)]
pub struct ItemReader {
    state: Arc<dyn StateStore>,
    /// Of `signals`, by which items are partitioned.
    partition_count: i32,
}

impl ItemReader {
    /// A reader of this state, which a joiner of these brokers' `signals` writes.
    ///
    /// # Errors
    /// The brokers cannot be asked how many partitions `signals` has.
    pub async fn connect(
        kafka: &KafkaConfig,
        state: Arc<dyn StateStore>,
    ) -> Result<Self, AdminError> {
        let admin = Admin::connect(kafka)?;
        let partitions = admin.partitions(&kafka.topic(topics::SIGNALS)).await?;
        Ok(Self {
            state,
            partition_count: i32::try_from(partitions.len()).unwrap_or(i32::MAX),
        })
    }

    /// What `model_version` made of these items, `[dimension]`, by item id; items of which it has no
    /// signal, and removed ones, are left out.
    ///
    /// # Errors
    /// The store does not answer, or holds what this version does not write.
    pub async fn vectors(
        &self,
        model_version: &str,
        item_ids: &[String],
    ) -> Result<HashMap<String, Vec<f32>>, StateError> {
        let generation = self.state.live_generation().await?;
        let mut by_partition = BTreeMap::<i32, Vec<&String>>::new();
        for item_id in item_ids {
            let partition = java_partition(item_id.as_bytes(), self.partition_count);
            by_partition.entry(partition).or_default().push(item_id);
        }
        let mut vectors = HashMap::new();
        for (partition, item_ids) in by_partition {
            let shard = Shard {
                generation,
                partition,
            };
            let key = |item_id: &&String| (SIGNALS, item_id.as_bytes().to_vec());
            let keys = item_ids.iter().map(key).collect();
            let found = self.state.get(shard, keys).await?;
            for (item_id, value) in item_ids.into_iter().zip(found) {
                let Some(value) = value else {
                    continue;
                };
                let item: ItemSignals =
                    read(SIGNALS, &value).map_err(|error| StateError::Unusable {
                        location: shard.to_string(),
                        reason: "the joiner's state is another version's; remove it, and it is \
                                 rebuilt from the topics"
                            .to_owned(),
                        source: Some(error.into()),
                    })?;
                if let Some(vector) = item.vector(model_version) {
                    vectors.insert(item_id.clone(), vector.to_vec());
                }
            }
        }
        Ok(vectors)
    }
}
