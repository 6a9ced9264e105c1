//! `millrace ingest`: publish what is there, wait until all of it is done.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, bail};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use indicatif::ProgressBar;
use millrace_kafka::{Producer, ReadFrom, ReadUntil, TopicReader, topics};
use millrace_objects::{ObjectStores, ObjectStoresConfig, ObjectUri};
use millrace_producers::listing::{self, Listed};
use millrace_producers::{Noticed, Published, Publisher};
use millrace_retry::error_chain;
use millrace_schemas::{DocId, DocumentOutcome, OutcomeKind, decode};
use serde::Serialize;

use crate::config::Config;
use crate::output::{Output, counted};
use crate::session::Session;
use crate::stack::Needs;

/// How many documents are asked for at once when only the missing ones are wanted.
const LOOKUP_PAGE: usize = 500;

/// Publish a file, folder, bucket or corpus and wait until each document is done.
///
/// What runs on this data folder may read a path from then on: `granted-roots.json` there lists them.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A file, a folder, a corpus (`.jsonl`, `.csv`, also `.gz`), `oss://bucket/prefix` or `s3://bucket/prefix`.
    #[arg(value_name = "PATH_OR_URI")]
    source: String,
    /// Publish only documents that the index lacks.
    #[arg(long)]
    missing: bool,
}

/// What became of all that was published.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// Documents published, unreadable lines of a corpus included.
    pub documents: u64,
    /// Chunks written to the index.
    pub chunks: u64,
    /// Documents written to the index.
    pub indexed: u64,
    /// Documents of which the index held a newer version.
    pub stale: u64,
    /// Documents and lines that went to the dead-letter topic.
    pub dead_lettered: u64,
    /// Documents that a later notice made moot before they were read.
    pub superseded: u64,
    /// Documents that were gone and were removed from the index.
    pub removed: u64,
    /// From the first publication to the last outcome.
    pub seconds: f64,
    /// Documents a second.
    pub docs_per_second: f64,
    /// Tokens embedded a second.
    pub tokens_per_second: f64,
}

impl Summary {
    /// Counts what became of one document.
    pub fn count(&mut self, outcome: &DocumentOutcome) {
        self.chunks += u64::try_from(outcome.chunks).unwrap_or(0);
        let counter = match outcome.outcome {
            OutcomeKind::Indexed => &mut self.indexed,
            OutcomeKind::Removed => &mut self.removed,
            OutcomeKind::Stale => &mut self.stale,
            OutcomeKind::Superseded => &mut self.superseded,
            OutcomeKind::DeadLettered => &mut self.dead_lettered,
            OutcomeKind::Unknown => {
                tracing::warn!(
                    uri = outcome.uri,
                    "an outcome of a kind unknown to this version"
                );
                return;
            }
        };
        *counter += 1;
    }

    /// The summary as a person reads it.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{} in {:.1} s: {} indexed ({})",
            counted(self.documents, "document"),
            self.seconds,
            self.indexed,
            counted(self.chunks, "chunk")
        );
        for (count, what) in [
            (self.stale, "stale"),
            (self.superseded, "superseded"),
            (self.removed, "removed"),
            (
                self.dead_lettered,
                "dead-lettered (see `millrace dlq list`)",
            ),
        ] {
            if count > 0 {
                text.push_str(&format!(", {count} {what}"));
            }
        }
        text.push_str(&format!(
            " · {:.0} docs/s · {:.0} tokens/s",
            self.docs_per_second, self.tokens_per_second
        ));
        text
    }
}

/// What may be published, in order; an error ends nothing but itself.
pub type Source = BoxStream<'static, anyhow::Result<Noticed>>;

