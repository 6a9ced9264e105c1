//! The queries that were searched for last: what a new generation is warmed up with and timed by.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// As many as are kept.
const KEPT: usize = 200;

/// Recent queries, in memory alone; cheap to clone.
#[derive(Clone, Default)]
pub struct RecentQueries(Arc<Mutex<VecDeque<String>>>);

impl RecentQueries {
    /// Notes a query, unless it is there.
    pub fn note(&self, query: &str) {
        let mut queries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if queries.iter().any(|known| known == query) {
            return;
        }
        if queries.len() == KEPT {
            queries.pop_front();
        }
        queries.push_back(query.to_owned());
    }

    /// All of them, the oldest first.
    pub fn all(&self) -> Vec<String> {
        let queries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queries.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_kept_each_once() {
        let recent = RecentQueries::default();
        for number in 0..KEPT + 2 {
            recent.note(&number.to_string());
            recent.note(&number.to_string());
        }
        let all = recent.all();
        assert_eq!(all.len(), KEPT);
        assert_eq!(all[0], "2");
    }
}
