//! Rows of all requests, and the batches that are cut from them.
//!
//! A row is one text, or one pair of them. The rows of a model wait in the order in which they came; a batch is of one
//! model, of the one whose first row has waited longest. There is no timer: whoever is free takes
//! what is there, so that a lone query goes at once and a busy server has full batches.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use millrace_models::TokenSequence;
use tokio::sync::oneshot;

use crate::admission::Room;
use crate::model::Model;

/// Why a row was not computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RowError {
    /// Its time was over before it was computed.
    Late,
    /// The encoder failed on it.
    Failed(String),
    /// The server has stopped.
    Stopped,
}

/// Where a row's vector, or its one score, goes.
pub(crate) type Reply = oneshot::Sender<Result<Vec<f32>, RowError>>;

/// One text on its way to a vector, or one pair on its way to a score.
#[derive(Debug)]
pub(crate) struct Row {
    pub model: Arc<dyn Model>,
    /// What the model reads.
    pub sequence: TokenSequence,
    pub deadline: Instant,
    pub reply: Reply,
    /// Given back with the row, whatever becomes of it.
    pub _room: Room,
}

/// Rows of one model, to be computed together.
#[derive(Debug)]
pub(crate) struct Batch {
    pub model: Arc<dyn Model>,
    pub rows: Vec<Row>,
    pub tokens: usize,
    /// Whether rows of this model were left waiting.
    pub full: bool,
}

/// What became of rows that were not computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dropped {
    pub late: u64,
    pub abandoned: u64,
}

#[derive(Debug, Default)]
struct Waiting {
    /// By model; the number says when the row came.
    rows: BTreeMap<u64, VecDeque<(u64, Row)>>,
    arrivals: u64,
    closed: bool,
}

/// Where rows wait.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

impl Queue {
    /// Adds the rows of a request; after [`Self::close`] they are answered as stopped.
    pub fn push(&self, rows: Vec<Row>) {
        let mut waiting = self.lock();
        if waiting.closed {
            for row in rows {
                let _ = row.reply.send(Err(RowError::Stopped));
            }
            return;
        }
        for row in rows {
            waiting.arrivals += 1;
            let arrival = waiting.arrivals;
            let of_model = waiting.rows.entry(row.model.id()).or_default();
            of_model.push_back((arrival, row));
        }
        drop(waiting);
        self.arrived.notify_all();
    }

    /// Waits for rows and takes those that fit `budget` tokens, at least one. `None` once the queue
    /// is closed and empty. Rows that are too late, or that nobody waits for, are dropped here:
    /// before they cost anything.
    pub fn next_batch(&self, budget: usize) -> Option<(Option<Batch>, Dropped)> {
        let mut waiting = self.lock();
        while waiting.rows.is_empty() {
            if waiting.closed {
                return None;
            }
            waiting = self
                .arrived
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let oldest = waiting
            .rows
            .iter()
            .min_by_key(|(_, rows)| rows.front().map(|(arrival, _)| *arrival))
            .map(|(model, _)| *model)?;
        let of_model = waiting.rows.get_mut(&oldest)?;
        let now = Instant::now();
        let (mut rows, mut tokens, mut dropped) = (Vec::new(), 0, Dropped::default());
        while let Some((_, row)) = of_model.front() {
            if row.reply.is_closed() {
                dropped.abandoned += 1;
                of_model.pop_front();
                continue;
            }
            if row.deadline <= now {
                dropped.late += 1;
                if let Some((_, row)) = of_model.pop_front() {
                    let _ = row.reply.send(Err(RowError::Late));
                }
                continue;
            }
            if tokens > 0 && tokens + row.sequence.ids.len() > budget {
                break;
            }
            tokens += row.sequence.ids.len();
            rows.extend(of_model.pop_front().map(|(_, row)| row));
        }
        let full = !of_model.is_empty();
        if !full {
            waiting.rows.remove(&oldest);
        }
        let batch = rows.first().map(|row| Arc::clone(&row.model));
        let batch = batch.map(|model| Batch {
            model,
            rows,
            tokens,
            full,
        });
        Some((batch, dropped))
    }

    /// Takes no more rows; those that wait are still handed out.
    pub fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing in here panics between two changes that belong together.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
