//! What an impression logs can be computed again from where the topics stood.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};

use anyhow::{Context as _, Result, ensure};
use async_trait::async_trait;
use millrace_features::{Item, Profile, Scores, compute};
use millrace_kafka::{Producer, ReadFrom, ReadUntil, Record, TopicReader};
use millrace_profiles::{
    ProfileReader, Profiles as ProfilesConsumer, ProfilesConfig, ProfilesDeps, ProfilesHandle,
};
use millrace_recommender::{BoxError, Profiles, context};
use millrace_schemas::{
    BehaviorEvent, BehaviorKind, Feedback, FeedbackItem, Impression, ImpressionItem, ItemCounters,
    ItemStats, Message, Origin, Signal, decode,
};
use millrace_state::EmbeddedState;

use crate::stack::{
    CHESS, COOKING, DEADLINE, MODEL, SPACE, Stack, headers, item, now_ms, ready, request, stats,
    until,
};

const USERS: usize = 4;
const ASKED: usize = 120;

/// Profiles of a state that their consumer writes meanwhile.
struct Stored(ProfileReader);

#[async_trait]
impl Profiles for Stored {
    async fn get(&self, user_id: &str) -> Result<Option<Arc<Profile>>, BoxError> {
        Ok(self.0.get(user_id).await?.map(Arc::new))
    }
}

async fn start_profiles(stack: &Stack) -> Result<ProfilesHandle> {
    let state = Arc::new(EmbeddedState::open(&stack.state_dir())?);
    let deps = ProfilesDeps {
        kafka: stack.kafka.clone(),
        producer: Producer::connect(&stack.kafka)?,
        registry: None,
        state,
        model_version: MODEL.to_owned(),
        vectors: None,
        fields: stack.features.profile_settings().fields,
        config: ProfilesConfig::default(),
    };
    Ok(ProfilesConsumer::start(deps).await?)
}

/// The users' behavior and all items' counters, one after the other.
struct Behavior<'a> {
    stack: &'a Stack,
    items: &'a [Signal],
    next: AtomicI64,
}

impl Behavior<'_> {
    async fn publish_one(&self) -> Result<()> {
        let number = self.next.fetch_add(1, Relaxed);
        let n = usize::try_from(number)?;
        let signal = &self.items[n * 7 % self.items.len()];
        let user_id = user(n);
        let feedback = Feedback {
            event: BehaviorEvent {
                event_id: number.to_string(),
                user_id: user_id.clone(),
                item_id: signal.item_id.clone(),
                item: signal.item_id.clone(),
                kind: [BehaviorKind::Click, BehaviorKind::Expose, BehaviorKind::Buy][n % 5 % 3],
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
                offset: number,
            },
            item: FeedbackItem::from(signal.clone()),
            expected_ctr: Some(0.1),
        };
        let producer = &self.stack.producer;
        // Each seventh comes twice, as from a joiner that crashed.
        for _ in 0..1 + usize::from(n % 7 == 0) {
            producer.send(&user_id, None, &feedback, &headers()).await?;
        }
        if n % 3 == 0 {
            let of_item = stats(&signal.item_id, number, number + 10, number / 2);
            self.stack.publish_stats(&of_item).await?;
        }
        if n % 20 == 0 {
            let totals = stats("*@2", number, 1_000 + number, number / 3);
            self.stack.publish_stats(&totals).await?;
            let mut newer = signal.clone();
            newer.document_version += number;
            newer.tags = vec![format!("revised {number}")];
            self.stack.publish_signal(&newer).await?;
        }
        Ok(())
    }
}

fn user(n: usize) -> String {
    format!("user-{}", n % USERS)
}

/// A record, and where it stood.
struct At<M> {
    topic: String,
    partition: i32,
    offset: i64,
    timestamp_ms: i64,
    message: M,
}

