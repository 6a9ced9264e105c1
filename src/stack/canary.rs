//! A document uploaded on a schedule, to measure how long it takes until it is found.
//!
//! A round goes the way of every document: an object is written where uploads are, its notice is
//! published, and the index is searched for a word that nothing else has. Then the object goes, and its
//! removal is told. One URI is used again and again, so what a crash leaves the next round replaces.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use millrace_index::{Filter, Hit, Mode, SearchRequest};
use millrace_kafka::{KafkaConfig, Producer};
use millrace_objects::{ObjectStores, ObjectUri, ObjectWriter};
use millrace_producers::Publisher;
use millrace_retry::error_chain;
use millrace_schemas::{DocId, DocumentEvent, DocumentNotice, Layout};
use millrace_telemetry::prometheus_client::metrics::counter::Counter;
use millrace_telemetry::prometheus_client::metrics::family::Family;
use millrace_telemetry::prometheus_client::metrics::histogram::Histogram;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::deadline::Deadline;
use super::generations::OpenGenerations;
use crate::config::{CanarySection, Config};

/// Name of the object.
const OBJECT: &str = "millrace-canary.txt";
/// How often it is searched for; the figures are as fine as that.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Rounds that are remembered.
pub const RECENT: usize = 60;

/// What became of the rounds. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CanaryStats {
    /// Seconds from the beginning of the upload until a search found it.
    pub searchable_seconds: Histogram,
    /// Rounds by how they ended: found, late, failed.
    pub rounds: Family<[(&'static str, &'static str); 1], Counter>,
    recent: Arc<Mutex<VecDeque<Round>>>,
}

/// What became of one upload.
#[derive(Clone, Debug)]
pub struct Round {
    /// When it began, ms since 1970.
    pub at_ms: i64,
    /// How it ended.
    pub ending: Ending,
}

/// How a round ended.
#[derive(Clone, Debug)]
pub enum Ending {
    /// A search found the document.
    Found {
        /// From the beginning of the upload.
        seconds: f64,
    },
    /// None did within the time.
    Late {
        /// Why the last search failed, where it did.
        trouble: Option<String>,
    },
    /// It could not be uploaded, or its notice could not be published.
    Failed {
        /// Why.
        trouble: String,
    },
}

/// Names of the endings, as the metric has them.
const FOUND: &str = "found";
const LATE: &str = "late";
const FAILED: &str = "failed";

impl Ending {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Found { .. } => FOUND,
            Self::Late { .. } => LATE,
            Self::Failed { .. } => FAILED,
        }
    }
}

impl Default for CanaryStats {
    fn default() -> Self {
        let stats = Self {
            searchable_seconds: Histogram::new([
                0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
            ]),
            rounds: Family::default(),
            recent: Arc::default(),
        };
        // A rate over a counter that is not there yet is no rate: these begin with 0.
        for ending in [FOUND, LATE, FAILED] {
            drop(stats.rounds.get_or_create(&[("result", ending)]));
        }
        stats
    }
}

impl CanaryStats {
    /// The last rounds, the newest last.
    pub fn recent(&self) -> Vec<Round> {
        self.lock().iter().cloned().collect()
    }

