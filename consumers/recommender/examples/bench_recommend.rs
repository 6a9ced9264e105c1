//! How long an answer takes in this process, without HTTP: items on the embedded broker and index,
//! profiles in memory.
//!
//! ```sh
//! cargo run --release -p millrace-recommender --example bench_recommend -- [items] [requests]
//! ```

#![allow(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use async_trait::async_trait;
use futures::StreamExt as _;
use millrace_broker::{Broker, BrokerConfig};
use millrace_features::{FeatureSet, Profile};
use millrace_index::{BulkAction, EmbeddedIndex, IndexSpec, KnnEngine, Record, SearchIndex};
use millrace_kafka::{Admin, KafkaConfig, Producer};
use millrace_recommender::{
    BoxError, Profiles, RecommendRequest, Recommender, RecommenderConfig, RecommenderDeps,
};
use millrace_schemas::{
    BehaviorEvent, BehaviorKind, Bucket, EventHeaders, Feedback, FeedbackItem, ItemCounters,
    ItemStats, Origin, Signal,
};

const MODEL: &str = "bench-1";
const DIMENSION: usize = 384;
const CLUSTERS: u64 = 40;
const USERS: usize = 200;
const CLICKS: usize = 30;
/// How many of the answers warm caches up and are not measured.
const UNMEASURED: usize = 200;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args()
        .skip(1)
        .map(|argument| argument.parse::<usize>());
    let items = arguments.next().transpose()?.unwrap_or(5_000);
    let requests = arguments.next().transpose()?.unwrap_or(2_000);
    let folder = tempfile::tempdir()?;
    let broker = Broker::start(BrokerConfig::new(folder.path().join("broker")))?;
    let kafka = KafkaConfig {
        bootstrap: broker.bootstrap(),
        ..KafkaConfig::default()
    };
    Admin::connect(&kafka)?.create_declared().await?;
    let producer = Producer::connect(&kafka)?;
    let index = EmbeddedIndex::open(folder.path().join("index"))?;
    index
        .ensure(&IndexSpec {
            name: "bench".to_owned(),
            generation: 1,
            dimension: DIMENSION,
            model_version: MODEL.to_owned(),
            model_fingerprint: "bench".to_owned(),
            engine: KnnEngine::default(),
        })
        .await?;
    let signals: Vec<Signal> = (0..items).map(signal).collect();
    publish(&producer, &signals).await?;
    for part in signals.chunks(500) {
        index.bulk(part.iter().flat_map(records).collect()).await?;
    }
    let profiles: HashMap<String, Arc<Profile>> = (0..USERS)
        .map(|user| (format!("user-{user}"), Arc::new(profile(user, &signals))))
        .collect();
    let began = Instant::now();
    let recommender = Recommender::start(RecommenderDeps {
        kafka,
        registry: None,
        producer,
        index: Arc::new(index),
        profiles: Arc::new(InMemory(profiles)),
        features: FeatureSet::default_for(MODEL),
        embedding_version: MODEL.to_owned(),
        models_dir: folder.path().join("models"),
        config: RecommenderConfig::default(),
    })
    .await?;
    recommender.ready().wait_for(|ready| *ready).await?;
    let catalog = recommender.stats().catalog;
    println!(
        "{} items read in {:.0} ms, about {} MB",
        catalog.items,
        began.elapsed().as_secs_f64() * 1e3,
        catalog.bytes >> 20
    );
    let mut took = Vec::with_capacity(requests);
    let (mut shown, mut fallbacks) = (0, 0);
    for n in 0..UNMEASURED + requests {
        let request = RecommendRequest {
            request_id: format!("request-{n}"),
            user_id: format!("user-{}", n % USERS),
            ..RecommendRequest::default()
        };
        let asked = Instant::now();
        let answer = recommender.recommend(request).await?;
        if n >= UNMEASURED {
            took.push(asked.elapsed());
        }
        if n >= UNMEASURED && answer.fallback.is_some() {
            fallbacks += 1;
        }
        shown += answer.items.len();
    }
    took.sort();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "{requests} answers, {fallbacks} fall-backs, {:.1} items each: p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, most {:.2} ms",
        shown as f64 / (UNMEASURED + requests) as f64,
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
    recommender.shutdown(Duration::from_secs(30)).await;
    println!("impressions: {:?}", recommender.stats().impressions);
    broker.stop();
    Ok(())
}

struct InMemory(HashMap<String, Arc<Profile>>);

