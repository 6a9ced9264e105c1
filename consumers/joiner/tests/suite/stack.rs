//! Brokers and a store to test against, and questions to ask them with a deadline.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use millrace_broker::{Broker, BrokerConfig};
use millrace_joiner::{Joiner, JoinerConfig, JoinerDeps, JoinerHandle, StartError};
use millrace_kafka::{
    Admin, KafkaConfig, Producer, RawRecord, ReadFrom, ReadUntil, Record, TopicReader,
};
use millrace_schemas::{
    BehaviorEvent, BehaviorKind, EventHeaders, Feedback, ItemStats, Message, Origin, Signal, decode,
};
use millrace_state::{EmbeddedState, StateStore, ValkeyConfig, ValkeyState};
use tokio::sync::OnceCell;

/// How long anything may take: generous, since the machine may be busy.
pub const DEADLINE: Duration = Duration::from_secs(60);
pub const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Brokers and a store that no other test uses.
pub struct Place {
    pub kafka: KafkaConfig,
    store: Store,
    state: OnceCell<Arc<dyn StateStore>>,
    broker: Option<Broker>,
    folder: tempfile::TempDir,
}

enum Store {
    Folder,
    Valkey(ValkeyConfig),
}

impl Place {
    /// The embedded broker and a folder.
    pub fn embedded() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let broker = Broker::start(BrokerConfig::new(folder.path().join("broker")))?;
        Ok(Self {
            kafka: kafka(broker.bootstrap()),
            store: Store::Folder,
            state: OnceCell::new(),
            broker: Some(broker),
            folder,
        })
    }

    /// The real Kafka and Redis.
    pub fn real() -> Result<Self> {
        let valkey = ValkeyConfig {
            url: millrace_servers::redis()?,
            ..ValkeyConfig::default()
        };
        Ok(Self {
            kafka: kafka(millrace_servers::kafka()?),
            store: Store::Valkey(valkey),
            state: OnceCell::new(),
            broker: None,
            folder: tempfile::tempdir()?,
        })
    }

    pub fn state_folder(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// The store, opened once.
    pub async fn state(&self) -> Result<Arc<dyn StateStore>> {
        let open = || async {
            Ok::<Arc<dyn StateStore>, anyhow::Error>(match &self.store {
                Store::Folder => Arc::new(EmbeddedState::open(&self.state_folder())?),
                Store::Valkey(config) => {
                    let group = self.kafka.topic_prefix.trim_end_matches('.');
                    Arc::new(ValkeyState::connect(config, group).await?)
                }
            })
        };
        Ok(Arc::clone(self.state.get_or_try_init(open).await?))
    }

    pub async fn with_topics(&self) -> Result<Admin> {
        let admin = Admin::connect(&self.kafka)?;
        admin.create_declared().await?;
        Ok(admin)
    }

    pub async fn joiner(&self) -> Result<JoinerHandle> {
        Ok(start(&self.kafka, self.state().await?).await?)
    }

    pub async fn try_joiner(&self) -> Result<Result<JoinerHandle, StartError>> {
        Ok(start(&self.kafka, self.state().await?).await)
    }

    pub fn producer(&self) -> Result<Producer> {
        Ok(Producer::connect(&self.kafka)?)
    }

    /// The records of a topic, now.
    pub async fn records(&self, topic: &str) -> Result<Vec<Record>> {
        let topic = self.kafka.topic(topic);
        let reader = TopicReader::open(
            &self.kafka,
            &topic,
            &ReadFrom::Beginning,
            ReadUntil::PresentEnd,
        )
        .await?;
        Ok(reader.collect().await?)
    }

    pub async fn messages<M: Message>(&self) -> Result<Vec<M>> {
        let read = |record: Record| Ok(decode(&record.value.context("a value")?)?);
        self.records(M::TOPIC)
            .await?
            .into_iter()
            .map(read)
            .collect()
    }

    /// Feedback by origin; a repetition must be the same, but for the click-through rate that was
    /// expected: it depends on the signals that were there before.
    pub async fn feedback(&self) -> Result<BTreeMap<Origin, Feedback>> {
        let mut by_origin = BTreeMap::new();
        for feedback in self.messages::<Feedback>().await? {
            let origin = feedback.origin.clone();
            let repeated = by_origin.insert(origin, feedback.clone());
            if let Some(mut before) = repeated {
                before.expected_ctr = feedback.expected_ctr;
                anyhow::ensure!(before == feedback, "{before:?} then {feedback:?}");
            }
        }
        Ok(by_origin)
    }

    /// The last stats of each item, as a reader of the compacted topic keeps them.
    pub async fn stats(&self) -> Result<BTreeMap<String, ItemStats>> {
        let mut latest = BTreeMap::<String, ItemStats>::new();
        for stats in self.messages::<ItemStats>().await? {
            let newer = |known: &ItemStats| stats.order() >= known.order();
            if latest.get(&stats.item_id).is_none_or(newer) {
                latest.insert(stats.item_id.clone(), stats);
            }
        }
        Ok(latest)
    }

    pub fn stop_broker(&mut self) {
        if let Some(broker) = self.broker.take() {
            broker.stop();
        }
    }
}

