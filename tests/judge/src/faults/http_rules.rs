//! For how long which share of the requests fails, and how.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::report::FaultCounts;

/// The faults of one HTTP server. Which requests are hit is drawn from a seed, though in which
/// order they arrive is not.
#[derive(Debug)]
pub struct HttpRules<F> {
    state: Mutex<State<F>>,
    counts: FaultCounts,
}

#[derive(Debug)]
struct State<F> {
    rng: fastrand::Rng,
    active: Vec<Rule<F>>,
}

#[derive(Debug)]
struct Rule<F> {
    fault: F,
    name: String,
    one_in: u32,
    until: Instant,
}

impl<F: Copy> HttpRules<F> {
    /// No faults yet.
    #[must_use]
    pub fn new(seed: u64, counts: FaultCounts) -> Self {
        let state = State {
            rng: fastrand::Rng::with_seed(seed),
            active: Vec::new(),
        };
        Self {
            state: Mutex::new(state),
            counts,
        }
    }

    /// From now on, one request in `one_in` fails this way; counted under `name` for each request.
    pub fn add(&self, fault: F, name: String, one_in: u32, lasting: Duration) {
        let until = Instant::now() + lasting;
        self.lock().active.push(Rule {
            fault,
            name,
            one_in: one_in.max(1),
            until,
        });
    }

    /// What is to happen to the request that has just come; `applies` says whether a fault can
    /// happen to it at all.
    pub fn strike(&self, applies: impl Fn(F) -> bool) -> Option<F> {
        let mut state = self.lock();
        let now = Instant::now();
        state.active.retain(|rule| rule.until > now);
        let State { rng, active } = &mut *state;
        let hit = active
            .iter()
            .find(|rule| applies(rule.fault) && rng.u32(..rule.one_in) == 0)?;
        self.counts.add(&hit.name);
        Some(hit.fault)
    }

    /// Ends all faults.
    pub fn clear(&self) {
        self.lock().active.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State<F>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
