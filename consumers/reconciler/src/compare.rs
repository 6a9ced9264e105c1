//! One comparison: fill the sources, then walk them.

use std::io::{Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use millrace_index::BoxError;
use millrace_kafka::KafkaConfig;
use millrace_objects::{ObjectStores, ObjectUri};

use crate::class::{Difference, Judging};
use crate::headers::{Header, Headers, PAGE, Scope};
use crate::listing::{self, Item};
use crate::merge::Sources;
use crate::report::Report;
use crate::runs::{LineReader, Sorted, Sorting, Spill, SpillError};
use crate::topics::{self, TopicsError};

/// Told once in so many.
pub(crate) const PROGRESS_EVERY: u64 = 1_000;

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
        TopicsError::Registry(error) => ReconcileError::Topic {
            topic,
            source: error.into(),
        },
        TopicsError::Config(error) => ReconcileError::Topic {
            topic,
            source: error.into(),
        },
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
                    if !sorting.push(header).await {
                        return Ok(sorting.finish().await?);
                    }
                }
                progress(Step::Headers(sorting.count));
                if is_last {
                    break;
                }
            }
        }
        Ok(sorting.finish().await?)
    }
}
