//! One document at a time of each URI.
//!
//! While a notice is being worked on, later ones of the same URI wait, and of those that wait only
//! the newest is worth keeping: whichever is read later reads the object as it is then, so the
//! others are moot before anything is fetched. The one under way is never cut off; it may have
//! written its header already.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use millrace_schemas::DocumentVersion;

/// What waits for its turn.
pub(crate) trait Versioned {
    /// Orders what waits.
    fn version(&self) -> DocumentVersion;
    /// Called on the one that is kept, with the version of the one that is not: a repair's claim
    /// to a higher version outlives its notice.
    fn outlive(&mut self, other: &Self);
}

/// What to do with an arrival.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admitted<W> {
    /// Nothing of its URI is under way: start it.
    Start(W),
    /// It waits.
    Waits,
    /// It waits, or did, in vain: this one is moot, another one waits.
    Superseded(W),
}

/// URIs under way, each with the newest notice that waits for it.
#[derive(Debug)]
pub(crate) struct Admission<W> {
    uris: Mutex<HashMap<String, Option<W>>>,
}

impl<W: Versioned> Admission<W> {
    pub fn new() -> Self {
        Self {
            uris: Mutex::new(HashMap::new()),
        }
    }

    pub fn admit(&self, uri: &str, mut work: W) -> Admitted<W> {
        let mut uris = self.uris.lock().unwrap_or_else(PoisonError::into_inner);
        match uris.get_mut(uri) {
            None => {
                uris.insert(uri.to_owned(), None);
                Admitted::Start(work)
            }
            Some(waiting @ None) => {
                *waiting = Some(work);
                Admitted::Waits
            }
            Some(Some(waiting)) => {
                if work.version() >= waiting.version() {
                    std::mem::swap(waiting, &mut work);
                }
                waiting.outlive(&work);
                Admitted::Superseded(work)
            }
        }
    }

    /// The work on `uri` has ended: the one that waited starts now.
    pub fn finished(&self, uri: &str) -> Option<W> {
        let mut uris = self.uris.lock().unwrap_or_else(PoisonError::into_inner);
        let next = uris.get_mut(uri).and_then(Option::take);
        if next.is_none() {
            uris.remove(uri);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq)]
    struct Job(i64, i64);

    impl Versioned for Job {
        fn version(&self) -> DocumentVersion {
            DocumentVersion::from(self.0)
        }
        fn outlive(&mut self, other: &Self) {
            self.1 = self.1.max(other.1);
        }
    }

    #[test]
    fn the_newest_waits_and_the_rest_is_superseded() {
        let admission = Admission::new();
        assert_eq!(admission.admit("a", Job(1, 0)), Admitted::Start(Job(1, 0)));
        assert_eq!(admission.admit("b", Job(1, 0)), Admitted::Start(Job(1, 0)));
        assert_eq!(admission.admit("a", Job(2, 9)), Admitted::Waits);
        assert_eq!(
            admission.admit("a", Job(4, 0)),
            Admitted::Superseded(Job(2, 9))
        );
        assert_eq!(
            admission.admit("a", Job(3, 0)),
            Admitted::Superseded(Job(3, 0))
        );
        assert_eq!(admission.finished("a"), Some(Job(4, 9)));
        assert_eq!(admission.finished("a"), None);
        assert_eq!(admission.admit("a", Job(1, 0)), Admitted::Start(Job(1, 0)));
    }
}
