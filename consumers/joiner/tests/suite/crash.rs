//! `kill -9`, with real processes.

use std::io::Write as _;

use anyhow::{Result, ensure};
use millrace_joiner::JoinerHandle;
use millrace_schemas::BehaviorKind;
use millrace_stateful::RebuildProgress;
use millrace_stateful::testing::{Child, DEADLINE, Place, member, of_parent, until};

use crate::stack::{event, feedback_of, item_id, publish, publish_signal, signal, start, stats_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_of_the_joiner_counts_nothing_twice_and_loses_nothing() -> Result<()> {
    const ITEMS: usize = 25;
    const ROUNDS: usize = 3;
    const A_ROUND: usize = 1_500;
    let mut place = Place::embedded()?;
    place.with_topics().await?;
    let producer = place.producer()?;
    for round in 0..ROUNDS {
        let joiner = Child::start("crash::child_joins_until_killed", &place)?;
        // Some signals come after their behavior.
        for item in (0..ITEMS).filter(|item| item % ROUNDS == round) {
            publish_signal(&producer, &signal(item, 1)).await?;
        }
        let ids = round * A_ROUND..(round + 1) * A_ROUND;
        let events: Vec<_> = ids
            .map(|id| event(&id, id % ITEMS, BehaviorKind::Click))
            .collect();
        publish(&producer, &events).await?;
        joiner.kill_once("joined", 50)?;
    }
    // The last one finishes what is left.
    let joiner = start(&member(&place.kafka), place.state().await?).await?;
    joiner.end_of_input().await?;
    let feedback = feedback_of(&place).await?;
    ensure!(
        feedback.len() == ROUNDS * A_ROUND,
        "{} origins",
        feedback.len()
    );
    let stats = stats_of(&place).await?;
    for item in 0..ITEMS {
        let clicks: i64 = stats[&item_id(item)]
            .counters
            .days
            .iter()
            .map(|day| day.clicks)
            .sum();
        let expected = (0..ROUNDS * A_ROUND)
            .filter(|id| id % ITEMS == item)
            .count();
        ensure!(
            clicks == i64::try_from(expected)?,
            "item {item}: {clicks} of {expected}"
        );
    }
    joiner.shutdown(DEADLINE).await;
    drop(joiner);
    place.stop_broker();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run as a child process by the test above"]
async fn child_joins_until_killed() -> Result<()> {
    let (kafka, state) = of_parent()?;
    let joiner = start(&kafka, state).await?;
    let mut told = 0;
    loop {
        until("more is joined", async || Ok(joiner.stats().joined > told)).await?;
        told = joiner.stats().joined;
        println!("joined {told}");
        std::io::stdout().flush()?;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_in_a_rebuild_leaves_a_state_that_serves() -> Result<()> {
    const ITEMS: usize = 10;
    const EVENTS: usize = 4_000;
    let mut place = Place::embedded()?;
    place.with_topics().await?;
    let producer = place.producer()?;
    for item in 0..ITEMS {
        publish_signal(&producer, &signal(item, 1)).await?;
    }
    let events: Vec<_> = (0..EVENTS)
        .map(|id| event(&id, id % ITEMS, BehaviorKind::Click))
        .collect();
    publish(&producer, &events).await?;
    // Before the switch, around it, and after it, as it comes.
    for enough in [1, 2_000, 4_000] {
        let child = Child::start("crash::child_rebuilds_until_killed", &place)?;
        child.kill_once("rebuilding", enough)?;
    }
    let joiner = start(&member(&place.kafka), place.state().await?).await?;
    joiner.end_of_input().await?;
    let serving = joiner.rebuilds().generation();
    ensure_counted(&joiner, ITEMS, EVENTS / ITEMS).await?;
    let rebuilt = joiner.rebuilds().rebuild(false, &|_| {}).await?;
    ensure!(
        rebuilt.old == serving && rebuilt.new > serving,
        "{rebuilt:?}"
    );
    ensure_counted(&joiner, ITEMS, EVENTS / ITEMS).await?;
    let feedback = feedback_of(&place).await?;
    ensure!(feedback.len() == EVENTS, "{} origins", feedback.len());
    joiner.shutdown(DEADLINE).await;
    drop(joiner);
    place.stop_broker();
    Ok(())
}

async fn ensure_counted(joiner: &JoinerHandle, items: usize, clicks: usize) -> Result<()> {
    for item in 0..items {
        let counters = joiner.counters(&item_id(item)).await?.unwrap_or_default();
        let counted: i64 = counters.days.iter().map(|day| day.clicks).sum();
        ensure!(counted == i64::try_from(clicks)?, "item {item}: {counted}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run as a child process by the test above"]
async fn child_rebuilds_until_killed() -> Result<()> {
    let (kafka, state) = of_parent()?;
    let joiner = start(&kafka, state).await?;
    joiner.end_of_input().await?;
    let progress = |progress: RebuildProgress| println!("rebuilding {}", progress.done_records);
    loop {
        joiner.rebuilds().rebuild(false, &progress).await?;
    }
}
