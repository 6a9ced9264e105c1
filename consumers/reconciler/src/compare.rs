//! One comparison: fill the sources, walk them, verify what differs.

use std::io::{BufWriter, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use futures::stream::{self, StreamExt};
use millrace_index::BoxError;
use millrace_kafka::KafkaConfig;
use millrace_objects::{ObjectStores, ObjectUri, ReadError};
use millrace_schemas::DocId;
use tokio::sync::mpsc;

use crate::class::{Class, Difference, Judging, Verdict, judge};
use crate::headers::{Header, Headers, PAGE, Scope};
use crate::listing::{self, Item};
use crate::merge::{Merged, Sources};
use crate::report::Report;
use crate::runs::{LineReader, Sorted, Sorting, Spill, SpillError, write_line};
use crate::topics::{self, TopicsError};

/// Verdicts that go from the walking thread to the verification at once.
const BATCH: usize = 256;
/// Objects that are asked for by name at one time.
const ASKED_AT_ONCE: usize = 16;
/// Told once in so many.
const PROGRESS_EVERY: u64 = 1_000;

/// What a comparison stands on.
pub struct Reconciler {
    /// Lists and asks for objects.
    pub stores: ObjectStores,
    /// What the index holds.
    pub headers: Arc<dyn Headers>,
    /// Where the topics are.
    pub kafka: KafkaConfig,
    /// Settings.
    pub options: ReconcilerOptions,
}

/// How to compare.
#[derive(Clone, Debug)]
pub struct ReconcilerOptions {
    /// Signals of this model are compared: the one that the index is of.
    pub model_version: String,
    /// The group whose unfinished notices are on their way.
    pub vectorizer_group: String,
    /// Whether signals are compared; without, the topic is not read.
    pub signals: bool,
    /// Whether documents that ended as dead letters are differences all the same.
    pub retry_dead_letters: bool,
    /// Folder of temporary files.
    pub temp_dir: PathBuf,
    /// Memory for sorting each source, in bytes; what is more goes to disk.
    pub sort_memory_bytes: usize,
    /// URIs of each class that the report names.
    pub examples: usize,
}

impl ReconcilerOptions {
    /// The usual ones.
    #[must_use]
    pub fn new(model_version: impl Into<String>, vectorizer_group: impl Into<String>) -> Self {
        Self {
            model_version: model_version.into(),
            vectorizer_group: vectorizer_group.into(),
            signals: true,
            retry_dead_letters: false,
            temp_dir: std::env::temp_dir(),
            sort_memory_bytes: 8 << 20,
            examples: 10,
        }
    }
}

/// How far a comparison is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Reading what the store has; how many.
    Objects(u64),
    /// Reading what the index holds; how many.
    Headers(u64),
    /// Reading what was signalled; how many.
    Signals(u64),
    /// Walking all of it; how many documents.
    Comparing(u64),
}

