//! A whole pipeline in a temporary folder, and questions to ask it with a deadline.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use millrace_broker::{Broker, BrokerConfig};
use millrace_index::{
    BulkSink, EmbeddedIndex, IndexSpec, KnnEngine, OpenSearchConfig, OpenSearchIndex, Record,
    SearchIndex, SinkConfig, SinkState,
};
use millrace_kafka::{
    Admin, Consumer, ConsumerConfig, DeadLetter, DeadLetters, KafkaConfig, Producer, RawRecord,
    ReadFrom, ReadUntil, TopicReader, read_dead_letters, topics,
};
use millrace_models::{Encoder, EncoderOptions, ModelStore};
use millrace_objects::{ObjectStores, ObjectStoresConfig};
use millrace_schemas::{
    DocId, DocumentEvent, DocumentNotice, DocumentOutcome, EventHeaders, Layout, Message, Origin,
    OutcomeKind, SchemaRegistry, Signal, decode,
};
use millrace_vectorizer::{
    ExtractorCommand, Outsiders, StartError, Tells, Vectorizer, VectorizerConfig, VectorizerDeps,
    VectorizerHandle,
};
use tokio::sync::{OnceCell, watch};

/// How long anything may take: generous, since the machine may be busy.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// What stands behind the pipeline.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// A broker and an index in the stack's own folder.
    Embedded,
    /// The Kafka and OpenSearch that `millrace-servers` knows, under names of the stack's own.
    Real,
}

/// Makes of each function of a [`Target`] a test on either.
macro_rules! on_both_targets {
    ($($check:ident),+ $(,)?) => {
        mod embedded {$(
            #[tokio::test(flavor = "multi_thread")]
            async fn $check() -> anyhow::Result<()> {
                super::$check($crate::stack::Target::Embedded).await
            }
        )+}
        mod real {$(
            #[tokio::test(flavor = "multi_thread")]
            async fn $check() -> anyhow::Result<()> {
                super::$check($crate::stack::Target::Real).await
            }
        )+}
    };
}
pub(crate) use on_both_targets;

/// The real model, loaded once for all tests.
pub async fn encoder() -> Result<Arc<Encoder>> {
    static ENCODER: OnceCell<Arc<Encoder>> = OnceCell::const_new();
    let encoder = ENCODER
        .get_or_try_init(|| async {
            let folder = ModelStore::from_env()?
                .pull("all-MiniLM-L6-v2", &mut |_, _| {})
                .await?;
            let load = move || Encoder::load(&folder, EncoderOptions::default());
            anyhow::Ok(Arc::new(tokio::task::spawn_blocking(load).await??))
        })
        .await?;
    Ok(Arc::clone(encoder))
}

pub fn worker() -> ExtractorCommand {
    ExtractorCommand {
        program: env!("CARGO_BIN_EXE_millrace-extract-worker").into(),
        args: Vec::new(),
    }
}

pub fn spec(encoder: &Encoder) -> IndexSpec {
    IndexSpec {
        name: "documents".to_owned(),
        generation: 1,
        dimension: encoder.dimension(),
        model_version: encoder.version().to_owned(),
        model_fingerprint: encoder.fingerprint().as_str().to_owned(),
        engine: KnnEngine::Lucene,
    }
}

pub fn now_ms() -> i64 {
    i64::try_from(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_millis(),
    )
    .unwrap()
}

