//! The joiner from its topics to its topics.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use millrace_joiner::{ItemReader, RunState, StartError, join_group};
use millrace_kafka::{ConsumerConfig, PartitionedConsumer, topics};
use millrace_schemas::{
    BehaviorByItem, BehaviorByRequest, BehaviorKind, Framing, ItemStats, Origin, UnmatchedBehavior,
    encode,
};
use millrace_stateful::testing::{DEADLINE, Place, now_ms, publish_raw, until};

use crate::stack::{
    TRACE, event, feedback_of, item_id, joiner_of, publish, publish_signal, signal, start, stats_of,
};

pub async fn behavior_becomes_feedback_and_counts(place: &Place) -> Result<()> {
    place.with_topics().await?;
    let producer = place.producer()?;
    let joiner = joiner_of(place).await?;

    // Behavior before its signal waits for it, and passes at once when that comes.
    let shown = event("shown", 1, BehaviorKind::Expose);
    let clicked = event("clicked", 1, BehaviorKind::Click);
    publish(
        &producer,
        &[shown.clone(), clicked.clone(), clicked.clone()],
    )
    .await?;
    let waiting = || {
        joiner
            .stats()
            .partitions
            .values()
            .map(|p| p.waiting)
            .sum::<u64>()
    };
    until("two wait", async || Ok(waiting() == 2)).await?;
    publish_signal(&producer, &signal(1, 10)).await?;
    until("both are joined", async || Ok(joiner.stats().joined == 2)).await?;
    ensure!(waiting() == 0);
    let items = ItemReader::connect(&place.kafka, place.state().await?).await?;
    let ids = [item_id(1), item_id(2)];
    let vectors = items.vectors("model", &ids).await?;
    ensure!(
        vectors.len() == 1 && vectors[&item_id(1)] == [0.6, 0.8],
        "{vectors:?}"
    );
    ensure!(items.vectors("another", &ids).await?.is_empty());

    // An older signal of the item changes nothing, a removal is told.
    publish_signal(&producer, &signal(1, 9)).await?;
    let removed = millrace_schemas::Signal {
        deleted: true,
        vector: Vec::new(),
        title: None,
        ..signal(1, 11)
    };
    let liked = event("liked", 1, BehaviorKind::Like);
    publish_signal(&producer, &removed).await?;
    until("signals are read", async || Ok(joiner.stats().signals == 3)).await?;
    ensure!(items.vectors("model", &ids).await?.is_empty(), "removed");
    publish(&producer, std::slice::from_ref(&liked)).await?;

    // An item that stays unknown.
    let lost = event("lost", 2, BehaviorKind::Buy);
    publish(&producer, std::slice::from_ref(&lost)).await?;
    joiner.end_of_input().await?;

    let feedback = feedback_of(place).await?;
    let by_id: BTreeMap<&str, _> = feedback
        .values()
        .map(|feedback| (feedback.event.event_id.as_str(), feedback))
        .collect();
    ensure!(
        by_id.keys().eq(["clicked", "liked", "shown"].iter()),
        "{by_id:?}"
    );
    ensure!(by_id["clicked"].event == clicked && by_id["shown"].event == shown);
    let item = &by_id["clicked"].item;
    ensure!(
        item.document_version == 10 && item.vector == [0.6, 0.8],
        "{item:?}"
    );
    ensure!(
        item.title.as_deref() == Some("Title 1") && !item.deleted,
        "{item:?}"
    );
    let gone = &by_id["liked"].item;
    ensure!(
        gone.deleted && gone.document_version == 11 && gone.vector.is_empty(),
        "{gone:?}"
    );
    let records = place.records(topics::FEEDBACK).await?;
    for record in &records {
        let user = by_id
            .values()
            .any(|f| Some(f.event.user_id.clone()) == record.key_text());
        ensure!(user, "keyed by user: {:?}", record.key_text());
        ensure!(record.header("traceparent") == Some(TRACE.as_bytes()));
    }

    // Clicks stand beside the answer that they name, also those that come twice, and nothing else does.
    let clicks = place.messages::<BehaviorByRequest>().await?;
    ensure!(
        clicks.len() == 2 && clicks.iter().all(|click| click.event == clicked),
        "{clicks:?}"
    );
    let records = place.records(topics::BEHAVIOR_BY_REQUEST).await?;
    let key = |record: &millrace_kafka::Record| record.key_text();
    ensure!(
        records
            .iter()
            .map(key)
            .all(|key| key.as_deref() == Some("answer"))
    );

    let stats = stats_of(place).await?;
    let counters = &stats[&item_id(1)].counters;
    for buckets in [&counters.minutes, &counters.hours, &counters.days] {
        let sum = |of: fn(&millrace_schemas::Bucket) -> i64| buckets.iter().map(of).sum::<i64>();
        ensure!(
            sum(|b| b.impressions) == 1 && sum(|b| b.clicks) == 1,
            "{counters:?}"
        );
        ensure!(
            sum(|b| b.others.get("like").copied().unwrap_or(0)) == 1,
            "{counters:?}"
        );
    }
    ensure!(
        !stats.contains_key(&item_id(2)),
        "counted when it is joined"
    );
    let partition = feedback.keys().next().context("an origin")?.partition;
    let totals = &stats[&ItemStats::totals_id(partition)].counters;
    ensure!(totals == counters, "{totals:?}");

    let unmatched = place.messages::<UnmatchedBehavior>().await?;
    ensure!(
        unmatched.len() == 1 && unmatched[0].event == lost,
        "{unmatched:?}"
    );
    ensure!(unmatched[0].waited_ms >= 600_000, "{unmatched:?}");
    let done = joiner.stats();
    ensure!(
        (done.rekeyed, done.joined, done.unmatched, done.duplicates) == (5, 3, 1, 1),
        "{done:?}"
    );

    // Driven again once its item is known, it passes by its id; doubled, once.
    publish_signal(&producer, &signal(2, 1)).await?;
    until("the signal is read", async || {
        Ok(joiner.stats().signals == 4)
    })
    .await?;
    publish(&producer, &[lost.clone(), lost.clone()]).await?;
    joiner.end_of_input().await?;
    ensure!(feedback_of(place).await?.len() == 4);
    ensure!(stats_of(place).await?[&item_id(2)].counters.days[0].others["buy"] == 1);
    ensure!(joiner.shutdown(DEADLINE).await.unfinished == 0);
    ensure!(*joiner.state().borrow() == RunState::Stopped);
    Ok(())
}