    fn count(&self, round: Round) {
        if let Ending::Found { seconds } = round.ending {
            self.searchable_seconds.observe(seconds);
        }
        let labels = [("result", round.ending.as_str())];
        self.rounds.get_or_create(&labels).inc();
        let mut recent = self.lock();
        recent.push_back(round);
        if recent.len() > RECENT {
            recent.pop_front();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Round>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The running canary.
pub struct Canary {
    /// What became of the rounds.
    pub stats: CanaryStats,
    rounds: JoinHandle<()>,
    stopping: CancellationToken,
}

impl Canary {
    /// Begins with the rounds, where the configuration has any.
    ///
    /// # Errors
    /// Its location can't be written to or is not allowed to be read, or the producer's settings can't
    /// work.
    pub fn start(
        config: &Config,
        kafka: &KafkaConfig,
        generations: &Arc<OpenGenerations>,
        objects: &Arc<ObjectStores>,
    ) -> anyhow::Result<Option<Self>> {
        let Some(every) = config.canary.every() else {
            return Ok(None);
        };
        let stores = ObjectStores::clone(objects);
        let uri = location(config)?.child(OBJECT)?;
        let writer = ObjectWriter::of(stores.clone(), uri.clone());
        stores.allow_list().permits(&uri).with_context(|| {
            format!("the canary's uploads to {uri} could not be read by the vectorizer")
        })?;
        let stats = CanaryStats::default();
        let stopping = CancellationToken::new();
        let runner = Runner {
            uri,
            writer,
            stores,
            publisher: Publisher::new(Producer::connect(kafka)?),
            generations: Arc::clone(generations),
            section: config.canary.clone(),
            stats: stats.clone(),
            stopping: stopping.clone(),
        };
        Ok(Some(Self {
            stats,
            rounds: tokio::spawn(runner.run(every)),
            stopping,
        }))
    }

    /// Removes what the round under way has uploaded, then stops.
    pub async fn stop(self, deadline: Deadline) {
        self.stopping.cancel();
        let ended = async {
            if let Err(error) = self.rounds.await {
                tracing::warn!(%error, "the canary did not end by itself");
            }
        };
        deadline.wait_for("the canary", ended).await;
    }
}

/// The document's id, which searches for people and recommendations leave out; `None` where there is no
/// canary.
///
/// # Errors
/// Its location is no URI of a folder or a bucket.
pub fn doc_id(config: &Config) -> anyhow::Result<Option<DocId>> {
    if config.canary.every().is_none() {
        return Ok(None);
    }
    let uri = location(config)?.child(OBJECT)?;
    Ok(Some(DocId::from_uri(&uri.to_string())))
}

/// Where the object is written: the configured place, or a folder in the data folder.
pub fn location(config: &Config) -> anyhow::Result<ObjectUri> {
    match &config.canary.location {
        Some(location) => {
            let place = ObjectUri::parse(location)
                .with_context(|| format!("canary.location {location:?} is no place for objects"))?;
            ensure!(
                place.path().is_none_or(Path::is_dir),
                "canary.location {location:?} is no folder; make it, or name another"
            );
            Ok(place)
        }
        None => Ok(ObjectUri::file(&folder(config)?)?),
    }
}

/// The canary's folder in the data folder, made where it is missing.
fn folder(config: &Config) -> anyhow::Result<std::path::PathBuf> {
    let folder = config.data_dir.join("canary");
    std::fs::create_dir_all(&folder)
        .and_then(|()| folder.canonicalize())
        .with_context(|| format!("can't make the canary's folder {}", folder.display()))
}

struct Runner {
    uri: ObjectUri,
    writer: ObjectWriter,
    stores: ObjectStores,
    publisher: Publisher,
    generations: Arc<OpenGenerations>,
    section: CanarySection,
    stats: CanaryStats,
    stopping: CancellationToken,
}

impl Runner {
    async fn run(self, every: Duration) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while self
            .stopping
            .run_until_cancelled(ticks.tick())
            .await
            .is_some()
        {
            if let Some(round) = self.round().await {
                self.stats.count(round);
            }
        }
    }

    /// `None` where a stop cut it off.
    async fn round(&self) -> Option<Round> {
        // Of one word for BM25, and like no other document for the encoder.
        let now = jiff::Timestamp::now();
        let word = format!("canary{}", now.as_nanosecond());
        let began = Instant::now();
        let ending = match self.upload(&word).await {
            Ok(()) => self.wait(&word, began).await,
            Err(error) => {
                let trouble = error_chain(error.as_ref());
                tracing::warn!(
                    uri = %self.uri,
                    error = trouble,
                    "the canary can't be uploaded; see canary.location"
                );
                Some(Ending::Failed { trouble })
            }
        };
        if let Err(error) = self.remove().await {
            tracing::warn!(
                uri = %self.uri,
                error = error_chain(error.as_ref()),
                "the canary can't be removed; the next one replaces it"
            );
        }
        let at_ms = now.as_millisecond();
        ending.map(|ending| Round { at_ms, ending })
    }

    async fn upload(&self, word: &str) -> anyhow::Result<()> {
        self.writer.put(word.to_owned()).await?;
        let meta = self.stores.head(&self.uri).await?;
        let now_ms = jiff::Timestamp::now().as_millisecond();
        let notice = DocumentNotice {
            etag: meta.etag,
            size_bytes: i64::try_from(meta.size_bytes).ok(),
            media_type: Some("text/plain".to_owned()),
            ..self.notice(DocumentEvent::Created, now_ms)
        };
        self.publisher.publish(&notice, None).await?;
        Ok(())
    }

    async fn remove(&self) -> anyhow::Result<()> {
        self.writer.remove().await?;
        let now_ms = jiff::Timestamp::now().as_millisecond();
        let notice = self.notice(DocumentEvent::Removed, now_ms);
        self.publisher.publish(&notice, None).await?;
        Ok(())
    }

    fn notice(&self, event: DocumentEvent, event_time_ms: i64) -> DocumentNotice {
        DocumentNotice {
            uri: self.uri.to_string(),
            event,
            event_time_ms,
            etag: None,
            size_bytes: None,
            media_type: None,
            content: None,
            title: None,
            layout: Layout::Document,
            // Nobody is recommended it meanwhile.
            metadata: BTreeMap::from([("status".to_owned(), "withdrawn".to_owned())]),
            min_version: None,
            source: "canary".to_owned(),
        }
    }

    /// As a search of people would be: in the generation that serves.
    async fn search(&self, request: &SearchRequest) -> anyhow::Result<Vec<Hit>> {
        let serving = self.generations.serving().await?;
        Ok(serving.index.search(request).await?)
    }

    /// Searches until the document is found or its time is over. `None` where a stop cut it off.
    async fn wait(&self, word: &str, began: Instant) -> Option<Ending> {
        let request = SearchRequest {
            text: Some(word.to_owned()),
            mode: Mode::Text,
            k: 1,
            filter: Filter {
                uri_prefix: Some(self.uri.to_string()),
                ..Filter::default()
            },
            ..SearchRequest::default()
        };
        let limit = self.section.timeout();
        loop {
            let trouble = match self.search(&request).await {
                Ok(hits) if !hits.is_empty() => {
                    let seconds = began.elapsed().as_secs_f64();
                    tracing::debug!(seconds, "the canary was found");
                    return Some(Ending::Found { seconds });
                }
                Ok(_) => None,
                Err(error) => Some(error_chain(error.as_ref())),
            };
            if began.elapsed() >= limit {
                tracing::warn!(
                    uri = %self.uri,
                    seconds = limit.as_secs(),
                    searching = trouble.as_deref().unwrap_or("no trouble"),
                    "the canary is not found; see `millrace lag` and docs/why-not-found.md"
                );
                return Some(Ending::Late { trouble });
            }
            let wait = tokio::time::sleep(LOOK_EVERY);
            self.stopping.run_until_cancelled(wait).await?;
        }
    }
}
