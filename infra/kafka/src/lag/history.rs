//! The last looks at each partition, for what can't be told from one.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use super::{Assessment, Look, PartitionLag, assess};

/// Looks that are kept of a partition.
const WINDOW: usize = 10;

/// The last looks at each partition of each group.
#[derive(Debug)]
pub struct LagHistory {
    began: Instant,
    looks: BTreeMap<(String, String, i32), VecDeque<Look>>,
}

impl Default for LagHistory {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            looks: BTreeMap::new(),
        }
    }
}

impl LagHistory {
    /// Takes what was seen now. Partitions that are not among it are forgotten.
    pub fn observe(&mut self, lags: &[PartitionLag]) {
        let at = self.began.elapsed();
        let mut before = std::mem::take(&mut self.looks);
        for lag in lags {
            let mut looks = before.remove(&key(lag)).unwrap_or_default();
            if looks.len() == WINDOW {
                looks.pop_front();
            }
            looks.push_back(Look {
                at,
                current: lag.current,
                end: lag.end,
                lag_seconds: lag.lag_seconds,
            });
            self.looks.insert(key(lag), looks);
        }
    }

    /// What the looks at this partition come to.
    #[must_use]
    pub fn assess(&self, lag: &PartitionLag) -> Assessment {
        let looks = self.looks.get(&key(lag)).into_iter().flatten();
        let looks: Vec<Look> = looks.copied().collect();
        assess(&looks, lag.member.is_some())
    }
}

fn key(lag: &PartitionLag) -> (String, String, i32) {
    (lag.group.clone(), lag.topic.clone(), lag.partition)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lag::LagStatus;

    fn lag(current: i64, end: i64) -> PartitionLag {
        PartitionLag {
            group: "group".to_owned(),
            topic: "topic".to_owned(),
            partition: 0,
            current,
            committed: Some(current),
            oldest: 0,
            end,
            lag: end - current,
            lag_seconds: Some(1.0),
            member: None,
            paused: None,
        }
    }

    #[test]
    fn a_rewind_is_told_until_it_is_ten_looks_ago() {
        let mut history = LagHistory::default();
        let mut status = |current| {
            let lag = lag(current, 100);
            history.observe(std::slice::from_ref(&lag));
            history.assess(&lag).status
        };
        assert_eq!(status(50), LagStatus::Stop);
        assert_eq!(status(20), LagStatus::Rewind);
        for _ in 0..8 {
            assert_eq!(status(20), LagStatus::Rewind);
        }
        assert_eq!(status(20), LagStatus::Stop);
    }

    #[test]
    fn who_is_gone_is_forgotten() {
        let mut history = LagHistory::default();
        history.observe(&[lag(50, 100)]);
        history.observe(&[]);
        history.observe(&[lag(20, 100)]);
        assert_eq!(history.assess(&lag(20, 100)).status, LagStatus::Stop);
    }
}
