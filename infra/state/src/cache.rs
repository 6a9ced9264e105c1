//! Values of the state kept in memory between batches.

use std::collections::HashMap;

/// What was used lately. Holds at most twice its capacity between batches; within a batch nothing
/// is dropped. What it holds is what the state holds, since one writer writes both.
#[derive(Debug)]
pub struct Cache<V> {
    young: HashMap<String, V>,
    old: HashMap<String, V>,
    capacity: usize,
}

impl<V> Cache<V> {
    /// Keeps about `capacity` values.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            capacity,
        }
    }

    /// Whether the value is there; it then stays for this batch.
    pub fn touch(&mut self, key: &str) -> bool {
        if self.young.contains_key(key) {
            return true;
        }
        match self.old.remove_entry(key) {
            Some((key, value)) => {
                self.young.insert(key, value);
                true
            }
            None => false,
        }
    }

    /// Takes what the state holds, or is about to.
    pub fn insert(&mut self, key: String, value: V) {
        self.young.insert(key, value);
    }

    /// What was touched or inserted in this batch.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&V> {
        self.young.get(key)
    }

    /// As [`Cache::get`].
    pub fn get_mut(&mut self, key: &str) -> Option<&mut V> {
        self.young.get_mut(key)
    }

    /// Between batches: drops what was not used for long.
    pub fn age(&mut self) {
        if self.young.len() > self.capacity {
            self.old = std::mem::take(&mut self.young);
        }
    }
}