async fn read_all<M: Message>(stack: &Stack) -> Result<Vec<At<M>>> {
    let topic = stack.kafka.topic(M::TOPIC);
    let until = ReadUntil::PresentEnd;
    let reader = TopicReader::open(&stack.kafka, &topic, &ReadFrom::Beginning, until).await?;
    let at = |record: Record| {
        Ok(At {
            partition: record.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms.context("a time")?,
            message: decode(&record.value.context("a value")?)?,
            topic: record.topic,
        })
    };
    reader.collect().await?.into_iter().map(at).collect()
}

/// The topics as they are afterwards, from which any moment can be had again.
struct Replay<'a> {
    stack: &'a Stack,
    signals: Vec<At<Signal>>,
    stats: Vec<At<ItemStats>>,
    feedback: Vec<At<Feedback>>,
}

impl<'a> Replay<'a> {
    async fn of(stack: &'a Stack) -> Result<Self> {
        Ok(Self {
            stack,
            signals: read_all(stack).await?,
            stats: read_all(stack).await?,
            feedback: read_all(stack).await?,
        })
    }

    /// The user's profile from the records that the impression names.
    fn profile(&self, told: &Impression) -> Result<Profile> {
        let Some(read) = told.profile else {
            return self.profile_of(told, |_| false);
        };
        let below = |at: &At<Feedback>| at.partition == read.partition && at.offset < read.offset;
        let profile = self.profile_of(told, below)?;
        ensure!(
            i64::try_from(profile.events())? == read.events && !read.rebuilt,
            "{read:?}"
        );
        Ok(profile)
    }

    /// The same from those that had been written when the answer was made.
    fn profile_by_time(&self, told: &Impression) -> Result<Profile> {
        self.profile_of(told, |at| at.timestamp_ms <= told.served_at_ms)
    }

    fn profile_of(
        &self,
        told: &Impression,
        takes: impl Fn(&At<Feedback>) -> bool,
    ) -> Result<Profile> {
        let settings = self.stack.features.profile_settings();
        let mut profile = Profile::new(&told.user_id, MODEL);
        let mut applied = HashSet::new();
        let records = self.feedback.iter().filter(|at| takes(at));
        for at in records.filter(|at| at.message.event.user_id == told.user_id) {
            if applied.insert(&at.message.origin) {
                profile.apply(&at.message, &settings);
            }
        }
        Ok(profile)
    }

    /// What the features of the impression's items have to be.
    fn rows(&self, told: &Impression, profile: &Profile) -> Result<Vec<Vec<f32>>> {
        let signals = newest(told, &self.signals, |signal| {
            (signal.item_id.clone(), signal.document_version)
        });
        let stats = newest(told, &self.stats, |stats| {
            (stats.item_id.clone(), stats.order())
        });
        let totals = stats.iter().filter(|(id, _)| id.starts_with('*'));
        let totals = totals.map(|(_, stats)| &stats.counters);
        let context = context(totals, told.served_at_ms);
        let none = ItemCounters::default();
        let row = |logged: &ImpressionItem| {
            let signal = signals.get(&logged.item_id).context("a signal")?;
            let counters = stats.get(&logged.item_id);
            let counters = counters.map_or(&none, |stats| &stats.counters);
            let item = Item::of_signal(signal, counters);
            // What recall scored is the request's own, and logged among the features.
            let score = |name: &str| {
                let mut names = self.stack.features.names();
                let column = names.position(|column| column == name)?;
                Some(logged.features[column]).filter(|score| !score.is_nan())
            };
            let scores = Scores {
                text: score("text_score"),
                vector: score("vector_score"),
                hybrid: score("hybrid_score"),
                rank: score("rank_score"),
            };
            let mut row = Vec::new();
            compute(
                &self.stack.features,
                profile,
                &item,
                &scores,
                &context,
                &mut row,
            );
            Ok(row)
        };
        told.items.iter().map(row).collect()
    }
}

