//! A state of the joiner built anew from its topics while the present one serves.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use millrace_joiner::JoinerHandle;
use millrace_kafka::topics;
use millrace_schemas::{BehaviorKind, ItemCounters};
use millrace_stateful::RebuildError;
use millrace_stateful::testing::{DEADLINE, Place, until};

use crate::stack::{
    event, feedback_of, item_id, joiner_of, publish, publish_signal, signal, stats_of,
};

const ITEMS: usize = 12;

/// The counters of all items, as bits.
async fn counters_of(joiner: &JoinerHandle) -> Result<BTreeMap<usize, Option<ItemCounters>>> {
    let mut counters = BTreeMap::new();
    for item in 0..ITEMS {
        counters.insert(item, joiner.counters(&item_id(item)).await?);
    }
    Ok(counters)
}

pub async fn a_rebuilt_state_counts_the_same_and_publishes_nothing_as_new(
    place: &Place,
) -> Result<()> {
    place.with_topics().await?;
    let producer = place.producer()?;
    let joiner = joiner_of(place).await?;
    // Items 0 to 7 are known. The first event of 8 is given up, and passes when it is driven again; 9
    // stays unknown; the signal of 10 comes later.
    for item in 0..8 {
        publish_signal(&producer, &signal(item, 1)).await?;
    }
    let events: Vec<_> = (0..400)
        .map(|id| event(&id, id % 8, BehaviorKind::Click))
        .collect();
    publish(&producer, &events).await?;
    publish(&producer, &events[..50]).await?;
    let again = event("again", 8, BehaviorKind::Click);
    let lost = event("lost", 9, BehaviorKind::Click);
    publish(&producer, &[again.clone(), lost]).await?;
    joiner.end_of_input().await?;
    publish_signal(&producer, &signal(8, 1)).await?;
    publish(&producer, &[again]).await?;
    joiner.end_of_input().await?;
    let early = event("early", 10, BehaviorKind::Click);
    publish(&producer, &[early]).await?;
    let waiting = |joiner: &JoinerHandle| {
        let partitions = joiner.stats().partitions;
        partitions.values().map(|stats| stats.waiting).sum::<u64>()
    };
    until("it waits", async || Ok(waiting(&joiner) == 1)).await?;
    let (counters, feedback) = (counters_of(&joiner).await?, feedback_of(place).await?);
    ensure!(feedback.len() == 401, "{}", feedback.len());
    let records = place.records("feedback").await?.len();

    // Live traffic goes on.
    let live: Vec<_> = (1_000..1_100)
        .map(|id| event(&id, 11, BehaviorKind::Click))
        .collect();
    publish_signal(&producer, &signal(11, 1)).await?;
    let progress = |_| {};
    let (rebuilt, published) = tokio::join!(
        joiner.rebuilds().rebuild(false, &progress),
        publish(&producer, &live)
    );
    published?;
    let rebuilt = rebuilt?;
    ensure!(rebuilt.old == 1 && rebuilt.new == 2, "{rebuilt:?}");
    until("live events are joined", async || {
        Ok(feedback_of(place).await?.len() == 501)
    })
    .await?;
    let mut after = counters_of(&joiner).await?;
    ensure!(after.remove(&11).flatten().is_some());
    ensure!(
        counters
            .iter()
            .filter(|(item, _)| **item != 11)
            .eq(after.iter()),
        "bit for bit"
    );
    // A record more for each live event, and none twice; the last one may repeat what the old
    // generation had published when it was replaced.
    let new_records = place.records("feedback").await?.len() - records;
    ensure!((100..=200).contains(&new_records), "{new_records}");
    let origins = feedback_of(place).await?;
    ensure!(
        feedback
            .iter()
            .all(|(origin, was)| origins[origin].event == was.event)
    );
    ensure!(waiting(&joiner) == 1, "what waited waits");

    // The new generation's counters are those that readers keep.
    until("all counters are told", async || {
        let stats = stats_of(place).await?;
        let of_new = (0..9).all(|item| stats[&item_id(item)].generation == 2);
        Ok(of_new && stats[&item_id(3)].counters == counters[&3].clone().unwrap_or_default())
    })
    .await?;
    // And what waited is joined when its signal comes, from the record that it came in.
    publish_signal(&producer, &signal(10, 1)).await?;
    until("the early one is joined", async || {
        Ok(feedback_of(place).await?.len() == 502)
    })
    .await?;
    joiner.shutdown(DEADLINE).await;
    let joiner = joiner_of(place).await?;
    ensure!(joiner.rebuilds().generation() == 2);
    joiner.shutdown(DEADLINE).await;
    Ok(())
}

pub async fn a_rebuild_ends_where_retention_has_left_a_partition_nothing(
    place: &Place,
) -> Result<()> {
    let admin = place.with_topics().await?;
    let producer = place.producer()?;
    let joiner = joiner_of(place).await?;
    for item in 0..ITEMS {
        publish_signal(&producer, &signal(item, 1)).await?;
    }
    let events: Vec<_> = (0..120)
        .map(|id| event(&id, id % ITEMS, BehaviorKind::Click))
        .collect();
    publish(&producer, &events).await?;
    joiner.end_of_input().await?;
    let before = counters_of(&joiner).await?;
    let ends = admin
        .end_offsets(&place.kafka.topic(topics::BEHAVIOR_BY_ITEM))
        .await?;
    let emptied = ends.iter().find(|(_, end)| **end > 0);
    let (&emptied, _) = emptied.context("a partition with records")?;
    let gone = place.empty(topics::BEHAVIOR_BY_ITEM, emptied).await?;

    let refused = joiner.rebuilds().rebuild(false, &|_| {}).await;
    ensure!(
        matches!(refused, Err(RebuildError::RecordsGone { records, .. }) if records == gone),
        "{refused:?}"
    );
    let rebuilt = joiner.rebuilds().rebuild(true, &|_| {}).await?;
    ensure!(rebuilt.records_gone == gone, "{rebuilt:?}");
    let after = counters_of(&joiner).await?;
    let mut lost = Vec::new();
    for (item, counters) in &after {
        if *counters != before[item] {
            ensure!(counters.is_none(), "{item}: all of its events or none");
            lost.push(*item);
        }
    }
    ensure!(!lost.is_empty() && lost.len() < ITEMS, "{lost:?}");
    let again = event("again", lost[0], BehaviorKind::Click);
    publish(&producer, &[again]).await?;
    joiner.end_of_input().await?;
    ensure!(joiner.counters(&item_id(lost[0])).await?.is_some());
    joiner.shutdown(DEADLINE).await;
    Ok(())
}