pub async fn what_cannot_be_read_is_a_dead_letter(place: &Place) -> Result<()> {
    place.with_topics().await?;
    let producer = place.producer()?;
    let joiner = joiner_of(place).await?;
    publish_raw(
        &producer,
        topics::BEHAVIOR,
        "u",
        Some(b"not an event".to_vec()),
    )
    .await?;
    publish_raw(&producer, topics::BEHAVIOR, "u", None).await?;
    let mut future = event("future", 1, BehaviorKind::Click);
    future.event_time_ms = now_ms()? + 3_600_000;
    let mut ancient = event("ancient", 1, BehaviorKind::Click);
    ancient.event_time_ms = -1;
    let nameless = event("", 1, BehaviorKind::Click);
    let misplaced = BehaviorByItem {
        event: event("misplaced", 1, BehaviorKind::Click),
        origin: Origin {
            topic: "behavior".to_owned(),
            partition: 0,
            offset: 0,
        },
    };
    publish(&producer, &[future, ancient, nameless]).await?;
    let value = encode(&misplaced, &Framing::SingleObject)?;
    publish_raw(
        &producer,
        topics::BEHAVIOR_BY_ITEM,
        "another item",
        Some(value),
    )
    .await?;
    // An unreadable signal is left out, and one that is gone is forgotten.
    publish_raw(&producer, topics::SIGNALS, "x", Some(b"?".to_vec())).await?;
    publish_raw(&producer, topics::SIGNALS, "x", None).await?;
    publish_signal(&producer, &signal(1, 1)).await?;
    publish(&producer, &[event("good", 1, BehaviorKind::Click)]).await?;
    joiner.end_of_input().await?;

    let behavior = place.dead_letters(topics::BEHAVIOR).await?;
    let expected = [
        "event_time_in_future",
        "event_time_out_of_range",
        "missing_field",
        "no_value",
        "unknown_framing",
    ];
    ensure!(behavior.keys().eq(expected.iter()), "{behavior:?}");
    ensure!(
        behavior["event_time_in_future"].contains("joiner.max_skew_ms"),
        "{behavior:?}"
    );
    let by_item = place.dead_letters(topics::BEHAVIOR_BY_ITEM).await?;
    ensure!(by_item.keys().eq(["key_mismatch"].iter()), "{by_item:?}");
    let ids: Vec<String> = feedback_of(place)
        .await?
        .into_values()
        .map(|feedback| feedback.event.event_id)
        .collect();
    ensure!(ids == ["good"], "{ids:?}");
    let stats = joiner.stats();
    ensure!(
        stats.dead_lettered == 6 && stats.unreadable_signals == 2,
        "{stats:?}"
    );
    Ok(())
}