/// Why nothing could be compared.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The root can't be listed at all.
    #[error("cannot list {uri}, so nothing was compared: {reason}")]
    Listing {
        /// The root.
        uri: String,
        /// What the store said.
        reason: String,
    },
    /// The index can't be read.
    #[error("cannot read the headers of the index")]
    Headers(#[source] BoxError),
    /// A topic can't be read.
    #[error("cannot read the {topic}")]
    Topic {
        /// Which, for people.
        topic: &'static str,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// Temporary files failed.
    #[error(transparent)]
    Spill(#[from] SpillError),
    /// The runtime is shutting down.
    #[error("cancelled")]
    Cancelled,
}

fn topic_failed(topic: &'static str) -> impl FnOnce(TopicsError) -> ReconcileError {
    move |error| match error {
        TopicsError::Spill(error) => error.into(),
        TopicsError::Read(error) => ReconcileError::Topic {
            topic,
            source: error.into(),
        },
        TopicsError::Admin(error) => ReconcileError::Topic {
            topic,
            source: error.into(),
        },
    }
}

/// The differences of a comparison, on disk.
pub struct Compared {
    /// The numbers.
    pub report: Report,
    pub(crate) root: ObjectUri,
    pub(crate) stores: ObjectStores,
    /// When the listing began, ms since 1970.
    pub(crate) listed_from_ms: i64,
    pub(crate) spill: Spill,
    pub(crate) differences: std::fs::File,
}

impl Compared {
    /// All differences in the order of their URIs.
    ///
    /// # Errors
    /// The temporary file can't be read.
    pub fn differences(&self) -> Result<Differences, SpillError> {
        let failed = self.spill.failed("read");
        let mut file = self.differences.try_clone().map_err(&failed)?;
        file.seek(SeekFrom::Start(0)).map_err(&failed)?;
        Ok(Differences {
            lines: LineReader::new(file),
            spill: self.spill.clone(),
        })
    }
}

/// Reads differences; one reader at a time, since they share the place in the file.
pub struct Differences {
    lines: LineReader<Difference>,
    spill: Spill,
}

impl Iterator for Differences {
    type Item = Result<Difference, SpillError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.lines
            .read()
            .map_err(self.spill.failed("read"))
            .transpose()
    }
}

impl Reconciler {
    /// Compares everything at and below `root`. Nothing is published.
    ///
    /// # Errors
    /// A source can't be read. A listing with holes is no error: it is told in the report, and
    /// nothing is called an orphan then.
    pub async fn compare(
        &self,
        root: &ObjectUri,
        progress: &(dyn Fn(Step) + Send + Sync),
    ) -> Result<Compared, ReconcileError> {
        self.compare_seen(root, progress, &mut |_| {}).await
    }

    /// As [`Reconciler::compare`]; `seen` is told of every object and corpus that is listed.
    ///
    /// # Errors
    /// As [`Reconciler::compare`].
    pub async fn compare_seen(
        &self,
        root: &ObjectUri,
        progress: &(dyn Fn(Step) + Send + Sync),
        seen: &mut (dyn FnMut(&Item) + Send),
    ) -> Result<Compared, ReconcileError> {
        let started = Instant::now();
        let listed_from_ms = crate::now_ms();
        let spill = Spill {
            folder: self.options.temp_dir.clone(),
            memory_bytes: self.options.sort_memory_bytes,
        };
        let mut report = Report::new(root.to_string());
        let mut listed = 0;
        let mut counted = |item: &Item| {
            listed += 1;
            if listed % PROGRESS_EVERY == 0 {
                progress(Step::Objects(listed));
            }
            seen(item);
        };
        // First the objects, then the headers, then the signals, as documents flow: what happens
        // meanwhile then looks like something that is ahead, and not like something lost.
        let listing = listing::read(&self.stores, root, &spill, &mut counted).await?;
        if let (0, Some(reason)) = (listing.documents, &listing.incomplete) {
            return Err(ReconcileError::Listing {
                uri: root.to_string(),
                reason: reason.clone(),
            });
        }
        (report.objects, report.left_out) = (listing.documents, listing.left_out);
        report.incomplete = listing.incomplete;
        let scope = Scope::of(root, listing.is_object);
        let pending = topics::pending(&self.kafka, &self.options.vectorizer_group, &scope, &spill)
            .await
            .map_err(topic_failed("notices on their way"))?;
        let headers = self.headers(&scope, &spill, &mut report, progress).await?;
        let signals = if self.options.signals {
            let told = |count| progress(Step::Signals(count));
            let model = &self.options.model_version;
            let (signals, count) = topics::signals(&self.kafka, &scope, model, &spill, &told)
                .await
                .map_err(topic_failed("signals"))?;
            report.signals = count;
            Box::new(signals) as _
        } else {
            Box::new(std::iter::empty()) as _
        };
        let dead = topics::dead(&self.kafka, &scope, &spill)
            .await
            .map_err(topic_failed("dead letters"))?;
        let sources = Sources {
            items: Box::new(listing.items),
            headers: Box::new(headers),
            signals,
            pending: Box::new(pending),
            dead: Box::new(dead),
        };
        let judging = Judging {
            absences: report.incomplete.is_none(),
            signals: self.options.signals,
            dead_letters: !self.options.retry_dead_letters,
            listed_from_ms,
        };
        let differences = self
            .walk(sources, judging, &spill, &mut report, progress)
            .await?;
        report.seconds = started.elapsed().as_secs_f64();
        Ok(Compared {
            report,
            root: root.clone(),
            stores: self.stores.clone(),
            listed_from_ms,
            spill,
            differences,
        })
    }

    async fn headers(
        &self,
        scope: &Scope,
        spill: &Spill,
        report: &mut Report,
        progress: &(dyn Fn(Step) + Send + Sync),
    ) -> Result<Sorted<Header>, ReconcileError> {
        let failed = ReconcileError::Headers;
        self.headers.refresh().await.map_err(failed)?;
        let mut sorting = Sorting::begin(spill);
        for (prefix, only_itself) in scope.walks() {
            let mut after: Option<String> = None;
            loop {
                let limit = if only_itself { 1 } else { PAGE };
                let page = self.headers.page(prefix, after.as_deref(), limit).await;
                let page = page.map_err(failed)?;
                let is_last = only_itself || page.len() < PAGE;
                after = page.last().map(|header| header.uri.clone());
                for header in page {
                    if only_itself && header.uri != prefix {
                        continue;
                    }
                    let kind = if header.deleted {
                        &mut report.tombstones
                    } else {
                        &mut report.documents
                    };
                    *kind += 1;
                    sorting.push(header).await;
                }
                progress(Step::Headers(sorting.count));
                if is_last {
                    break;
                }
            }
        }
        Ok(sorting.finish().await?)
    }

    /// Walks the sources on a thread of its own and verifies here what it finds.
    async fn walk(
        &self,
        sources: Sources,
        judging: Judging,
        spill: &Spill,
        report: &mut Report,
        progress: &(dyn Fn(Step) + Send + Sync),
    ) -> Result<std::fs::File, ReconcileError> {
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
            Err(error) => Absence::Unknown(crate::chain(&error)),
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
