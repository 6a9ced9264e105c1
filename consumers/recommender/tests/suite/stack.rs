//! A broker, an index and a recommender, and questions to ask with a deadline.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use async_trait::async_trait;
use millrace_broker::{Broker, BrokerConfig};
use millrace_features::{FeatureSet, Profile, ProfileSettings};
use millrace_index::{
    BulkAction, EmbeddedIndex, Hit, IndexCounts, IndexDescription, IndexError, IndexSpec,
    ItemOutcome, KnnEngine, Record, SearchIndex, SearchRequest,
};
use millrace_kafka::{
    Admin, KafkaConfig, Producer, RawRecord, ReadFrom, ReadUntil, TopicReader, topics,
};
use millrace_recommender::{
    Answer, BoxError, Profiles, RecommendRequest, Recommender, RecommenderConfig, RecommenderDeps,
};
use millrace_schemas::{
    BehaviorEvent, BehaviorKind, Bucket, EventHeaders, Feedback, FeedbackItem, Impression,
    ItemCounters, ItemStats, Origin, Signal, User, decode,
};

/// How long anything may take: generous, since the machine may be busy.
pub const DEADLINE: Duration = Duration::from_secs(60);
pub const MODEL: &str = "test-1";
pub const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
pub const DIMENSION: usize = 4;
pub const HOUR_MS: i64 = 3_600_000;

/// Topics of the vectors, and what their items are about.
pub const SPACE: ([f32; 4], &str) = ([1.0, 0.0, 0.0, 0.0], "space");
pub const COOKING: ([f32; 4], &str) = ([0.0, 1.0, 0.0, 0.0], "cooking");
pub const CHESS: ([f32; 4], &str) = ([0.0, 0.0, 1.0, 0.0], "chess");

/// Everything a recommender stands on.
pub struct Stack {
    pub kafka: KafkaConfig,
    pub producer: Producer,
    pub index: Arc<FaultyIndex>,
    pub profiles: Arc<GivenProfiles>,
    pub features: FeatureSet,
    _broker: Broker,
    folder: tempfile::TempDir,
}