pub async fn a_moved_committed_offset_changes_nothing(place: &Place) -> Result<()> {
    let admin = place.with_topics().await?;
    let producer = place.producer()?;
    let joiner = joiner_of(place).await?;
    publish_signal(&producer, &signal(1, 1)).await?;
    let events: Vec<_> = (0..50)
        .map(|id| event(&id, 1, BehaviorKind::Click))
        .collect();
    publish(&producer, &events).await?;
    joiner.end_of_input().await?;
    let before = place.records(topics::FEEDBACK).await?.len();
    ensure!(before == 50, "{before}");
    joiner.shutdown(DEADLINE).await;

    // Somebody rewinds the group, as is usual to replay a topic.
    let group = join_group(&place.kafka, 1);
    let config = ConsumerConfig::new(&group, &[topics::BEHAVIOR_BY_ITEM]);
    let mut rewinding = PartitionedConsumer::start(&place.kafka, &config)?;
    let topic = place.kafka.topic(topics::BEHAVIOR_BY_ITEM);
    let ends = admin.end_offsets(&topic).await?;
    let full = ends
        .values()
        .position(|&end| end == 50)
        .context("one item")?;
    loop {
        let mut assigned = rewinding.next_assignment().await.context("an assignment")?;
        if usize::try_from(assigned.partition())? == full {
            assigned.start_at(None);
            let first = assigned.recv_batch(1, 1).await.context("a record")?;
            first.into_iter().for_each(millrace_kafka::Delivery::ack);
            break;
        }
    }
    rewinding.shutdown(DEADLINE).await;
    let lags = admin
        .group_lag(&group, std::slice::from_ref(&topic))
        .await?;
    ensure!(lags.iter().any(|lag| lag.lag == 49), "{lags:?}");

    let joiner = joiner_of(place).await?;
    publish(&producer, &[event("new", 1, BehaviorKind::Click)]).await?;
    joiner.end_of_input().await?;
    ensure!(place.records(topics::FEEDBACK).await?.len() == 51);
    let stats = joiner.stats();
    ensure!((stats.joined, stats.duplicates) == (1, 0), "{stats:?}");
    let clicks = stats_of(place).await?[&item_id(1)]
        .counters
        .days
        .iter()
        .map(|d| d.clicks)
        .sum::<i64>();
    ensure!(clicks == 51, "{clicks}");
    joiner.shutdown(DEADLINE).await;
    Ok(())
}

pub async fn a_second_joiner_takes_partitions_over_and_nothing_counts_twice(
    place: &Place,
) -> Result<()> {
    const ITEMS: usize = 40;
    place.with_topics().await?;
    let producer = place.producer()?;
    for item in 0..ITEMS {
        publish_signal(&producer, &signal(item, 1)).await?;
    }
    let publish_some = async |ids: std::ops::Range<usize>| {
        let events: Vec<_> = ids
            .map(|id| event(&id, id % ITEMS, BehaviorKind::Click))
            .collect();
        publish(&producer, &events).await
    };
    let first = joiner_of(place).await?;
    publish_some(0..1_000).await?;
    let second = joiner_of(place).await?;
    publish_some(1_000..2_000).await?;
    let partitions = |handle: &millrace_joiner::JoinerHandle| handle.stats().partitions.len();
    until("both have partitions", async || {
        Ok(partitions(&first) == 3 && partitions(&second) == 3)
    })
    .await?;
    publish_some(2_000..3_000).await?;
    first.end_of_input().await?;
    second.end_of_input().await?;
    ensure!(second.stats().joined > 0);
    // The second one has it all when the first one leaves.
    ensure!(first.shutdown(DEADLINE).await.unfinished == 0);
    until("the rest moves", async || Ok(partitions(&second) == 6)).await?;
    publish_some(3_000..3_500).await?;
    second.end_of_input().await?;

    let feedback = feedback_of(place).await?;
    let ids: BTreeSet<&str> = feedback
        .values()
        .map(|f| f.event.event_id.as_str())
        .collect();
    ensure!(
        feedback.len() == 3_500 && ids.len() == 3_500,
        "{} {}",
        feedback.len(),
        ids.len()
    );
    let stats = stats_of(place).await?;
    for item in 0..ITEMS {
        let clicks: i64 = stats[&item_id(item)]
            .counters
            .minutes
            .iter()
            .map(|b| b.clicks)
            .sum();
        let expected = (0..3_500).filter(|id| id % ITEMS == item).count();
        ensure!(
            clicks == i64::try_from(expected)?,
            "item {item}: {clicks} of {expected}"
        );
    }
    second.shutdown(DEADLINE).await;
    Ok(())
}

pub async fn topics_that_are_not_partitioned_alike_are_refused(place: &Place) -> Result<()> {
    place.with_fewer_partitions(topics::SIGNALS).await?;
    match start(&place.kafka, place.state().await?).await {
        Ok(_) => anyhow::bail!("it started"),
        Err(error @ StartError::NotCopartitioned { .. }) => {
            let message = error.to_string();
            ensure!(
                message.contains("6 partitions") && message.contains("has 3"),
                "{message}"
            );
            ensure!(message.contains("kafka.topic_prefix"), "{message}");
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