/// Asks until it is so.
pub async fn eventually(what: &str, mut ask: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    while !ask().await? {
        if Instant::now() > deadline {
            bail!("{what}: not within {DEADLINE:?}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

pub struct Stack {
    pub folder: tempfile::TempDir,
    pub kafka: KafkaConfig,
    /// The consumer group; another one reads the topic from its beginning.
    pub group: String,
    pub spec: IndexSpec,
    pub index: Arc<dyn SearchIndex>,
    pub encoder: Arc<Encoder>,
    pub config: VectorizerConfig,
    pub producer: Producer,
    /// What may be read beside the stack's own folder.
    pub stores: ObjectStoresConfig,
    pub outsiders: Outsiders,
    pub registry: Option<Arc<dyn SchemaRegistry>>,
    vectorizer: Option<VectorizerHandle>,
    sink: Mutex<Option<watch::Receiver<SinkState>>>,
    _broker: Option<Broker>,
}

impl Stack {
    /// Everything but the vectorizer.
    pub async fn idle() -> Result<Self> {
        Self::idle_on(Target::Embedded).await
    }

    pub async fn idle_on(target: Target) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::create_dir(folder.path().join("objects"))?;
        let encoder = encoder().await?;
        let mut spec = spec(&encoder);
        let mut kafka = KafkaConfig::default();
        let (broker, index): (_, Arc<dyn SearchIndex>) = match target {
            Target::Embedded => {
                let broker = Broker::start(BrokerConfig::new(folder.path().join("broker")))?;
                kafka.bootstrap = broker.bootstrap();
                let index = EmbeddedIndex::open(folder.path().join("index"))?;
                (Some(broker), Arc::new(index))
            }
            Target::Real => {
                let name = millrace_servers::unique_name("vectorizer");
                kafka.bootstrap = millrace_servers::kafka()?;
                kafka.topic_prefix = format!("{name}.");
                spec.name = name;
                let config = OpenSearchConfig {
                    replicas: 0,
                    ..OpenSearchConfig::new([millrace_servers::opensearch()?])
                };
                (None, Arc::new(OpenSearchIndex::new(config)?))
            }
        };
        Admin::connect(&kafka)?.create_declared().await?;
        index.ensure(&spec).await?;
        Ok(Self {
            producer: Producer::connect(&kafka)?,
            folder,
            group: format!("{}vectorizer", kafka.topic_prefix),
            kafka,
            spec,
            index,
            encoder,
            config: VectorizerConfig::default(),
            stores: ObjectStoresConfig::default(),
            outsiders: Outsiders::default(),
            registry: None,
            vectorizer: None,
            sink: Mutex::default(),
            _broker: broker,
        })
    }

    pub async fn running() -> Result<Self> {
        Self::running_on(Target::Embedded).await
    }

    pub async fn running_on(target: Target) -> Result<Self> {
        let mut stack = Self::idle_on(target).await?;
        stack.start().await?;
        Ok(stack)
    }

    pub async fn start(&mut self) -> Result<()> {
        self.start_with(Arc::clone(&self.index)).await
    }

    /// Starts the vectorizer with something between it and the index.
    pub async fn start_with(&mut self, index: Arc<dyn SearchIndex>) -> Result<()> {
        self.vectorizer = Some(self.vectorizer(self.spec.clone(), index).await?);
        Ok(())
    }

    pub async fn vectorizer(
        &self,
        index_spec: IndexSpec,
        index: Arc<dyn SearchIndex>,
    ) -> Result<VectorizerHandle, StartError> {
        let mut stores = self.stores.clone();
        stores.allowed_roots.push(self.objects());
        let sink = BulkSink::start(Arc::clone(&index), SinkConfig::default());
        *self.sink.lock().unwrap() = Some(sink.state());
        Vectorizer::start(VectorizerDeps {
            consumer: Consumer::start(
                &self.kafka,
                &ConsumerConfig::new(self.group.clone(), &[topics::DOCUMENTS]),
            )
            .unwrap(),
            producer: self.producer.clone(),
            dead_letters: DeadLetters::new(self.producer.clone(), "vectorizer"),
            registry: self.registry.clone(),
            sink,
            index,
            index_spec,
            objects: ObjectStores::new(&stores).unwrap(),
            outsiders: self.outsiders,
            tells: tokio::sync::watch::channel(Tells::Everything).1,
            encoder: Arc::clone(&self.encoder),
            extractor: worker(),
            config: self.config.clone(),
        })
        .await
    }

    pub fn handle(&self) -> &VectorizerHandle {
        self.vectorizer.as_ref().expect("the vectorizer runs")
    }

    /// Whether the bulk sink waits for somebody to repair the index.
    pub fn is_halted(&self) -> bool {
        let sink = self.sink.lock().unwrap();
        sink.as_ref()
            .is_some_and(|state| matches!(*state.borrow(), SinkState::Halted { .. }))
    }

    pub async fn stop(&mut self, deadline: Duration) -> usize {
        self.vectorizer
            .take()
            .expect("the vectorizer runs")
            .shutdown(deadline)
            .await
            .unfinished
    }

    pub fn objects(&self) -> PathBuf {
        self.folder
            .path()
            .join("objects")
            .canonicalize()
            .expect("the folder is there")
    }

    pub fn uri(&self, name: &str) -> String {
        millrace_objects::ObjectUri::file(&self.objects().join(name))
            .expect("a plain name")
            .to_string()
    }

    pub fn put(&self, name: &str, content: impl AsRef<[u8]>) -> Result<DocumentNotice> {
        let path = self.objects().join(name);
        std::fs::create_dir_all(path.parent().context("inside the folder")?)?;
        // At once, as object stores do: a reader in between would see an empty file.
        let staging = self.folder.path().join("staging");
        std::fs::write(&staging, content)?;
        std::fs::rename(staging, path)?;
        Ok(self.notice(name))
    }

    pub fn delete(&self, name: &str) -> Result<DocumentNotice> {
        std::fs::remove_file(self.objects().join(name))?;
        Ok(DocumentNotice {
            event: DocumentEvent::Removed,
            ..self.notice(name)
        })
    }

    pub fn notice(&self, name: &str) -> DocumentNotice {
        DocumentNotice {
            uri: self.uri(name),
            event: DocumentEvent::Created,
            event_time_ms: now_ms(),
            etag: None,
            size_bytes: None,
            media_type: None,
            content: None,
            title: None,
            layout: Layout::Document,
            metadata: BTreeMap::new(),
            min_version: None,
            source: "test".to_owned(),
        }
    }

    pub async fn publish(&self, notice: &DocumentNotice) -> Result<Origin> {
        let event = EventHeaders {
            id: notice.uri.clone(),
            source: "test".to_owned(),
            type_: "millrace.documents.created".to_owned(),
            time_ms: Some(now_ms()),
            traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse()?),
        };
        let at = self
            .producer
            .send(&notice.uri, None, notice, &event)
            .await?;
        Ok(Origin {
            topic: at.topic,
            partition: at.partition,
            offset: at.offset,
        })
    }

    pub async fn publish_raw(&self, key: &str, value: &[u8]) -> Result<Origin> {
        let at = self
            .producer
            .send_raw(RawRecord {
                topic: self.kafka.topic(topics::DOCUMENTS),
                key: Some(key.as_bytes().to_vec().into()),
                value: Some(value.to_vec().into()),
                headers: Vec::new(),
                timestamp_ms: None,
                partition_key: None,
            })
            .await?;
        Ok(Origin {
            topic: at.topic,
            partition: at.partition,
            offset: at.offset,
        })
    }

    /// Publishes and waits for the outcome.
    pub async fn settle(&self, notice: &DocumentNotice) -> Result<DocumentOutcome> {
        let origin = self.publish(notice).await?;
        self.outcome(&origin).await
    }

    pub async fn outcome(&self, origin: &Origin) -> Result<DocumentOutcome> {
        let deadline = Instant::now() + DEADLINE;
        let topic = self.kafka.topic(topics::OUTCOMES);
        let mut reader = TopicReader::open(
            &self.kafka,
            &topic,
            &ReadFrom::Beginning,
            ReadUntil::Forever,
        )
        .await?;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, reader.next()).await {
                Ok(Some(record)) => {
                    let outcome: DocumentOutcome =
                        decode(&record?.value.context("an outcome has a value")?)?;
                    if outcome.origin == *origin {
                        return Ok(outcome);
                    }
                }
                Ok(None) => bail!("the outcomes ended"),
                Err(_) => bail!(
                    "no outcome of {origin} within {DEADLINE:?}: {:?}",
                    self.handle().stats()
                ),
            }
        }
    }

    pub async fn outcomes(&self) -> Result<Vec<DocumentOutcome>> {
        self.messages(topics::OUTCOMES).await
    }

    /// All signals in the order of their partitions.
    pub async fn signals(&self) -> Result<Vec<Signal>> {
        self.messages(topics::SIGNALS).await
    }

    /// The last signal of each item.
    pub async fn last_signals(&self) -> Result<HashMap<String, Signal>> {
        Ok(self
            .signals()
            .await?
            .into_iter()
            .map(|signal| (signal.key(), signal))
            .collect())
    }

    async fn messages<M: Message>(&self, topic: &str) -> Result<Vec<M>> {
        let topic = self.kafka.topic(topic);
        let reader = TopicReader::open(
            &self.kafka,
            &topic,
            &ReadFrom::Beginning,
            ReadUntil::PresentEnd,
        )
        .await?;
        reader
            .collect()
            .await?
            .into_iter()
            .map(|record| Ok(decode(&record.value.context("a message has a value")?)?))
            .collect()
    }

    pub async fn dead_letters(&self) -> Result<Vec<DeadLetter>> {
        let reader =
            read_dead_letters(&self.kafka, topics::DOCUMENTS, &ReadFrom::Beginning).await?;
        Ok(reader
            .collect()
            .await?
            .into_iter()
            .map(DeadLetter::from_record)
            .collect())
    }

    /// Publishes what can never pass and returns its dead letter.
    pub async fn refused(&self, notice: &DocumentNotice) -> Result<DeadLetter> {
        let origin = self.publish(notice).await?;
        self.dead_letter(&origin).await
    }

    pub async fn dead_letter(&self, origin: &Origin) -> Result<DeadLetter> {
        let outcome = self.outcome(origin).await?;
        anyhow::ensure!(outcome.outcome == OutcomeKind::DeadLettered, "{outcome:?}");
        let letters = self.dead_letters().await?;
        let letter = letters
            .into_iter()
            .find(|letter| letter.origin == *origin)
            .context("no dead letter")?;
        anyhow::ensure!(
            outcome.error_type.as_ref() == Some(&letter.error_type),
            "{outcome:?} {letter:?}"
        );
        Ok(letter)
    }

    pub async fn header(&self, name: &str) -> Result<Option<Record>> {
        let id = DocId::from_uri(&self.uri(name)).to_string();
        Ok(self.index.get(&[id]).await?.remove(0))
    }

    /// Chunk numbers below `below` that are there and no tombstones.
    pub async fn live_chunks(&self, name: &str, below: u32) -> Result<Vec<u32>> {
        let doc_id = DocId::from_uri(&self.uri(name));
        let ids: Vec<String> = (0..below).map(|number| doc_id.chunk(number)).collect();
        let chunks = self.index.get(&ids).await?;
        Ok(chunks
            .into_iter()
            .flatten()
            .filter(|chunk| !chunk.deleted)
            .filter_map(|chunk| chunk.chunk)
            .collect())
    }

    /// Everything that the index knows of these documents, without what may differ between runs.
    pub async fn state(&self, names: &[&str]) -> Result<Vec<Option<Record>>> {
        let mut ids = Vec::new();
        for name in names {
            let doc_id = DocId::from_uri(&self.uri(name));
            ids.push(doc_id.to_string());
            ids.extend((0..20).map(|number| doc_id.chunk(number)));
        }
        Ok(self.index.fetch(&ids, true).await?)
    }
}

pub fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("fixture {}: {error}", path.display()))
}

/// A text of `sentences` different sentences, some twelve tokens each.
pub fn text(sentences: usize) -> String {
    (0..sentences)
        .map(|n| format!("Sentence number {n} speaks of the harbour and its ships. "))
        .collect()
}