impl Stack {
    pub async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let broker = Broker::start(BrokerConfig::new(folder.path().join("broker")))?;
        let kafka = KafkaConfig {
            bootstrap: broker.bootstrap(),
            topic_prefix: format!("{}.", millrace_servers::unique_name("recommender-test")),
            ..KafkaConfig::default()
        };
        Admin::connect(&kafka)?.create_declared().await?;
        let index = EmbeddedIndex::open(folder.path().join("index"))?;
        let spec = IndexSpec {
            name: "items".to_owned(),
            generation: 1,
            dimension: DIMENSION,
            model_version: MODEL.to_owned(),
            model_fingerprint: "f00d".to_owned(),
            engine: KnnEngine::default(),
        };
        index.ensure(&spec).await?;
        Ok(Self {
            producer: Producer::connect(&kafka)?,
            kafka,
            index: Arc::new(FaultyIndex {
                index,
                down: AtomicBool::new(false),
            }),
            profiles: Arc::default(),
            features: FeatureSet::default_for(MODEL),
            _broker: broker,
            folder,
        })
    }

    pub fn models_dir(&self) -> PathBuf {
        self.folder.path().join("models")
    }

    pub fn state_dir(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// A recommender that has read all that is there.
    pub async fn recommender(&self, config: &str) -> Result<Recommender> {
        ready(self.starting(config).await?).await
    }

    /// A recommender that has just been started.
    pub async fn starting(&self, config: &str) -> Result<Recommender> {
        let profiles = Arc::clone(&self.profiles) as Arc<dyn Profiles>;
        self.starting_with(config, profiles).await
    }

    /// The same with other profiles than those that tests give.
    pub async fn starting_with(
        &self,
        config: &str,
        profiles: Arc<dyn Profiles>,
    ) -> Result<Recommender> {
        let config: RecommenderConfig = toml::from_str(&generous(config))?;
        Ok(Recommender::start(RecommenderDeps {
            kafka: self.kafka.clone(),
            registry: None,
            producer: self.producer.clone(),
            index: Arc::clone(&self.index) as Arc<dyn SearchIndex>,
            profiles,
            features: self.features.clone(),
            embedding_version: MODEL.to_owned(),
            models_dir: self.models_dir(),
            config,
        })
        .await?)
    }

    /// Publishes documents' signals, and writes them to the index.
    pub async fn upload(&self, signals: &[Signal]) -> Result<()> {
        let sends = signals.iter().map(|signal| self.publish_signal(signal));
        futures::future::try_join_all(sends).await?;
        let actions = signals.iter().flat_map(records).collect();
        for outcome in self.index.bulk(actions).await? {
            anyhow::ensure!(outcome == ItemOutcome::Indexed, "{outcome:?}");
        }
        Ok(())
    }

    pub async fn publish_signal(&self, signal: &Signal) -> Result<()> {
        let (key, item) = (signal.key(), Some(signal.item_id.as_str()));
        self.producer.send(&key, item, signal, &headers()).await?;
        Ok(())
    }

    pub async fn publish_stats(&self, stats: &ItemStats) -> Result<()> {
        self.producer
            .send(&stats.item_id, None, stats, &headers())
            .await?;
        Ok(())
    }

    /// A row of the upstream system's user table.
    pub async fn publish_user(&self, user_id: &str, fields: &[(&str, &str)]) -> Result<()> {
        let fields = fields.iter().map(|(key, value)| (*key, *value));
        let user = User {
            user_id: user_id.to_owned(),
            fields: fields
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            deleted: false,
            updated_at_ms: now_ms(),
            source: "airec".to_owned(),
        };
        self.producer.send(user_id, None, &user, &headers()).await?;
        Ok(())
    }

    pub async fn publish_raw(&self, topic: &str, key: &str, value: Option<&[u8]>) -> Result<()> {
        let record = RawRecord {
            topic: self.kafka.topic(topic),
            key: Some(key.as_bytes().to_vec().into()),
            value: value.map(|value| value.to_vec().into()),
            ..RawRecord::default()
        };
        self.producer.send_raw(record).await?;
        Ok(())
    }

    /// All impressions there are.
    pub async fn impressions(&self) -> Result<Vec<(Impression, Option<EventHeaders>)>> {
        let topic = self.kafka.topic(topics::IMPRESSIONS);
        let reader = TopicReader::open(
            &self.kafka,
            &topic,
            &ReadFrom::Beginning,
            ReadUntil::PresentEnd,
        )
        .await?;
        let records = reader.collect().await?;
        let read = |record: millrace_kafka::Record| {
            let impression = decode(&record.value.clone().context("a value")?)?;
            Ok((impression, record.event()))
        };
        records.into_iter().map(read).collect()
    }

    /// Twenty items of each topic, all in the index and read.
    pub async fn with_sixty_items(config: &str) -> Result<(Self, Recommender)> {
        let stack = Self::start().await?;
        let about = |n| [SPACE, COOKING, CHESS].map(|about| item(about, n));
        stack
            .upload(&(0..20).flat_map(about).collect::<Vec<_>>())
            .await?;
        let recommender = stack.recommender(config).await?;
        Ok((stack, recommender))
    }
}

/// The recommender, once it has read all that is there.
pub async fn ready(recommender: Recommender) -> Result<Recommender> {
    let mut ready = recommender.ready();
    tokio::time::timeout(DEADLINE, ready.wait_for(|ready| *ready)).await??;
    Ok(recommender)
}