/// The newest of each item among what the impression's features were computed from.
fn newest<'a, M, O: Ord>(
    told: &Impression,
    messages: &'a [At<M>],
    key: impl Fn(&M) -> (String, O),
) -> BTreeMap<String, &'a M> {
    let read = |at: &&At<M>| {
        told.read_up_to.iter().any(|read| {
            read.topic == at.topic && read.partition == at.partition && at.offset < read.offset
        })
    };
    let mut newest: BTreeMap<String, (O, &M)> = BTreeMap::new();
    for at in messages.iter().filter(read) {
        let (item_id, order) = key(&at.message);
        if newest
            .get(&item_id)
            .is_none_or(|(known, _)| *known <= order)
        {
            newest.insert(item_id, (order, &at.message));
        }
    }
    let newest = newest.into_iter();
    newest.map(|(id, (_, message))| (id, message)).collect()
}

fn bits(rows: &[Vec<f32>]) -> Vec<u32> {
    rows.iter().flatten().map(|value| value.to_bits()).collect()
}

/// Behavior of those who ask, counters and revisions of what they are shown go on all the while, and
/// in the end some of it waits for the profiles.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logged_features_are_those_of_the_logged_offsets_bit_for_bit() -> Result<()> {
    let stack = Stack::start().await?;
    let about = |n| [SPACE, COOKING, CHESS].map(|about| item(about, n));
    let items: Vec<Signal> = (0..20).flat_map(about).collect();
    stack.upload(&items).await?;
    let consumer = start_profiles(&stack).await?;
    let profiles = Arc::new(Stored(consumer.reader()));
    let recommender = ready(stack.starting_with("", profiles.clone()).await?).await?;
    let behavior = Behavior {
        stack: &stack,
        items: &items,
        next: AtomicI64::new(0),
    };

    let asked_all = AtomicBool::new(false);
    let publishing = async {
        while !asked_all.load(Relaxed) {
            behavior.publish_one().await?;
        }
        Ok::<_, anyhow::Error>(())
    };
    let asking = async {
        until("all users are known", async || {
            for n in 0..USERS {
                if profiles
                    .get(&user(n))
                    .await
                    .map_err(anyhow::Error::from_boxed)?
                    .is_none()
                {
                    return Ok(false);
                }
            }
            Ok(true)
        })
        .await?;
        for n in 0..ASKED {
            let mut asked = request(&user(n));
            asked.request_id = format!("in-flight-{n}");
            recommender.recommend(asked).await?;
        }
        asked_all.store(true, Relaxed);
        Ok::<_, anyhow::Error>(())
    };
    futures::future::try_join(publishing, asking).await?;

    consumer.shutdown(DEADLINE).await;
    for _ in 0..10 * USERS {
        behavior.publish_one().await?;
    }
    for n in 0..USERS {
        let mut asked = request(&user(n));
        asked.request_id = format!("waiting-{n}");
        recommender.recommend(asked).await?;
    }
    recommender.shutdown(DEADLINE).await;

    let replay = Replay::of(&stack).await?;
    let impressions = stack.impressions().await?;
    assert_eq!(impressions.len(), ASKED + USERS);
    let mut of_another_moment = BTreeSet::new();
    for (told, _) in &impressions {
        assert!(told.profile.is_some() && !told.items.is_empty(), "{told:?}");
        let logged: Vec<Vec<f32>> = told
            .items
            .iter()
            .map(|item| item.features.clone())
            .collect();
        let rows = replay.rows(told, &replay.profile(told)?)?;
        assert_eq!(bits(&rows), bits(&logged), "{}", told.request_id);
        let rows = replay.rows(told, &replay.profile_by_time(told)?)?;
        if bits(&rows) != bits(&logged) {
            of_another_moment.insert(told.request_id.as_str());
        }
    }
    // The time alone says nothing of what was in hand then.
    for n in 0..USERS {
        let waiting = format!("waiting-{n}");
        assert!(
            of_another_moment.contains(waiting.as_str()),
            "{of_another_moment:?}"
        );
    }
    Ok(())
}
