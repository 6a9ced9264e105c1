//! Threads that take batches to the models.
//!
//! Threads of our own and not `spawn_blocking`: they live as long as the server and do nothing but
//! wait for the encoder's workers, and the runtime's blocking threads stay free for tokenizing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use millrace_models::Segments;

use crate::metrics::Metrics;
use crate::model::Model;
use crate::queue::{Batch, Dropped, Queue, Reply, RowError};

/// Starts `batches` threads; they end when the queue is closed and empty.
///
/// # Errors
/// The operating system gives no thread.
pub(crate) fn start(
    queue: &Arc<Queue>,
    batches: usize,
    batch_tokens: usize,
    metrics: &Metrics,
) -> std::io::Result<Vec<JoinHandle<()>>> {
    (0..batches)
        .map(|number| {
            let (queue, metrics) = (Arc::clone(queue), metrics.clone());
            std::thread::Builder::new()
                .name(format!("batch-{number}"))
                .spawn(move || {
                    while let Some((batch, dropped)) = queue.next_batch(batch_tokens) {
                        metrics.dropped(dropped);
                        if let Some(batch) = batch {
                            metrics.batch(batch.tokens);
                            metrics.dropped(compute(batch));
                        }
                    }
                })
        })
        .collect()
}

/// Computes a batch and answers its rows; what was dropped of them.
fn compute(batch: Batch) -> Dropped {
    let Batch {
        model,
        rows,
        tokens,
        full,
    } = batch;
    let sequences: Vec<Segments<'_>> = rows.iter().map(|row| row.sequence.segments()).collect();
    let start = Instant::now();
    let computed = run(&*model, &sequences);
    let mut dropped = Dropped::default();
    // Below, a reply that nobody waits for any more is no error: its caller left meanwhile.
    match computed {
        Ok(vectors) => {
            // How soon a batch fails says nothing of how fast others are computed.
            model.rate().batch_ended(tokens, start, full);
            for (row, vector) in rows.into_iter().zip(vectors) {
                let _ = row.reply.send(Ok(vector));
            }
        }
        // One text must not take those of other callers with it.
        Err(reason) if rows.len() > 1 => {
            tracing::warn!(
                reason,
                rows = rows.len(),
                "a batch failed; computing its rows one by one"
            );
            for row in rows {
                let computed = answered(row.reply, || {
                    let vectors = run(&*model, &[row.sequence.segments()])?;
                    Ok(vectors.into_iter().next().unwrap_or_default())
                });
                dropped.abandoned += u64::from(!computed);
            }
        }
        Err(reason) => {
            for row in rows {
                let _ = row.reply.send(Err(RowError::Failed(reason.clone())));
            }
        }
    }
    dropped
}

/// Answers a row with what `compute` gives, unless nobody waits for it any more.
fn answered(reply: Reply, compute: impl FnOnce() -> Result<Vec<f32>, String>) -> bool {
    let awaited = !reply.is_closed();
    if awaited {
        // Who left while it was computed needs no answer.
        let _ = reply.send(compute().map_err(RowError::Failed));
    }
    awaited
}

fn run(model: &dyn Model, sequences: &[Segments<'_>]) -> Result<Vec<Vec<f32>>, String> {
    catch_unwind(AssertUnwindSafe(|| model.compute(sequences)))
        .map_err(|_| "it panicked".to_owned())?
        .map_err(|error| millrace_retry::error_chain(&error))
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn a_row_that_nobody_waits_for_is_not_computed() {
        let (reply, vector) = oneshot::channel();
        assert!(answered(reply, || Ok(vec![1.0])));
        assert_eq!(vector.blocking_recv(), Ok(Ok(vec![1.0])));

        let (reply, vector) = oneshot::channel();
        drop(vector);
        assert!(!answered(reply, || panic!("computed for nobody")));
    }
}