/// Timings decide no test: unless it says otherwise, a source has a minute.
fn generous(config: &str) -> String {
    let sources = [
        "semantic_recall",
        "text",
        "hybrid",
        "item_to_item",
        "trending",
        "fresh",
    ];
    let sources = sources.map(|source| format!("{source} = {{ timeout_ms = 60000 }}"));
    let mut config = config.to_owned();
    if !config.contains("limits") {
        config.push_str("\n[limits]\nprofile_timeout_ms = 60000\n");
    }
    if !config.contains("[pipelines.default]") {
        let sources = sources.join(", ");
        config.push_str(&format!(
            "\n[pipelines.default]\nsources = {{ {sources} }}\n"
        ));
    }
    config
}

/// Header and chunk of a document.
fn records(signal: &Signal) -> [BulkAction; 2] {
    let header = Record {
        id: signal.item_id.clone(),
        doc_id: signal.item_id.clone(),
        version: signal.document_version,
        uri: signal.uri.clone(),
        model_version: MODEL.to_owned(),
        chunk_count: Some(1),
        ..Record::default()
    };
    let chunk = Record {
        id: format!("{}#0", signal.item_id),
        chunk: Some(0),
        text: Some(signal.key_phrases.join(" ")),
        vector: Some(signal.vector.clone()),
        title: signal.title.clone(),
        categories: signal.categories.clone(),
        tags: signal.tags.clone(),
        language: signal.language.clone(),
        media_type: Some(signal.media_type.clone()),
        published_at_ms: signal.published_at_ms,
        chunk_count: None,
        ..header.clone()
    };
    [BulkAction::upsert(header), BulkAction::upsert(chunk)]
}

/// The index, or nothing while it is down.
pub struct FaultyIndex {
    index: EmbeddedIndex,
    pub down: AtomicBool,
}

impl FaultyIndex {
    fn up(&self) -> Result<(), IndexError> {
        if self.down.load(Relaxed) {
            return Err(IndexError::Unavailable {
                what: "it was taken down".to_owned(),
                source: None,
            });
        }
        Ok(())
    }
}