pub async fn run(args: Args, mut config: Config, output: Output) -> anyhow::Result<ExitCode> {
    let uri = source_uri(&args.source)?;
    if uri.path().is_none() {
        config.objects.allowed_buckets.push(uri.to_string());
    }
    let session = Session::attach_or_start(&config, Needs::INGEST).await?;
    let ingested = ingest(&session, &config.objects, &uri, args.missing, output).await;
    session.close().await;
    let (summary, unlisted) = ingested?;
    output.result(&summary, || summary.text())?;
    if unlisted > 0 {
        bail!("{unlisted} parts of {uri} could not be listed; the log names them");
    }
    Ok(ExitCode::SUCCESS)
}

/// Publishes what is at `uri` and waits for it; also tells how much could not be listed.
///
/// # Errors
/// The topics or the index can't be reached.
pub async fn ingest(
    session: &Session,
    objects: &ObjectStoresConfig,
    uri: &ObjectUri,
    only_missing: bool,
    output: Output,
) -> anyhow::Result<(Summary, u64)> {
    let mut objects = objects.clone();
    if let Some(path) = uri.path() {
        session.api.allow_root(path).await?;
        objects.allowed_roots.push(path.to_owned());
    }
    let mut source = listed(&ObjectStores::new(&objects)?, uri);
    if only_missing {
        source = missing(source, session);
    }
    let ingestion = async { Ingestion::begin(session, output).await?.run(source).await };
    let ingested = tokio::select! {
        ingested = ingestion => ingested?,
        gone = session.gone() => return Err(gone),
    };
    // What was ingested is found by the very next search.
    if let Err(error) = session.api.refresh().await {
        tracing::warn!(
            "all is done, but not made searchable at once: {}",
            error_chain(error.as_ref())
        );
    }
    Ok(ingested)
}

/// The URI of what is to be ingested.
///
/// # Errors
/// A path that does not exist, or a URI that is none.
pub fn source_uri(source: &str) -> anyhow::Result<ObjectUri> {
    if !source.contains("://") && !Path::new(source).exists() {
        bail!("no file or folder at {source}");
    }
    ObjectUri::parse(source).with_context(|| format!("can't ingest {source}"))
}

fn listed(stores: &ObjectStores, uri: &ObjectUri) -> Source {
    listing::list(stores, uri)
        .filter_map(|listed| async move {
            match listed {
                Ok(Listed::Noticed(noticed)) => Some(Ok(noticed)),
                Ok(Listed::Corpus(_) | Listed::CorpusEnd(_)) => None,
                Err(error) => Some(Err(error.into())),
            }
        })
        .boxed()
}

/// Leaves out the documents of which the index has a header.
fn missing(source: Source, session: &Session) -> Source {
    let api = session.api.clone();
    source
        .ready_chunks(LOOKUP_PAGE)
        .then(move |page| {
            let api = api.clone();
            async move {
                let id = |noticed: &anyhow::Result<Noticed>| match noticed {
                    Ok(Noticed::Document(notice)) => Some(DocId::from_uri(&notice.uri)),
                    Ok(Noticed::Rejected(_)) | Err(_) => None,
                };
                let ids: Vec<String> = page
                    .iter()
                    .filter_map(id)
                    .map(|id| id.as_str().to_owned())
                    .collect();
                let present: HashSet<String> = match api.headers(&ids).await {
                    Ok(headers) => headers
                        .into_iter()
                        .flatten()
                        .filter(|header| !header.deleted)
                        .map(|header| header.doc_id)
                        .collect(),
                    Err(error) => return vec![Err(error)],
                };
                page.into_iter()
                    .filter(|noticed| id(noticed).is_none_or(|id| !present.contains(id.as_str())))
                    .collect()
            }
        })
        .flat_map(stream::iter)
        .boxed()
}

/// One publication and the wait for its outcomes, whatever else flows.
pub struct Ingestion {
    publisher: Publisher,
    outcomes: TopicReader,
    documents_topic: String,
    bar: ProgressBar,
    /// Published and not done yet, by partition and offset.
    pending: HashSet<(i32, i64)>,
    /// Done before its publication was acknowledged to us.
    early: HashMap<(i32, i64), DocumentOutcome>,
    summary: Summary,
    tokens: i64,
    unlisted: u64,
}

