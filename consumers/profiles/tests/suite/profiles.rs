//! The consumer from its topic to its reader.

use std::ops::Range;

use anyhow::{Context as _, Result, bail, ensure};
use millrace_kafka::{Admin, ConsumerConfig, PartitionedConsumer, topics};
use millrace_profiles::{ProfileReader, ProfilesHandle, RunState, profiles_group};
use millrace_schemas::{Feedback, Framing, encode};
use millrace_stateful::RebuildError;
use millrace_stateful::testing::{DEADLINE, Place, publish_raw, until};

use crate::stack::{click, expected, is_same, profiles, publish};

const USERS: usize = 11;

/// Clicks of all users in turn.
pub fn clicks(numbers: Range<usize>) -> Vec<Feedback> {
    let click = |number| click(number, &format!("user-{}", number % USERS));
    numbers.map(click).collect()
}

/// Whether all users' profiles are those of this feedback, each once, in this order.
pub async fn ensure_all(reader: &ProfileReader, feedback: &[Feedback]) -> Result<()> {
    for user in 0..USERS {
        let user_id = format!("user-{user}");
        let found = reader.get(&user_id).await?;
        ensure!(
            is_same(found.as_ref(), &expected(&user_id, feedback)),
            "{user_id}: {found:?}"
        );
    }
    Ok(())
}

pub async fn a_click_is_read_from_its_users_profile(place: &Place) -> Result<()> {
    place.with_topics().await?;
    let producer = place.producer()?;
    let handle = profiles(place).await?;
    // Another process's, on a server; the same one's, on a folder.
    let reader = ProfileReader::connect(&place.kafka, place.state().await?).await?;
    ensure!(reader.get("user").await?.is_none());

    let (first, second) = (click(1, "user"), click(2, "user"));
    publish(&producer, std::slice::from_ref(&first)).await?;
    let one = expected("user", std::slice::from_ref(&first));
    until("the first click is there", async || {
        Ok(is_same(reader.get("user").await?.as_ref(), &one))
    })
    .await?;
    publish(&producer, std::slice::from_ref(&second)).await?;
    let both = expected("user", &[first, second]);
    until("the second click is there", async || {
        Ok(is_same(reader.get("user").await?.as_ref(), &both))
    })
    .await?;
    let read = handle.reader().get("user").await?.context("a profile")?;
    ensure!(is_same(Some(&read), &both));
    // The topic has these two records of the partition and no others.
    let position = read.position().context("a position")?;
    ensure!(position.offset == 2, "{position:?}");
    let ends = Admin::connect(&place.kafka)?;
    let ends = ends
        .end_offsets(&place.kafka.topic(topics::FEEDBACK))
        .await?;
    ensure!(ends.get(&position.partition) == Some(&2), "{ends:?}");
    ensure!(reader.get("another").await?.is_none());
    ensure!(handle.shutdown(DEADLINE).await.unfinished == 0);
    ensure!(*handle.state().borrow() == RunState::Stopped);
    Ok(())
}

pub async fn an_origin_is_applied_once_and_a_moved_committed_offset_changes_nothing(
    place: &Place,
) -> Result<()> {
    let admin = place.with_topics().await?;
    let producer = place.producer()?;
    let handle = profiles(place).await?;
    let feedback = clicks(0..200);
    publish(&producer, &feedback).await?;
    // As a joiner does that crashed before its state was written.
    publish(&producer, &feedback[150..]).await?;
    handle.end_of_input().await?;
    let stats = handle.stats();
    ensure!((stats.applied, stats.duplicates) == (200, 50), "{stats:?}");
    ensure_all(&handle.reader(), &feedback).await?;
    handle.shutdown(DEADLINE).await;

    // Somebody rewinds the group, as is usual to replay a topic.
    let group = profiles_group(&place.kafka, 1);
    let topic = place.kafka.topic(topics::FEEDBACK);
    let ends = admin.end_offsets(&topic).await?;
    let config = ConsumerConfig::new(&group, &[topics::FEEDBACK]);
    let mut rewinding = PartitionedConsumer::start(&place.kafka, &config)?;
    for _ in 0..ends.len() {
        let mut assigned = rewinding.next_assignment().await.context("an assignment")?;
        if ends[&assigned.partition()] > 0 {
            assigned.start_at(None);
            let first = assigned.recv_batch(1, 1).await.context("a record")?;
            first.into_iter().for_each(millrace_kafka::Delivery::ack);
        }
    }
    rewinding.shutdown(DEADLINE).await;
    let lags = admin
        .group_lag(&group, std::slice::from_ref(&topic))
        .await?;
    ensure!(lags.iter().any(|lag| lag.lag > 0), "{lags:?}");

    let handle = profiles(place).await?;
    let more = clicks(200..210);
    publish(&producer, &more).await?;
    handle.end_of_input().await?;
    let stats = handle.stats();
    ensure!((stats.applied, stats.duplicates) == (10, 0), "{stats:?}");
    ensure_all(&handle.reader(), &[feedback, more].concat()).await?;
    handle.shutdown(DEADLINE).await;
    Ok(())
}

