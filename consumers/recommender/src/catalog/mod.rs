//! All items, in memory: the topics `signals` and `item-stats` as tables, read from their beginning
//! and then followed.
//!
//! ```text
//! [signals] ────┐
//!               ├─ follow (a task for each partition) ─► table ◄─ requests: references to items
//! [item-stats] ─┤
//! [users] ──────┘  where a declared feature reads them
//! ```
//!
//! A request takes the lock for as long as it looks items up or compares their vectors (about a
//! millisecond at 5,000 items), never while it waits.

mod follow;
mod matrix;
mod scan;
mod table;
mod users;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use millrace_features::Context;
use millrace_schemas::{ItemCounters, ItemStats, ReadUpTo, Signal, User};
use serde::Serialize;
use tokio::sync::watch;

use crate::config::CatalogConfig;
pub(crate) use follow::follow_topics;
pub(crate) use scan::{Query, cosine, nearest};
pub(crate) use table::{KnownItem, Table};
use users::Users;

/// How long what all items did together is taken for unchanged by time alone.
const CONTEXT_STEP_MS: i64 = 60_000;

/// The moment of a request, and what all items did until then: priors and position rates are those
/// of the minute that has begun, since computing them takes longer than a request may.
#[must_use]
pub fn context<'a, T>(totals: T, now_ms: i64) -> Context
where
    T: IntoIterator<Item = &'a ItemCounters> + Clone,
{
    let minute_ms = now_ms - now_ms.rem_euclid(CONTEXT_STEP_MS);
    Context {
        now_ms,
        ..Context::of_totals(totals, minute_ms)
    }
}

/// How the catalog stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CatalogStats {
    /// Items that can be recommended.
    pub items: u64,
    /// Items with counters.
    pub counted_items: u64,
    /// Bytes that both take, about.
    pub bytes: u64,
    /// Items left out since the start, because there was no room.
    pub evicted: u64,
    /// Signals read, those of other models among them.
    pub signals: u64,
    /// Signals of another embedding version than this process's.
    pub other_models: u64,
    /// Counters read.
    pub stats: u64,
    /// Records that could not be read.
    pub unreadable: u64,
    /// Whether all that was on the topics at the start has been read.
    pub ready: bool,
}

/// A change that a record makes.
#[derive(Debug)]
pub(crate) enum Change {
    Signal {
        signal: Box<Signal>,
        traceparent: Option<String>,
    },
    ForgetSignal {
        item_id: String,
    },
    Stats(Box<ItemStats>),
    ForgetStats {
        item_id: String,
    },
    User(User),
    ForgetUser {
        user_id: String,
    },
}

/// What requests read, in one moment.
#[derive(Debug)]
pub(crate) struct Inner {
    pub table: Table,
    /// What the upstream system says of users, where features read it.
    pub users: Users,
    /// The next offset of each topic's partitions.
    read_up_to: BTreeMap<(Arc<str>, i32), i64>,
}

impl Inner {
    pub fn read_up_to(&self) -> Vec<ReadUpTo> {
        let positions = self.read_up_to.iter();
        positions
            .map(|((topic, partition), offset)| ReadUpTo {
                topic: topic.to_string(),
                partition: *partition,
                offset: *offset,
            })
            .collect()
    }
}

/// All items.
pub(crate) struct Catalog {
    inner: RwLock<Inner>,
    /// For a minute and a revision of the totals.
    context: Mutex<Option<(i64, u64, Context)>>,
    /// Topics and partitions whose end at the start was not reached yet.
    behind: Mutex<BTreeSet<(Arc<str>, i32)>>,
    ready: watch::Sender<bool>,
    signals: AtomicU64,
    pub other_models: AtomicU64,
    stats: AtomicU64,
    pub unreadable: AtomicU64,
}

impl Catalog {
    /// An empty one, which is ready once all of `behind` has been read.
    pub fn new(config: &CatalogConfig, behind: BTreeSet<(Arc<str>, i32)>) -> Self {
        Self {
            inner: RwLock::new(Inner {
                table: Table::new(config.max_bytes),
                users: Users::new(config.max_user_bytes),
                read_up_to: BTreeMap::new(),
            }),
            context: Mutex::default(),
            ready: watch::Sender::new(behind.is_empty()),
            behind: Mutex::new(behind),
            signals: AtomicU64::new(0),
            other_models: AtomicU64::new(0),
            stats: AtomicU64::new(0),
            unreadable: AtomicU64::new(0),
        }
    }

    /// The items as they are at this moment. Not to be held while waiting.
    pub fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What all items did until now.
    pub fn context(&self, inner: &Inner, now_ms: i64) -> Context {
        let minute = now_ms.div_euclid(CONTEXT_STEP_MS);
        let revision = inner.table.totals_revision;
        let mut cached = self.context.lock().unwrap_or_else(PoisonError::into_inner);
        match &*cached {
            Some((of, at, known)) if *of == minute && *at == revision => Context {
                now_ms,
                ..known.clone()
            },
            _ => {
                let context = context(inner.table.totals(), now_ms);
                *cached = Some((minute, revision, context.clone()));
                context
            }
        }
    }

    /// Applies what a partition's records say, up to and without the offset `next`.
    pub fn apply(&self, changes: Vec<Change>, topic: &Arc<str>, partition: i32, next: i64) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            match change {
                Change::Signal {
                    signal,
                    traceparent,
                } => {
                    self.signals.fetch_add(1, Relaxed);
                    inner.table.put_signal(*signal, traceparent.as_deref());
                }
                Change::ForgetSignal { item_id } => inner.table.forget(&item_id),
                Change::Stats(stats) => {
                    self.stats.fetch_add(1, Relaxed);
                    inner.table.put_stats(*stats);
                }
                Change::ForgetStats { item_id } => inner.table.forget_stats(&item_id),
                Change::User(user) => inner.users.put(user),
                Change::ForgetUser { user_id } => inner.users.forget(&user_id),
            }
        }
        inner
            .read_up_to
            .insert((Arc::clone(topic), partition), next);
    }

    /// A partition has been read up to its end.
    pub fn caught_up(&self, topic: &Arc<str>, partition: i32) {
        let mut behind = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        if behind.remove(&(Arc::clone(topic), partition)) && behind.is_empty() {
            self.ready.send_replace(true);
        }
    }

    /// Whether all that was on the topics at the start has been read.
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// The same, to wait for.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    pub fn stats(&self) -> CatalogStats {
        let inner = self.read();
        CatalogStats {
            items: inner.table.len() as u64,
            counted_items: inner.table.counted() as u64,
            bytes: inner.table.bytes() as u64,
            evicted: inner.table.evicted,
            signals: self.signals.load(Relaxed),
            other_models: self.other_models.load(Relaxed),
            stats: self.stats.load(Relaxed),
            unreadable: self.unreadable.load(Relaxed),
            ready: self.is_ready(),
        }
    }
}