impl Ingestion {
    /// Reads outcomes from here on, so that none of the publications that follow is missed.
    ///
    /// # Errors
    /// The brokers can't be reached.
    pub async fn begin(session: &Session, output: Output) -> anyhow::Result<Self> {
        let kafka = &session.kafka;
        let topic = kafka.topic(topics::OUTCOMES);
        let outcomes = TopicReader::open(kafka, &topic, &ReadFrom::End, ReadUntil::Forever).await?;
        Ok(Self {
            publisher: Publisher::new(Producer::connect(kafka)?),
            outcomes,
            documents_topic: kafka.topic(topics::DOCUMENTS),
            bar: output.progress(Some(0), "docs"),
            pending: HashSet::new(),
            early: HashMap::new(),
            summary: Summary::default(),
            tokens: 0,
            unlisted: 0,
        })
    }

    /// Publishes all of `source` and waits until each of it is done; also tells how much of it failed.
    ///
    /// # Errors
    /// The brokers refuse a notice, or the pipeline stops.
    pub async fn run(mut self, source: Source) -> anyhow::Result<(Summary, u64)> {
        let started = Instant::now();
        let publisher = self.publisher.clone();
        let unlisted = std::sync::atomic::AtomicU64::new(0);
        let noticed = source.filter_map(|noticed| {
            let unlisted = &unlisted;
            async move {
                noticed
                    .inspect_err(|error| {
                        unlisted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        tracing::warn!("not listed: {}", error_chain(error.as_ref()));
                    })
                    .ok()
            }
        });
        let mut published = std::pin::pin!(publisher.publish_all(noticed));
        let mut publishing = true;
        while publishing || !self.pending.is_empty() {
            tokio::select! {
                next = published.next(), if publishing => match next {
                    Some(position) => self.published(position?),
                    None => {
                        publishing = false;
                        // Whatever came early and was not ours never will be.
                        self.early.clear();
                    }
                },
                record = self.outcomes.next() => match record {
                    Some(record) => self.outcome(&record?, publishing),
                    None => bail!("the outcomes topic ended before all documents were done"),
                },
            }
        }
        self.bar.finish_and_clear();
        self.unlisted = unlisted.load(std::sync::atomic::Ordering::Relaxed);
        let seconds = started.elapsed().as_secs_f64();
        self.summary.seconds = seconds;
        if seconds > 0.0 {
            self.summary.docs_per_second = self.summary.documents as f64 / seconds;
            self.summary.tokens_per_second = self.tokens as f64 / seconds;
        }
        Ok((self.summary, self.unlisted))
    }

    fn published(&mut self, published: Published) {
        self.summary.documents += 1;
        self.bar.inc_length(1);
        match published {
            Published::Document(position) => {
                let place = (position.partition, position.offset);
                match self.early.remove(&place) {
                    Some(outcome) => self.count(&outcome),
                    None => {
                        self.pending.insert(place);
                    }
                }
            }
            Published::Rejected(_) => {
                self.summary.dead_lettered += 1;
                self.bar.inc(1);
            }
        }
    }

    fn outcome(&mut self, record: &millrace_kafka::Record, publishing: bool) {
        let Some(outcome) = record.value.as_deref().and_then(|value| decode(value).ok()) else {
            tracing::warn!(offset = record.offset, "an outcome could not be read");
            return;
        };
        let outcome: DocumentOutcome = outcome;
        if outcome.origin.topic != self.documents_topic {
            return;
        }
        let place = (outcome.origin.partition, outcome.origin.offset);
        if self.pending.remove(&place) {
            self.count(&outcome);
        } else if publishing {
            self.early.insert(place, outcome);
        }
    }

    fn count(&mut self, outcome: &DocumentOutcome) {
        self.bar.inc(1);
        self.tokens += outcome.tokens;
        self.summary.count(outcome);
    }
}
