//! Partitions that come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use millrace_kafka::topics::DOCUMENTS;
use millrace_kafka::{Consumer, ConsumerConfig, ConsumerState};

use crate::cluster::{Cluster, PATIENCE, next, number, until, until_ready};

pub async fn two_members_lose_nothing_and_double_nothing_acknowledged(
    cluster: &Cluster,
) -> Result<()> {
    const COUNT: u32 = 3000;
    let admin = cluster.with_topics().await?;
    let (sender, mut acknowledged) = tokio::sync::mpsc::unbounded_channel();
    let work = |mut consumer: Consumer, member: u8| {
        let sender = sender.clone();
        tokio::spawn(async move {
            while let Some(delivery) = consumer.recv().await {
                let number = number(&delivery);
                // Handlers take their time and finish out of order.
                let (sender, delay) =
                    (sender.clone(), Duration::from_millis(u64::from(number % 7)));
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    sender.send((member, number)).unwrap();
                    delivery.ack();
                });
            }
        })
    };
    let first = cluster.consumer(DOCUMENTS)?;
    until_ready(&first).await?;
    let first_handle = first.handle();
    let first_work = work(first, 1);
    cluster.publish(DOCUMENTS, 0..COUNT / 3).await?;

    let second = cluster.consumer(DOCUMENTS)?;
    let second_handle = second.handle();
    let second_work = work(second, 2);
    cluster.publish(DOCUMENTS, COUNT / 3..2 * COUNT / 3).await?;
    until("both have partitions", async || {
        let partitions =
            |handle: &millrace_kafka::ConsumerHandle| handle.metrics().partitions.len();
        Ok(partitions(&first_handle) == 3 && partitions(&second_handle) == 3)
    })
    .await?;
    cluster.publish(DOCUMENTS, 2 * COUNT / 3..COUNT).await?;

    let mut times = BTreeMap::<u32, u32>::new();
    let mut members = BTreeSet::new();
    while times.len() < COUNT as usize {
        let (member, number) = tokio::time::timeout(PATIENCE, acknowledged.recv())
            .await?
            .unwrap();
        *times.entry(number).or_default() += 1;
        members.insert(member);
    }
    ensure!(members.len() == 2, "one member did it all");
    for handle in [first_handle.clone(), second_handle.clone()] {
        let drained = handle.shutdown(PATIENCE).await;
        ensure!(drained.unfinished == 0, "{drained:?}");
    }
    first_work.await?;
    second_work.await?;
    let late = first_handle.metrics().late_acknowledgements
        + second_handle.metrics().late_acknowledgements;
    ensure!(
        late == 0,
        "handlers were given time, {late} acknowledgements came late"
    );
    while let Ok((_, number)) = acknowledged.try_recv() {
        *times.entry(number).or_default() += 1;
    }
    let doubled: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    ensure!(
        doubled.is_empty(),
        "acknowledged and read again: {doubled:?}"
    );
    let ends = admin.end_offsets(&cluster.config.topic(DOCUMENTS)).await?;
    ensure!(cluster.committed(&admin, DOCUMENTS).await? == ends);
    Ok(())
}

