//! What an impression logs can be computed again from where the topics stood.

use anyhow::{Context as _, Result};
use millrace_features::{Item, Scores, compute};
use millrace_kafka::{ReadFrom, ReadUntil, TopicReader};
use millrace_recommender::context;
use millrace_schemas::BehaviorKind::{Buy, Click};
use millrace_schemas::{ItemCounters, ItemStats, Message, Signal, decode};

use crate::stack::{SPACE, Stack, item, profile, request, stats, until};

/// The records of a topic below the logged offsets.
async fn read<M: Message>(stack: &Stack, told: &millrace_schemas::Impression) -> Result<Vec<M>> {
    let topic = stack.kafka.topic(M::TOPIC);
    let reader = TopicReader::open(
        &stack.kafka,
        &topic,
        &ReadFrom::Beginning,
        ReadUntil::PresentEnd,
    )
    .await?;
    let below = |record: &millrace_kafka::Record| {
        told.read_up_to.iter().any(|read| {
            read.topic == record.topic
                && read.partition == record.partition
                && record.offset < read.offset
        })
    };
    let records = reader.collect().await?;
    records
        .into_iter()
        .filter(below)
        .map(|record| Ok(decode(&record.value.context("a value")?)?))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logged_features_are_those_of_the_logged_offsets_bit_for_bit() -> Result<()> {
    let (stack, recommender) = Stack::with_sixty_items("").await?;
    let user = profile("u", &[(item(SPACE, 1), Click), (item(SPACE, 2), Buy)]);
    stack.profiles.give(user.clone());
    for n in 0..20 {
        stack
            .publish_stats(&stats(&format!("space-{n:02}"), 1, 50 + n, n))
            .await?;
    }
    stack.publish_stats(&stats("*@2", 1, 5_000, 400)).await?;
    until("counters are read", async || {
        Ok(recommender.stats().catalog.stats == 21)
    })
    .await?;
    let mut asked = request("u");
    asked.explain = true;
    let answer = recommender.recommend(asked).await?;
    // More behavior, after the answer.
    for n in 0..20 {
        stack
            .publish_stats(&stats(&format!("space-{n:02}"), 2, 500, 400))
            .await?;
    }
    until("all is acknowledged", async || {
        Ok(recommender.stats().impressions.published == 1
            && recommender.stats().catalog.stats == 41)
    })
    .await?;
    let (told, _) = stack.impressions().await?.remove(0);

    let signals: Vec<Signal> = read(&stack, &told).await?;
    let counted: Vec<ItemStats> = read(&stack, &told).await?;
    assert_eq!((signals.len(), counted.len()), (60, 21));
    let totals = counted
        .iter()
        .filter(|stats| stats.item_id.starts_with('*'));
    let context = context(totals.map(|stats| &stats.counters), told.served_at_ms);
    let none = ItemCounters::default();
    for logged in &told.items {
        let signal = signals
            .iter()
            .find(|signal| signal.item_id == logged.item_id);
        let counters = counted.iter().find(|stats| stats.item_id == logged.item_id);
        let counters = counters.map_or(&none, |stats| &stats.counters);
        let item = Item::of_signal(signal.context("a signal")?, counters);
        // What recall scored is the request's own, and logged among the features.
        let score = |name: &str| {
            let column = stack.features.names().position(|column| column == name)?;
            Some(logged.features[column]).filter(|score| !score.is_nan())
        };
        let scores = Scores {
            text: score("text_score"),
            vector: score("vector_score"),
            hybrid: score("hybrid_score"),
            rank: score("rank_score"),
        };
        let mut row = Vec::new();
        compute(&stack.features, &user, &item, &scores, &context, &mut row);
        let bits = |row: &[f32]| row.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&row), bits(&logged.features), "{}", logged.item_id);
    }
    assert_eq!(told.items.len(), answer.items.len());
    Ok(())
}