#[async_trait]
impl SearchIndex for FaultyIndex {
    async fn ensure(&self, spec: &IndexSpec) -> Result<(), IndexError> {
        self.index.ensure(spec).await
    }
    async fn bulk(&self, actions: Vec<BulkAction>) -> Result<Vec<ItemOutcome>, IndexError> {
        self.index.bulk(actions).await
    }
    async fn fetch(
        &self,
        ids: &[String],
        with_vectors: bool,
    ) -> Result<Vec<Option<Record>>, IndexError> {
        self.index.fetch(ids, with_vectors).await
    }
    async fn search(&self, request: &SearchRequest) -> Result<Vec<Hit>, IndexError> {
        self.up()?;
        self.index.search(request).await
    }
    async fn count(&self) -> Result<IndexCounts, IndexError> {
        self.index.count().await
    }
    async fn headers(
        &self,
        uri_prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Record>, IndexError> {
        self.index.headers(uri_prefix, after, limit).await
    }
    async fn warm_up(&self) -> Result<(), IndexError> {
        self.index.warm_up().await
    }
    async fn refresh(&self) -> Result<(), IndexError> {
        self.index.refresh().await
    }
    async fn sweep(&self, older_than_version: i64) -> Result<u64, IndexError> {
        self.index.sweep(older_than_version).await
    }
    async fn describe(&self) -> Result<IndexDescription, IndexError> {
        self.up()?;
        self.index.describe().await
    }
}

/// Profiles that tests give.
#[derive(Default)]
pub struct GivenProfiles {
    profiles: Mutex<HashMap<String, Arc<Profile>>>,
    pub down: AtomicBool,
    pub hangs: AtomicBool,
}

impl GivenProfiles {
    pub fn give(&self, profile: Profile) {
        let user = profile.user_id().to_owned();
        self.profiles
            .lock()
            .unwrap()
            .insert(user, Arc::new(profile));
    }
}

#[async_trait]
impl Profiles for GivenProfiles {
    async fn get(&self, user_id: &str) -> Result<Option<Arc<Profile>>, BoxError> {
        if self.hangs.load(Relaxed) {
            std::future::pending::<()>().await;
        }
        if self.down.load(Relaxed) {
            return Err("the store was taken down".into());
        }
        Ok(self.profiles.lock().unwrap().get(user_id).cloned())
    }
}

/// A profile of someone who did this, now.
pub fn profile(user_id: &str, deeds: &[(Signal, BehaviorKind)]) -> Profile {
    let mut profile = Profile::new(user_id, MODEL);
    for (n, (signal, kind)) in deeds.iter().enumerate() {
        let event = BehaviorEvent {
            user_id: user_id.to_owned(),
            event_id: n.to_string(),
            item_id: signal.item_id.clone(),
            item: signal.item_id.clone(),
            kind: *kind,
            value: None,
            event_time_ms: now_ms() - 10_000 + i64::try_from(n).unwrap(),
            request_id: None,
            trace_info: None,
            scene_id: None,
            position: None,
            attributes: BTreeMap::new(),
            source: "own".to_owned(),
        };
        let feedback = Feedback {
            event,
            origin: origin(),
            item: FeedbackItem::from(signal.clone()),
            expected_ctr: Some(0.1),
        };
        profile.apply(&feedback, &ProfileSettings::default());
    }
    profile
}

/// An item about something: near to all others about it, and a little apart.
pub fn item((direction, about): ([f32; 4], &str), n: usize) -> Signal {
    let mut vector = direction.to_vec();
    vector[3] = 0.05 * (n as f32 + 1.0);
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.iter_mut().for_each(|x| *x /= length);
    let version = (now_ms() - 60_000 + i64::try_from(n).unwrap()) << 20;
    Signal {
        item_id: format!("{about}-{n:02}"),
        uri: format!("file:///{about}/{n}"),
        document_version: version,
        model_version: MODEL.to_owned(),
        vector,
        title: Some(format!("On {about}, part {n}")),
        language: Some("en".to_owned()),
        media_type: "text/plain".to_owned(),
        categories: vec![about.to_owned()],
        tags: Vec::new(),
        key_phrases: vec![format!("{about} stories")],
        near_duplicate_hash: 0,
        published_at_ms: Some(now_ms() - 60_000),
        deleted: false,
        etag: None,
        size_bytes: None,
        metadata: BTreeMap::new(),
        origin: origin(),
    }
}

/// Counters of an item in the hour that is now.
pub fn stats(item_id: &str, revision: i64, impressions: i64, clicks: i64) -> ItemStats {
    let bucket = |bucket_ms: i64| {
        vec![Bucket {
            number: now_ms() / bucket_ms,
            impressions,
            clicks,
            ..Bucket::default()
        }]
    };
    ItemStats {
        item_id: item_id.to_owned(),
        counters: ItemCounters {
            minutes: bucket(60_000),
            hours: bucket(HOUR_MS),
            days: bucket(24 * HOUR_MS),
        },
        generation: 1,
        epoch: 1,
        revision,
        origin: origin(),
    }
}

pub fn request(user_id: &str) -> RecommendRequest {
    RecommendRequest {
        request_id: format!("request-of-{user_id}"),
        user_id: user_id.to_owned(),
        ..RecommendRequest::default()
    }
}

/// Ids of an answer's items.
pub fn ids(answer: &Answer) -> Vec<&str> {
    answer
        .items
        .iter()
        .map(|item| item.item_id.as_str())
        .collect()
}

/// Asks until the answer is yes.
pub async fn until(what: &str, mut ask: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    while !ask().await? {
        if Instant::now() > deadline {
            bail!("{what}: not in time");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

fn origin() -> Origin {
    Origin {
        topic: "documents".to_owned(),
        partition: 0,
        offset: 0,
    }
}

pub fn headers() -> EventHeaders {
    EventHeaders {
        id: "test".to_owned(),
        source: "test".to_owned(),
        type_: "test".to_owned(),
        time_ms: None,
        traceparent: TRACE.parse().ok(),
    }
}