pub async fn a_late_acknowledgement_from_a_dead_epoch_is_ignored(cluster: &Cluster) -> Result<()> {
    let admin = cluster.with_topics().await?;
    cluster.publish(DOCUMENTS, 0..60).await?;
    let mut config = ConsumerConfig::new(cluster.group(), &[DOCUMENTS]);
    config.drain_timeout = Duration::from_millis(200);
    let mut slow = Consumer::start(&cluster.config, &config)?;
    let mut held = Vec::new();
    while held.len() < 60 {
        held.push(next(&mut slow).await?);
    }

    let mut other = cluster.consumer(DOCUMENTS)?;
    until("the other member has partitions", async || {
        Ok(other.metrics().partitions.len() == 3)
    })
    .await?;
    let taken: BTreeSet<i32> = other
        .metrics()
        .partitions
        .iter()
        .map(|partition| partition.partition)
        .collect();
    let (lost, kept): (Vec<_>, Vec<_>) = held
        .into_iter()
        .partition(|held| taken.contains(&held.partition));
    ensure!(!lost.is_empty() && lost.iter().all(|delivery| !delivery.is_current()));
    ensure!(kept.iter().all(millrace_kafka::Delivery::is_current));

    // The new owner reads what was not finished, and holds the first of it.
    let again = next(&mut other).await?;
    let late = lost.len() as u64;
    lost.into_iter().for_each(millrace_kafka::Delivery::ack);
    let metrics = slow.metrics();
    ensure!(
        metrics.late_acknowledgements == late && metrics.finished == 0,
        "{metrics:?}"
    );
    ensure!(metrics.drain_timeouts == 1, "{metrics:?}");
    kept.into_iter().for_each(millrace_kafka::Delivery::ack);
    slow.shutdown(PATIENCE).await;

    let committed = cluster.committed(&admin, DOCUMENTS).await?;
    for partition in taken {
        ensure!(
            !committed.contains_key(&partition),
            "{partition} moved: {committed:?}"
        );
    }
    again.ack();
    other.shutdown(PATIENCE).await;
    Ok(())
}

pub async fn a_shutdown_drains_and_commits(cluster: &Cluster) -> Result<()> {
    let admin = cluster.with_topics().await?;
    cluster.publish(DOCUMENTS, 0..100).await?;
    let mut consumer = cluster.consumer(DOCUMENTS)?;
    let mut in_flight = Vec::new();
    for _ in 0..10 {
        in_flight.push(next(&mut consumer).await?);
    }
    let handle = consumer.handle();
    let shutdown = tokio::spawn(async move { handle.shutdown(PATIENCE).await });
    let mut health = consumer.health();
    health
        .wait_for(|state| *state == ConsumerState::Draining)
        .await?;
    ensure!(
        consumer.recv().await.is_none(),
        "a record was handed out while draining"
    );
    ensure!(!shutdown.is_finished(), "it did not wait for the handlers");
    in_flight
        .into_iter()
        .for_each(millrace_kafka::Delivery::ack);
    tokio::time::timeout(PATIENCE, shutdown).await??;
    ensure!(*health.borrow() == ConsumerState::Stopped);
    let committed: i64 = cluster.committed(&admin, DOCUMENTS).await?.values().sum();
    ensure!(
        committed == 10,
        "{committed} of the 10 acknowledged are committed"
    );
    Ok(())
}

pub async fn a_shutdown_ends_at_its_deadline(cluster: &Cluster) -> Result<()> {
    cluster.with_topics().await?;
    cluster.publish(DOCUMENTS, 0..10).await?;
    let mut consumer = cluster.consumer(DOCUMENTS)?;
    let stuck = next(&mut consumer).await?;
    let began = Instant::now();
    let drained = consumer.shutdown(Duration::from_millis(500)).await;
    ensure!(
        began.elapsed() < Duration::from_secs(8),
        "it took {:?}",
        began.elapsed()
    );
    ensure!(drained.unfinished >= 1, "{drained:?}");
    // Its consumer is gone; this changes nothing and does not panic.
    stuck.ack();
    Ok(())
}