#[async_trait]
impl Profiles for InMemory {
    async fn get(&self, user_id: &str) -> Result<Option<Arc<Profile>>, BoxError> {
        Ok(self.0.get(user_id).cloned())
    }
}

async fn publish(producer: &Producer, signals: &[Signal]) -> anyhow::Result<()> {
    let headers = EventHeaders {
        id: "bench".to_owned(),
        source: "bench".to_owned(),
        type_: "bench".to_owned(),
        time_ms: None,
        traceparent: None,
    };
    let sends = signals.iter().enumerate().map(|(n, signal)| {
        let headers = &headers;
        async move {
            let key = signal.key();
            producer
                .send(&key, Some(&signal.item_id), signal, headers)
                .await?;
            let stats = stats(signal, n);
            producer.send(&stats.item_id, None, &stats, headers).await
        }
    });
    let mut sends = futures::stream::iter(sends).buffer_unordered(500);
    while let Some(sent) = sends.next().await {
        sent.context("publishing")?;
    }
    Ok(())
}

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
        text: Some(format!(
            "{} and some more words to be read",
            signal.key_phrases.join(" ")
        )),
        title: signal.title.clone(),
        vector: Some(signal.vector.clone()),
        categories: signal.categories.clone(),
        chunk_count: None,
        ..header.clone()
    };
    [BulkAction::upsert(header), BulkAction::upsert(chunk)]
}

fn signal(n: usize) -> Signal {
    let cluster = n as u64 % CLUSTERS;
    let centre = random(cluster + 1);
    let mut vector = random(1_000 + n as u64);
    for (x, c) in vector.iter_mut().zip(centre) {
        *x = c + 0.8 * *x;
    }
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.iter_mut().for_each(|x| *x /= length);
    Signal {
        item_id: format!("{n:032x}"),
        uri: format!("file:///bench/{n}"),
        document_version: (now_ms() - 86_400_000 + n as i64) << 20,
        model_version: MODEL.to_owned(),
        vector,
        title: Some(format!("Document {n} about topic{cluster}")),
        language: Some("en".to_owned()),
        media_type: "text/plain".to_owned(),
        categories: vec![format!("topic{cluster}")],
        tags: vec![format!("tag{}", n % 97), format!("tag{}", n % 89)],
        key_phrases: (0..8)
            .map(|k| format!("phrase{} topic{cluster}", (n * 7 + k * 13) % 500))
            .collect(),
        near_duplicate_hash: 0,
        published_at_ms: Some(now_ms() - 1_000 * n as i64),
        deleted: false,
        etag: None,
        size_bytes: None,
        metadata: BTreeMap::new(),
        origin: origin(),
    }
}

/// A history of two days for every item.
fn stats(signal: &Signal, n: usize) -> ItemStats {
    let now = now_ms();
    let buckets = |bucket_ms: i64, count: i64| {
        let bucket = |back: i64| Bucket {
            number: now / bucket_ms - back,
            impressions: 10 + (n as i64 + back) % 7,
            clicks: (n as i64 + back) % 5,
            ..Bucket::default()
        };
        (0..count).rev().map(bucket).collect::<Vec<_>>()
    };
    ItemStats {
        item_id: signal.item_id.clone(),
        counters: ItemCounters {
            minutes: buckets(60_000, 60),
            hours: buckets(3_600_000, 48),
            days: buckets(86_400_000, 3),
        },
        generation: 1,
        epoch: 1,
        revision: 1,
        origin: origin(),
    }
}

fn profile(user: usize, signals: &[Signal]) -> Profile {
    let settings = FeatureSet::default_for(MODEL).profile_settings();
    let user_id = format!("user-{user}");
    let mut profile = Profile::new(&user_id, MODEL);
    for click in 0..CLICKS {
        // Of three topics.
        let n = (user + (click % 3) * 11 + click * CLUSTERS as usize) % signals.len();
        let signal = &signals[n];
        let event = BehaviorEvent {
            user_id: user_id.clone(),
            event_id: click.to_string(),
            item_id: signal.item_id.clone(),
            item: signal.item_id.clone(),
            kind: BehaviorKind::Click,
            value: None,
            event_time_ms: now_ms() - 60_000 + click as i64,
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
        profile.apply(&feedback, &settings);
    }
    profile
}

fn random(seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..DIMENSION)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        })
        .collect()
}

fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn origin() -> Origin {
    Origin {
        topic: "bench".to_owned(),
        partition: 0,
        offset: 0,
    }
}