pub async fn what_cannot_be_read_is_a_dead_letter(place: &Place) -> Result<()> {
    place.with_topics().await?;
    let producer = place.producer()?;
    let handle = profiles(place).await?;
    let raw = async |value| publish_raw(&producer, topics::FEEDBACK, "user", value).await;
    raw(Some(b"no feedback".to_vec())).await?;
    raw(None).await?;
    raw(Some(encode(&click(1, "another"), &Framing::SingleObject)?)).await?;
    let mut poisoned = click(2, "user");
    poisoned.item.vector[1] = f32::NAN;
    let mut ancient = click(3, "user");
    ancient.event.event_time_ms = -1;
    let nobodys = click(4, "");
    let good = click(5, "user");
    publish(&producer, &[poisoned, ancient, nobodys, good.clone()]).await?;
    handle.end_of_input().await?;

    let letters = place.dead_letters(topics::FEEDBACK).await?;
    let reasons = [
        "event_time_out_of_range",
        "key_mismatch",
        "missing_field",
        "no_value",
        "not_finite",
        "unknown_framing",
    ];
    ensure!(letters.keys().eq(reasons.iter()), "{letters:?}");
    let stats = handle.stats();
    ensure!((stats.applied, stats.dead_lettered) == (1, 6), "{stats:?}");
    let read = handle.reader().get("user").await?;
    ensure!(is_same(read.as_ref(), &expected("user", &[good])));
    Ok(())
}

pub async fn a_second_member_takes_partitions_over_and_nothing_applies_twice(
    place: &Place,
) -> Result<()> {
    place.with_topics().await?;
    let producer = place.producer()?;
    let feedback = clicks(0..1_500);
    let first = profiles(place).await?;
    publish(&producer, &feedback[..500]).await?;
    let second = profiles(place).await?;
    publish(&producer, &feedback[500..1_000]).await?;
    let partitions = |handle: &ProfilesHandle| handle.stats().partitions.len();
    until("both have partitions", async || {
        Ok(partitions(&first) == 3 && partitions(&second) == 3)
    })
    .await?;
    ensure!(first.shutdown(DEADLINE).await.unfinished == 0);
    until("the rest moves", async || Ok(partitions(&second) == 6)).await?;
    publish(&producer, &feedback[1_000..]).await?;
    second.end_of_input().await?;
    ensure_all(&second.reader(), &feedback).await?;
    let duplicates = [&first, &second].map(|handle| handle.stats().duplicates);
    ensure!(duplicates == [0, 0], "{duplicates:?}");
    second.shutdown(DEADLINE).await;
    Ok(())
}

