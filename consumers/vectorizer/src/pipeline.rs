//! From deliveries to acknowledgements.
//!
//! One task takes deliveries as long as there is room (documents and bytes in flight are bounded,
//! which is what pauses the partitions in the end), reads their notices, and gives each document a
//! task of its own. A task ends in exactly one of these ways:
//!
//! - the effect is in the index, the signal and the outcome are acknowledged, the notice is too;
//! - the dead letter and the outcome are acknowledged, then the notice;
//! - neither (shutdown, a lost broker): the notice is not acknowledged and is delivered again, and
//!   doing it again ends the same.

mod ending;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use millrace_kafka::{Consumer, Delivery};
use millrace_objects::ObjectUri;
use millrace_schemas::{DocId, DocumentNotice, DocumentVersion, SchemaRegistry, TraceParent};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::admission::{Admission, Admitted, Versioned};
use crate::decode::{Decoded, decode};
use crate::document::{Interrupted, Job, Stages};
use crate::failure::{Refusal, Stage};
use crate::stats::Counters;
use crate::vectorizer::{Outsiders, VectorizerState};

/// Semaphore permits count KiB, since their number has 32 bits.
pub(crate) const PERMIT_BYTES: u64 = 1024;

/// The running consumer, shared by its tasks.
pub(crate) struct Pipeline {
    pub(crate) stages: Stages,
    pub(crate) admission: Admission<Work>,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) bytes: Arc<Semaphore>,
    pub(crate) all_bytes: u32,
    pub(crate) outsiders: Outsiders,
    pub(crate) registry: Option<Arc<dyn SchemaRegistry>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) state: watch::Sender<VectorizerState>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

/// A notice in flight, with the room that it takes.
pub(crate) struct Work {
    delivery: Delivery,
    notice: DocumentNotice,
    version: DocumentVersion,
    trace: TraceParent,
    received: Instant,
    _slot: Slot,
}

/// Room for one document, counted.
struct Slot {
    counters: Arc<Counters>,
    _permit: OwnedSemaphorePermit,
}

impl Slot {
    fn new(counters: &Arc<Counters>, permit: OwnedSemaphorePermit) -> Self {
        counters.in_flight.fetch_add(1, Relaxed);
        Self {
            counters: Arc::clone(counters),
            _permit: permit,
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.counters.in_flight.fetch_sub(1, Relaxed);
    }
}

impl Versioned for Work {
    fn version(&self) -> DocumentVersion {
        self.version
    }

    fn outlive(&mut self, other: &Self) {
        // Only what a repair asked for: a plain version was its event's own.
        if let Some(min_version) = other.notice.min_version {
            self.version = self.version.max(DocumentVersion::from(min_version));
            self.notice.min_version = self.notice.min_version.max(Some(min_version));
        }
    }
}

impl Pipeline {
    pub(crate) async fn run(self: Arc<Self>, mut consumer: Consumer) {
        let stop = self.stop.clone();
        // Cancelled where a shutdown's deadline has passed; a delivery in hand is then not
        // acknowledged.
        stop.run_until_cancelled(async {
            loop {
                let Ok(permit) = Arc::clone(&self.slots).acquire_owned().await else {
                    break;
                };
                let Some(delivery) = consumer.recv().await else {
                    break;
                };
                self.take(delivery, Slot::new(&self.counters, permit)).await;
            }
        })
        .await;
        if let millrace_kafka::ConsumerState::Fatal { reason } = &*consumer.health().borrow() {
            self.fail(reason.clone());
        }
    }

    async fn take(self: &Arc<Self>, delivery: Delivery, slot: Slot) {
        let received = Instant::now();
        match decode(&delivery, self.registry.as_deref(), &self.stages.patience).await {
            Ok(Decoded {
                notice,
                version,
                trace,
            }) => {
                let uri = notice.uri.clone();
                let work = Work {
                    delivery,
                    notice,
                    version,
                    trace,
                    received,
                    _slot: slot,
                };
                match self.admission.admit(&uri, work) {
                    Admitted::Start(work) => self.spawn(uri, work),
                    Admitted::Waits => {}
                    Admitted::Superseded(work) => {
                        let pipeline = Arc::clone(self);
                        self.tasks.spawn(async move {
                            pipeline.guarded(pipeline.supersede(work)).await;
                        });
                    }
                }
            }
            Err(Interrupted::Refused(refusal)) => {
                let pipeline = Arc::clone(self);
                self.tasks.spawn(async move {
                    pipeline
                        .guarded(pipeline.refuse_unread(delivery, slot, refusal))
                        .await;
                });
            }
            // Not acknowledged: it is delivered again.
            Err(Interrupted::Stopping | Interrupted::Fatal(_)) => {}
        }
    }