/// A revocation that waits for a handler longer than `max.poll.interval.ms` costs the membership.
pub async fn an_evicted_member_stops_and_says_so(cluster: &Cluster) -> Result<()> {
    let admin = cluster.with_topics().await?;
    cluster.publish(DOCUMENTS, 0..60).await?;
    let mut kafka = cluster.config.clone();
    for (option, value) in [
        ("session.timeout.ms", "6000"),
        ("max.poll.interval.ms", "6000"),
    ] {
        kafka
            .librdkafka_options
            .insert(option.to_owned(), value.to_owned());
    }
    let mut config = ConsumerConfig::new(cluster.group(), &[DOCUMENTS]);
    config.drain_timeout = Duration::from_secs(9);
    let mut frozen = Consumer::start(&kafka, &config)?;
    let mut held = Vec::new();
    while held.len() < 60 {
        held.push(next(&mut frozen).await?);
    }
    // Its arrival starts the revocation that `frozen` does not finish.
    let mut other = cluster.consumer(DOCUMENTS)?;
    let mut health = frozen.health();
    let state = tokio::time::timeout(PATIENCE, health.wait_for(ConsumerState::is_final))
        .await??
        .clone();
    ensure!(
        matches!(&state, ConsumerState::Fatal { reason } if reason.contains("max.poll.interval")),
        "{state:?}"
    );
    ensure!(!state.is_ready());
    ensure!(frozen.recv().await.is_none());
    held.into_iter().for_each(millrace_kafka::Delivery::ack);
    let metrics = frozen.metrics();
    ensure!(
        (metrics.evictions, metrics.late_acknowledgements) == (1, 60),
        "{metrics:?}"
    );
    ensure!(
        cluster.committed(&admin, DOCUMENTS).await?.is_empty(),
        "an evicted member committed"
    );

    let mut seen = BTreeSet::new();
    while seen.len() < 60 {
        let delivery = next(&mut other).await?;
        seen.insert(number(&delivery));
        delivery.ack();
    }
    other.shutdown(PATIENCE).await;
    Ok(())
}

/// One that stays behind is waited for by every rebalance until its session ends.
pub async fn a_member_that_leaves_before_it_has_partitions_is_gone(
    cluster: &Cluster,
) -> Result<()> {
    let admin = cluster.with_topics().await?;
    let mut kafka = cluster.config.clone();
    let session = ("session.timeout.ms".to_owned(), "300000".to_owned());
    kafka.librdkafka_options.extend([session]);
    let member = || Consumer::start(&kafka, &ConsumerConfig::new(cluster.group(), &[DOCUMENTS]));
    let first = member()?;
    until_ready(&first).await?;

    let passing = member()?;
    let mut health = passing.health();
    // Without partitions, nearly always; on a busy machine it may have them before anybody looks.
    let joined = health.wait_for(|health| matches!(health, ConsumerState::Ready { .. }));
    tokio::time::timeout(PATIENCE, joined).await??;
    passing.handle().shutdown(PATIENCE).await;
    until("only the first is a member", async || {
        let groups = admin.describe_groups(&[cluster.group()]).await?;
        Ok(groups.iter().all(|group| group.members.len() == 1))
    })
    .await?;
    first.handle().shutdown(PATIENCE).await;
    Ok(())
}

/// Each arrival and each departure is a rebalance, so that nearly all of them leave in the middle of one.
pub async fn members_that_leave_during_rebalances_come_to_their_end(
    cluster: &Cluster,
) -> Result<()> {
    const MEMBERS: u64 = 4;
    const VISITS: u64 = 3;
    cluster.with_topics().await?;
    let mut coming_and_going = tokio::task::JoinSet::new();
    for member in 0..MEMBERS {
        let (kafka, group) = (cluster.config.clone(), cluster.group());
        coming_and_going.spawn(async move {
            for visit in 0..VISITS {
                let consumer = Consumer::start(&kafka, &ConsumerConfig::new(&group, &[DOCUMENTS]))?;
                // Spread over all the steps of a join, with no two members in step.
                let stay = 37 * (1 + (member * 5 + visit * 3) % 13);
                tokio::time::sleep(Duration::from_millis(stay)).await;
                let mut health = consumer.health();
                drop(consumer);
                // One that joins waits for all others to join, too.
                let stopped = health.wait_for(|state| *state == ConsumerState::Stopped);
                tokio::time::timeout(PATIENCE, stopped)
                    .await
                    .with_context(|| format!("member {member}, visit {visit}"))??;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = coming_and_going.join_next().await {
        done??;
    }
    Ok(())
}
