//! Walking the sources, and asking index and store again about what differs.

use std::fs::File;
use std::io::BufWriter;

use futures::stream::{self, StreamExt};
use millrace_objects::{ObjectUri, ReadError};
use millrace_retry::error_chain;
use millrace_schemas::DocId;
use tokio::sync::mpsc;

use crate::class::{Class, Difference, Judging, Verdict, judge};
use crate::compare::{PROGRESS_EVERY, ReconcileError, Reconciler, Step};
use crate::merge::{Merged, Sources};
use crate::report::Report;
use crate::runs::{Spill, SpillError, write_line};

/// Differences that go from the walking thread to the verification at once.
const BATCH: usize = 256;
/// Objects that are asked for by name at one time.
const ASKED_AT_ONCE: usize = 16;

impl Reconciler {
    /// Walks the sources on a thread of its own and verifies here what it finds.
    pub(crate) async fn walk(
        &self,
        sources: Sources,
        judging: Judging,
        spill: &Spill,
        report: &mut Report,
        progress: &(dyn Fn(Step) + Send + Sync),
    ) -> Result<File, ReconcileError> {
        let (batches, mut queue) = mpsc::channel(2);
        let walking = tokio::task::spawn_blocking(move || walk(sources, judging, &batches));
        let mut out = BufWriter::new(spill.file()?);
        let failed = spill.failed("write");
        while let Some(batch) = queue.recv().await {
            let Found {
                walked,
                on_their_way,
                dead_lettered,
                different,
            } = batch;
            report.on_their_way += on_their_way;
            report.dead_lettered += dead_lettered;
            for difference in self.verify(different, report).await? {
                report.add(&difference, self.options.examples);
                write_line(&mut out, &difference).map_err(&failed)?;
            }
            progress(Step::Comparing(walked));
        }
        walking.await.map_err(|_| ReconcileError::Cancelled)??;
        out.into_inner()
            .map_err(|error| failed(error.into_error()).into())
    }

    /// Keeps what is still so: documents that changed since they were read, and orphans that the
    /// store has or does not speak of, are none.
    async fn verify(
        &self,
        different: Vec<(Box<Difference>, bool)>,
        report: &mut Report,
    ) -> Result<Vec<Box<Difference>>, ReconcileError> {
        if different.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<String> = different
            .iter()
            .map(|(difference, _)| DocId::from_uri(&difference.uri).to_string())
            .collect();
        let now = self
            .headers
            .get(&ids)
            .await
            .map_err(ReconcileError::Headers)?;
        let (same, changed): (Vec<_>, Vec<_>) =
            different
                .into_iter()
                .zip(now)
                .partition(|((seen, _), now)| {
                    let seen = seen.header.as_ref().map(|h| (h.version, h.deleted));
                    seen == now.as_ref().map(|h| (h.version, h.deleted))
                });
        report.changed_meanwhile += changed.len() as u64;
        let mut checked = stream::iter(same)
            .map(|((difference, corpus_was_read), _)| async move {
                let absence = match difference.class {
                    Class::Orphaned => self.absence(&difference.uri, corpus_was_read).await,
                    _ => Absence::Sure,
                };
                (difference, absence)
            })
            .buffered(ASKED_AT_ONCE);
        let mut kept = Vec::new();
        while let Some((difference, absence)) = checked.next().await {
            match absence {
                Absence::Sure => kept.push(difference),
                Absence::No => {}
                Absence::Unknown(reason) => {
                    tracing::warn!(uri = difference.uri, reason, "not called an orphan");
                    report.unverified += 1;
                }
            }
        }
        Ok(kept)
    }

    /// Asks the store itself whether an object is gone.
    async fn absence(&self, uri: &str, corpus_was_read: bool) -> Absence {
        let uri = match ObjectUri::parse(uri) {
            Ok(uri) => uri,
            Err(error) => return Absence::Unknown(error.to_string()),
        };
        match self.stores.head(&uri.without_fragment()).await {
            Err(ReadError::NotFound) => Absence::Sure,
            Ok(_) if uri.fragment().is_some() && corpus_was_read => Absence::Sure,
            Ok(_) if uri.fragment().is_some() => {
                Absence::Unknown("its corpus was not read to its end".to_owned())
            }
            // Hidden, or new: a listing does not have all that is there.
            Ok(_) => Absence::No,
            Err(error) => Absence::Unknown(error_chain(&error)),
        }
    }
}

enum Absence {
    Sure,
    No,
    Unknown(String),
}

/// A part of the walk.
#[derive(Default)]
struct Found {
    /// Documents so far.
    walked: u64,
    on_their_way: u64,
    dead_lettered: u64,
    /// With whether an orphaned line's corpus was read to its end.
    different: Vec<(Box<Difference>, bool)>,
}

fn walk(
    sources: Sources,
    judging: Judging,
    batches: &mpsc::Sender<Found>,
) -> Result<(), SpillError> {
    let mut found = Found::default();
    for all in Merged::of(sources) {
        found.walked += 1;
        match judge(all?, judging) {
            Verdict::Same => {}
            Verdict::OnItsWay => found.on_their_way += 1,
            Verdict::DeadLettered => found.dead_lettered += 1,
            Verdict::Different {
                difference,
                corpus_was_read,
            } => found.different.push((difference, corpus_was_read)),
        }
        if found.different.len() >= BATCH || found.walked % PROGRESS_EVERY == 0 {
            let next = Found {
                walked: found.walked,
                ..Found::default()
            };
            // Nobody listens any more: the comparison was given up.
            if batches
                .blocking_send(std::mem::replace(&mut found, next))
                .is_err()
            {
                return Ok(());
            }
        }
    }
    let _ = batches.blocking_send(found);
    Ok(())
}