pub async fn a_rebuilt_generation_has_the_same_profiles_and_live_feedback_goes_on(
    place: &Place,
) -> Result<()> {
    place.with_topics().await?;
    let producer = place.producer()?;
    let handle = profiles(place).await?;
    let feedback = clicks(0..300);
    publish(&producer, &feedback).await?;
    // As a joiner does that crashed before its state was written.
    publish(&producer, &feedback[250..]).await?;
    handle.end_of_input().await?;
    let more = clicks(300..311);
    let (rebuilds, last) = (handle.rebuilds(), std::sync::Mutex::default());
    let progress = |progress| *last.lock().unwrap() = Some(progress);
    let (rebuilt, published) = tokio::join!(
        rebuilds.rebuild(false, &progress),
        publish(&producer, &more)
    );
    published?;
    let rebuilt = rebuilt?;
    ensure!(
        (rebuilt.old, rebuilt.new, rebuilt.records_gone) == (1, 2, 0),
        "{rebuilt:?}"
    );
    let last = last.lock().unwrap().take().context("progress was told")?;
    ensure!(
        last.done_records == last.total_records && last.total_records >= 350,
        "{last:?}"
    );
    ensure!(rebuilds.generation() == 2 && place.state().await?.live_generation().await? == 2);
    handle.end_of_input().await?;
    ensure_all(&handle.reader(), &[feedback, more].concat()).await?;
    ensure!(*handle.state().borrow() == RunState::Running);
    handle.shutdown(DEADLINE).await;
    // The next start finds the new generation.
    let handle = profiles(place).await?;
    ensure!(handle.rebuilds().generation() == 2);
    handle.shutdown(DEADLINE).await;
    Ok(())
}

pub async fn a_rebuild_ends_where_retention_has_left_a_partition_nothing(
    place: &Place,
) -> Result<()> {
    place.with_topics().await?;
    let producer = place.producer()?;
    let handle = profiles(place).await?;
    let feedback = clicks(0..200);
    publish(&producer, &feedback).await?;
    handle.end_of_input().await?;
    let lost = handle.reader().get("user-0").await?.context("a profile")?;
    let emptied = lost.position().context("a position")?.partition;
    let gone = place.empty(topics::FEEDBACK, emptied).await?;
    ensure!(gone > 0);

    let refused = handle.rebuilds().rebuild(false, &|_| {}).await;
    ensure!(
        matches!(refused, Err(RebuildError::RecordsGone { records, .. }) if records == gone),
        "{refused:?}"
    );
    let rebuilt = handle.rebuilds().rebuild(true, &|_| {}).await?;
    ensure!(rebuilt.records_gone == gone, "{rebuilt:?}");
    let reader = ProfileReader::connect(&place.kafka, place.state().await?).await?;
    ensure!(
        reader.get("user-0").await?.is_none(),
        "what is gone is gone"
    );
    let more = clicks(200..210);
    publish(&producer, &more).await?;
    handle.end_of_input().await?;
    let read = reader.get("user-0").await?;
    ensure!(is_same(read.as_ref(), &expected("user-0", &more)));
    handle.shutdown(DEADLINE).await;
    Ok(())
}

pub async fn a_rebuild_that_is_cut_off_leaves_the_live_generation_serving(
    place: &Place,
) -> Result<()> {
    place.with_topics().await?;
    let producer = place.producer()?;
    let handle = profiles(place).await?;
    let feedback = clicks(0..500);
    publish(&producer, &feedback).await?;
    handle.end_of_input().await?;
    let before = profiles_of(&handle.reader()).await?;
    {
        let begun = tokio::sync::Notify::new();
        let progress = |_| begun.notify_one();
        let rebuild = handle.rebuilds().rebuild(false, &progress);
        tokio::pin!(rebuild);
        tokio::select! {
            rebuilt = &mut rebuild => bail!("it has ended before it told: {rebuilt:?}"),
            () = begun.notified() => {}
        }
        let second = handle.rebuilds().rebuild(false, &|_| {}).await;
        ensure!(
            matches!(second, Err(RebuildError::Running { .. })),
            "{second:?}"
        );
        // The first one is cut off here.
    }
    ensure!(place.state().await?.live_generation().await? == 1);
    ensure!(profiles_of(&handle.reader()).await? == before);
    let rebuilt = handle.rebuilds().rebuild(false, &|_| {}).await?;
    ensure!(rebuilt.old == 1 && rebuilt.new > 1, "{rebuilt:?}");
    let reader = ProfileReader::connect(&place.kafka, place.state().await?).await?;
    ensure!(profiles_of(&reader).await? == before, "bit for bit");
    handle.shutdown(DEADLINE).await;
    Ok(())
}

/// The profiles of all users, as bytes.
async fn profiles_of(reader: &ProfileReader) -> Result<Vec<Vec<u8>>> {
    let mut profiles = Vec::new();
    for user in 0..USERS {
        let profile = reader.get(&format!("user-{user}")).await?;
        profiles.push(profile.context("a profile")?.to_bytes());
    }
    Ok(profiles)
}
