//! Brokers and a store to test against, and questions to ask them with a deadline.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use millrace_broker::{Broker, BrokerConfig};
use millrace_features::{Profile, ProfileSettings};
use millrace_kafka::{Admin, KafkaConfig, Producer, RawRecord};
use millrace_profiles::{Profiles, ProfilesConfig, ProfilesDeps, ProfilesHandle, StartError};
use millrace_schemas::{BehaviorEvent, BehaviorKind, EventHeaders, Feedback, FeedbackItem, Origin};
use millrace_state::{EmbeddedState, StateStore, ValkeyConfig, ValkeyState};
use tokio::sync::OnceCell;

/// How long anything may take: generous, since the machine may be busy.
pub const DEADLINE: Duration = Duration::from_secs(60);
const MODEL: &str = "model";

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
                    let namespace = self.kafka.topic_prefix.trim_end_matches('.');
                    Arc::new(ValkeyState::connect(config, namespace).await?)
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

    pub async fn profiles(&self) -> Result<ProfilesHandle> {
        Ok(start(&self.kafka, self.state().await?).await?)
    }

    pub fn producer(&self) -> Result<Producer> {
        Ok(Producer::connect(&self.kafka)?)
    }

    pub fn stop_broker(&mut self) {
        if let Some(broker) = self.broker.take() {
            broker.stop();
        }
    }
}

pub fn deps(kafka: &KafkaConfig, state: Arc<dyn StateStore>) -> ProfilesDeps {
    ProfilesDeps {
        kafka: kafka.clone(),
        producer: Producer::connect(kafka).unwrap(),
        registry: None,
        state,
        model_version: MODEL.to_owned(),
        vectors: None,
        fields: ProfileSettings::default().fields,
        config: ProfilesConfig::default(),
    }
}

pub async fn start(
    kafka: &KafkaConfig,
    state: Arc<dyn StateStore>,
) -> Result<ProfilesHandle, StartError> {
    Profiles::start(deps(kafka, state)).await
}

fn kafka(bootstrap: String) -> KafkaConfig {
    KafkaConfig {
        bootstrap,
        topic_prefix: format!("{}.", millrace_servers::unique_name("profiles-test")),
        ..KafkaConfig::default()
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// A click of `user` on an item of its own; the number is the origin's offset.
pub fn click(number: usize, user: &str) -> Feedback {
    let (sin, cos) = f32::from(u16::try_from(number % 1_000).unwrap()).sin_cos();
    Feedback {
        event: BehaviorEvent {
            event_id: number.to_string(),
            user_id: user.to_owned(),
            item_id: format!("{number:032x}"),
            item: number.to_string(),
            kind: BehaviorKind::Click,
            value: None,
            event_time_ms: now_ms(),
            request_id: None,
            trace_info: None,
            scene_id: None,
            position: None,
            attributes: BTreeMap::new(),
            source: "own".to_owned(),
        },
        origin: Origin {
            topic: "behavior.by-item".to_owned(),
            partition: 0,
            offset: i64::try_from(number).unwrap(),
        },
        item: FeedbackItem {
            model_version: MODEL.to_owned(),
            vector: vec![sin, cos],
            categories: vec![format!("category {}", number % 5)],
            ..FeedbackItem::default()
        },
        expected_ctr: Some(0.05),
    }
}

/// What the profile of `user` must be after these, one by one.
pub fn expected(user: &str, feedback: &[Feedback]) -> Profile {
    let mut profile = Profile::new(user, MODEL);
    for feedback in feedback.iter().filter(|f| f.event.user_id == user) {
        profile.apply(feedback, &ProfileSettings::default());
    }
    profile
}

/// Whether the profile that was read is this one, wherever in the topic it stands.
pub fn is_same(read: Option<&Profile>, expected: &Profile) -> bool {
    read.is_some_and(|read| {
        let mut expected = expected.clone();
        if let Some(position) = read.position() {
            expected.stand_at(position);
        }
        *read == expected
    })
}

/// Publishes in this order, which is what profiles depend on.
pub async fn publish(producer: &Producer, feedback: &[Feedback]) -> Result<()> {
    let headers = EventHeaders {
        id: "test".to_owned(),
        source: "test".to_owned(),
        type_: "test".to_owned(),
        time_ms: None,
        traceparent: None,
    };
    let mut enqueued = Vec::new();
    for feedback in feedback {
        let user_id = &feedback.event.user_id;
        enqueued.push(producer.enqueue(user_id, None, feedback, &headers).await?);
    }
    for enqueued in enqueued {
        enqueued.acknowledged().await?;
    }
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
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