pub async fn start(
    kafka: &KafkaConfig,
    state: Arc<dyn StateStore>,
) -> Result<JoinerHandle, StartError> {
    Joiner::start(JoinerDeps {
        kafka: kafka.clone(),
        producer: Producer::connect(kafka).unwrap(),
        registry: None,
        state,
        config: JoinerConfig::default(),
    })
    .await
}

fn kafka(bootstrap: String) -> KafkaConfig {
    KafkaConfig {
        bootstrap,
        topic_prefix: format!("{}.", millrace_servers::unique_name("joiner-test")),
        ..KafkaConfig::default()
    }
}

pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

pub fn item_id(item: usize) -> String {
    format!("{item:032x}")
}

pub fn event(id: &(impl ToString + ?Sized), item: usize, kind: BehaviorKind) -> BehaviorEvent {
    let id = id.to_string();
    BehaviorEvent {
        user_id: format!("user-{}", id.len() % 3),
        event_id: id,
        item_id: item_id(item),
        item: item.to_string(),
        kind,
        value: None,
        event_time_ms: now_ms(),
        request_id: Some("answer".to_owned()),
        trace_info: None,
        scene_id: None,
        position: Some(2),
        attributes: BTreeMap::new(),
        source: "own".to_owned(),
    }
}

pub fn signal(item: usize, version: i64) -> Signal {
    Signal {
        item_id: item_id(item),
        uri: format!("file:///{item}"),
        document_version: version,
        model_version: "model".to_owned(),
        vector: vec![0.6, 0.8],
        title: Some(format!("Title {item}")),
        language: Some("en".to_owned()),
        media_type: "text/plain".to_owned(),
        categories: vec!["news".to_owned()],
        tags: Vec::new(),
        key_phrases: Vec::new(),
        near_duplicate_hash: 7,
        published_at_ms: None,
        deleted: false,
        etag: None,
        size_bytes: None,
        metadata: BTreeMap::new(),
        origin: Origin {
            topic: "documents".to_owned(),
            partition: 0,
            offset: 0,
        },
    }
}

fn headers() -> EventHeaders {
    EventHeaders {
        id: "test".to_owned(),
        source: "test".to_owned(),
        type_: "test".to_owned(),
        time_ms: None,
        traceparent: TRACE.parse().ok(),
    }
}

pub async fn publish(producer: &Producer, events: &[BehaviorEvent]) -> Result<()> {
    let headers = headers();
    let sends = events
        .iter()
        .map(|event| producer.send(&event.user_id, None, event, &headers));
    futures::future::try_join_all(sends).await?;
    Ok(())
}

pub async fn publish_signal(producer: &Producer, signal: &Signal) -> Result<()> {
    let key = signal.key();
    producer
        .send(&key, Some(&signal.item_id), signal, &headers())
        .await?;
    Ok(())
}

pub async fn publish_raw(
    producer: &Producer,
    topic: &str,
    key: &str,
    value: Option<Vec<u8>>,
) -> Result<()> {
    let record = RawRecord {
        topic: producer.config().topic(topic),
        key: Some(key.as_bytes().to_vec().into()),
        value: value.map(Into::into),
        ..RawRecord::default()
    };
    producer.send_raw(record).await?;
    Ok(())
}

/// Asks until the answer is yes.
pub async fn until(what: &str, mut ask: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    while !ask().await? {
        if Instant::now() > deadline {
            bail!("{what}: not in time");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
