//! Reading as a group member.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use millrace_kafka::topics::DOCUMENTS;
use millrace_kafka::{Admin, Consumer, ConsumerConfig, ConsumerState};

use crate::cluster::{Cluster, PATIENCE, next, number, until, until_ready};

pub async fn everything_is_consumed_and_a_restart_resumes_after_it(
    cluster: &Cluster,
) -> Result<()> {
    let admin = cluster.with_topics().await?;
    cluster.publish(DOCUMENTS, 0..500).await?;

    let mut consumer = cluster.consumer(DOCUMENTS)?;
    let mut seen = BTreeSet::new();
    while seen.len() < 500 {
        let delivery = next(&mut consumer).await?;
        ensure!(seen.insert(number(&delivery)), "{delivery:?} came twice");
        delivery.ack();
    }
    let drained = consumer.shutdown(PATIENCE).await;
    ensure!(drained.unfinished == 0, "{drained:?}");
    ensure!(
        cluster.committed(&admin, DOCUMENTS).await?
            == admin.end_offsets(&cluster.config.topic(DOCUMENTS)).await?
    );

    cluster.publish(DOCUMENTS, 500..600).await?;
    let mut consumer = cluster.consumer(DOCUMENTS)?;
    let mut after = BTreeSet::new();
    while after.len() < 100 {
        let delivery = next(&mut consumer).await?;
        after.insert(number(&delivery));
        delivery.ack();
    }
    ensure!(after == (500..600).collect(), "{after:?}");
    ensure!(
        consumer.metrics().received == 100,
        "{:?}",
        consumer.metrics()
    );
    consumer.shutdown(PATIENCE).await;
    Ok(())
}

pub async fn an_unacknowledged_delivery_holds_the_offset_and_comes_again(
    cluster: &Cluster,
) -> Result<()> {
    let admin = cluster.with_topics().await?;
    // One partition: the outcome of "everything after it is acknowledged" is then exact.
    let producer = cluster.producer()?;
    for number in 0..20 {
        let mut record = crate::cluster::numbered(cluster.config.topic(DOCUMENTS), number);
        record.partition_key = Some("one".into());
        producer.send_raw(record).await?;
    }
    let mut consumer = cluster.consumer(DOCUMENTS)?;
    let mut held = None;
    for expected in 0..20 {
        let delivery = next(&mut consumer).await?;
        ensure!(number(&delivery) == expected);
        if expected == 7 {
            held = Some(delivery);
        } else {
            delivery.ack();
        }
    }
    until("the offset moves up to the held record", async || {
        Ok(cluster
            .committed(&admin, DOCUMENTS)
            .await?
            .values()
            .eq([&7]))
    })
    .await?;
    // Dropping it is no acknowledgement.
    drop(held);
    let metrics = consumer.metrics();
    ensure!(
        metrics.dropped_unfinished == 1 && metrics.finished == 19,
        "{metrics:?}"
    );
    let drained = consumer.shutdown(PATIENCE).await;
    ensure!(drained.unfinished == 1, "{drained:?}");

    let mut consumer = cluster.consumer(DOCUMENTS)?;
    for expected in 7..20 {
        let delivery = next(&mut consumer).await?;
        ensure!(number(&delivery) == expected, "{delivery:?}");
        delivery.ack();
    }
    consumer.shutdown(PATIENCE).await;
    ensure!(
        cluster
            .committed(&admin, DOCUMENTS)
            .await?
            .values()
            .eq([&20])
    );
    Ok(())
}

pub async fn a_full_queue_pauses_and_a_slow_handler_keeps_its_membership(
    cluster: &Cluster,
) -> Result<()> {
    cluster.with_topics().await?;
    let mut config = cluster.config.clone();
    // The handler is slower than both.
    for (option, value) in [
        ("session.timeout.ms", "6000"),
        ("max.poll.interval.ms", "7000"),
        ("heartbeat.interval.ms", "500"),
    ] {
        config
            .librdkafka_options
            .insert(option.to_owned(), value.to_owned());
    }
    let mut consumer_config = ConsumerConfig::new(cluster.group(), &[DOCUMENTS]);
    consumer_config.max_queued_messages_per_partition = 10;
    let mut consumer = Consumer::start(&config, &consumer_config)?;
    until_ready(&consumer).await?;
    cluster.publish(DOCUMENTS, 0..1000).await?;

    let first = next(&mut consumer).await?;
    until("every partition pauses", async || {
        let metrics = consumer.metrics();
        Ok(metrics.partitions.len() == 6
            && metrics.partitions.iter().all(|partition| partition.paused))
    })
    .await?;
    // Longer than both timeouts, with nothing acknowledged: a duration is what is tested here.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let metrics = consumer.metrics();
    ensure!(
        metrics.rebalances == 1 && metrics.evictions == 0,
        "{metrics:?}"
    );
    for partition in &metrics.partitions {
        // What was on its way when the partition paused may still come; not more.
        ensure!(partition.queued_messages <= 10, "{partition:?}");
    }
    ensure!(*consumer.health().borrow() == ConsumerState::Ready { partitions: 6 });
    // Who asks the brokers is told of it, though nothing was finished.
    let admin = Admin::connect(&cluster.config)?;
    let told = async || {
        let lags = admin.group_offsets(&[cluster.group()]).await?;
        let told = lags.partitions.into_iter();
        anyhow::Ok(
            told.map(|lag| (lag.committed, lag.paused))
                .collect::<Vec<_>>(),
        )
    };
    ensure!(told().await? == [(Some(0), Some(true)); 6]);

    let mut seen = BTreeSet::from([number(&first)]);
    first.ack();
    while seen.len() < 1000 {
        let delivery = next(&mut consumer).await?;
        ensure!(seen.insert(number(&delivery)), "{delivery:?} came twice");
        delivery.ack();
    }
    until("it is told that all partitions go on", async || {
        Ok(told()
            .await?
            .iter()
            .all(|(_, paused)| *paused == Some(false)))
    })
    .await?;
    ensure!(consumer.metrics().late_acknowledgements == 0);
    ensure!(consumer.shutdown(PATIENCE).await.unfinished == 0);
    Ok(())
}

pub async fn a_missing_topic_is_waited_for(cluster: &Cluster) -> Result<()> {
    let mut consumer = cluster.consumer(DOCUMENTS)?;
    let mut health = consumer.health();
    tokio::time::timeout(
        PATIENCE,
        health.wait_for(|state| matches!(state, ConsumerState::Waiting { .. })),
    )
    .await??;
    cluster.with_topics().await?;
    cluster.publish(DOCUMENTS, 0..1).await?;
    let delivery = next(&mut consumer).await?;
    ensure!(number(&delivery) == 0);
    ensure!(consumer.health().borrow().is_ready());
    delivery.ack();
    consumer.shutdown(PATIENCE).await;
    Ok(())
}