    /// Works on a URI until nothing of it waits.
    fn spawn(self: &Arc<Self>, uri: String, work: Work) {
        let pipeline = Arc::clone(self);
        self.tasks.spawn(async move {
            let mut next = Some(work);
            while let Some(work) = next {
                // Of the highest level, so that every line that a document causes names it, however
                // little is logged.
                let span = tracing::error_span!(
                    "document",
                    uri,
                    origin = %work.delivery.origin(),
                    version = work.version.get(),
                    traceparent = %work.trace,
                );
                millrace_telemetry::continue_trace(&span, Some(&work.trace.to_string()));
                pipeline
                    .guarded(pipeline.finish(work).instrument(span))
                    .await;
                next = pipeline.admission.finished(&uri);
            }
        });
    }

    /// Runs `work` unless the time is up.
    async fn guarded(&self, work: impl Future<Output = Result<(), Interrupted>>) {
        match self.stop.run_until_cancelled(work).await {
            Some(Err(Interrupted::Fatal(reason))) => self.fail(reason),
            Some(Err(Interrupted::Refused(refusal))) => {
                // A dead letter of a dead letter: the outcome was refused. Not acknowledged.
                self.fail(refusal.reason.message);
            }
            Some(Ok(()) | Err(Interrupted::Stopping)) | None => {}
        }
    }

    fn fail(&self, reason: String) {
        tracing::error!(reason, "the vectorizer can't go on; restart the process");
        self.state.send_replace(VectorizerState::Failed { reason });
        self.stop.cancel();
    }

    async fn finish(&self, work: Work) -> Result<(), Interrupted> {
        let size = work
            .notice
            .content
            .as_ref()
            .map_or(work.notice.size_bytes, |content| {
                i64::try_from(content.len()).ok()
            });
        let _room = self.room(size).await;
        let job = Job {
            notice: &work.notice,
            doc_id: DocId::from_uri(&work.notice.uri),
            version: work.version.get(),
            trace: work.trace,
            origin: work.delivery.origin(),
        };
        match self.stages.process(&job).await {
            Ok(finished) => {
                self.outcome(&work, &finished, None).await?;
                self.counters.finished(finished.outcome);
                work.delivery.ack();
                Ok(())
            }
            Err(Interrupted::Refused(refusal)) if self.leaves(&work.notice, &refusal) => {
                tracing::warn!(
                    message = refusal.reason.message,
                    "left for a pipeline that may read it"
                );
                Err(Interrupted::Stopping)
            }
            Err(Interrupted::Refused(refusal)) => self.refuse(work, &refusal).await,
            Err(interrupted) => Err(interrupted),
        }
    }

    /// Whether a notice waits on instead of becoming a dead letter: of an object outside the
    /// allow-list only, since whoever published what is inside waits for its outcome.
    fn leaves(&self, notice: &DocumentNotice, refusal: &Refusal) -> bool {
        let is_outside = || {
            let allowed = self.stages.objects.allow_list();
            ObjectUri::parse(&notice.uri).is_ok_and(|uri| allowed.permits(&uri).is_err())
        };
        self.outsiders == Outsiders::Wait
            && refusal.stage == Stage::Fetch
            && notice.content.is_none()
            && is_outside()
    }

    /// Room for the bytes of an object, before they are read. An object of unknown size takes what
    /// the largest may have.
    async fn room(&self, size_bytes: Option<i64>) -> Option<OwnedSemaphorePermit> {
        let largest = self.stages.config.max_document_bytes;
        let bytes = size_bytes
            .and_then(|size| u64::try_from(size).ok())
            .unwrap_or(largest)
            .min(largest);
        let permits = u32::try_from(bytes.div_ceil(PERMIT_BYTES))
            .unwrap_or(u32::MAX)
            .clamp(1, self.all_bytes);
        Arc::clone(&self.bytes)
            .acquire_many_owned(permits)
            .await
            .ok()
    }
}
