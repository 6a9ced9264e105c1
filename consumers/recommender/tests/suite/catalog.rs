//! Signals and counters from the topics to what can be recommended.

use anyhow::Result;
use millrace_schemas::Message;

use crate::stack::{CHESS, SPACE, Stack, ids, item, profile, request, stats, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_that_has_just_come_is_recommended_before_the_index_has_it() -> Result<()> {
    let (stack, recommender) = Stack::with_sixty_items("").await?;
    let clicked = (item(SPACE, 3), millrace_schemas::BehaviorKind::Click);
    stack.profiles.give(profile("reader", &[clicked]));
    // More like what was clicked than anything else.
    let mut fresh = item(SPACE, 3);
    fresh.item_id = "space-new".to_owned();
    fresh.near_duplicate_hash = 77;
    stack.publish_signal(&fresh).await?;
    until("the new document is recommended", async || {
        let answer = recommender.recommend(request("reader")).await?;
        Ok(ids(&answer).contains(&"space-new"))
    })
    .await?;
    // The trace of its notice can be found by it.
    let mut explained = request("reader");
    explained.explain = true;
    let answer = recommender.recommend(explained).await?;
    let found = answer.items.iter().find(|item| item.item_id == "space-new");
    let explanation = found.unwrap().explanation.clone().unwrap();
    assert_eq!(
        explanation.signal_traceparent.as_deref(),
        Some(crate::stack::TRACE)
    );

    let mut gone = fresh.clone();
    gone.deleted = true;
    gone.document_version += 1;
    stack.publish_signal(&gone).await?;
    until("the removed document is recommended no more", async || {
        let answer = recommender.recommend(request("reader")).await?;
        Ok(!ids(&answer).contains(&"space-new") && recommender.item("space-new").is_none())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_clicked_trends() -> Result<()> {
    let (stack, recommender) = Stack::with_sixty_items("").await?;
    stack.publish_stats(&stats("chess-07", 1, 100, 90)).await?;
    until("the clicked item stands first", async || {
        let answer = recommender.recommend(request("nobody")).await?;
        Ok(ids(&answer).first() == Some(&"chess-07"))
    })
    .await?;
    // A writer that was thought dead writes late; another item is clicked more.
    let mut late = stats("chess-07", 1, 1_000, 999);
    late.epoch = 0;
    stack.publish_stats(&late).await?;
    stack.publish_stats(&stats("space-02", 1, 100, 99)).await?;
    let mut totals = stats("*@0", 1, 10_000, 100);
    totals.revision = 3;
    stack.publish_stats(&totals).await?;
    until("the other item stands first", async || {
        let answer = recommender.recommend(request("nobody")).await?;
        Ok(ids(&answer).first() == Some(&"space-02"))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_reads_everything_again_and_leaves_out_what_it_can_not_read() -> Result<()> {
    let (stack, recommender) = Stack::with_sixty_items("").await?;
    let mut other = item(CHESS, 1);
    other.item_id = "of-another-model".to_owned();
    other.model_version = "model-2".to_owned();
    stack.publish_signal(&other).await?;
    stack
        .publish_raw(millrace_schemas::Signal::TOPIC, "x@test-1", Some(b"?"))
        .await?;
    stack
        .publish_raw(millrace_schemas::ItemStats::TOPIC, "x", Some(b"?"))
        .await?;
    // The last record of an item went from the compacted topic.
    let key = item(CHESS, 1).key();
    let partition_key = item(CHESS, 1).item_id;
    stack
        .producer
        .send_raw(millrace_kafka::RawRecord {
            topic: stack.kafka.topic(millrace_schemas::Signal::TOPIC),
            key: Some(key.into_bytes().into()),
            partition_key: Some(partition_key.into_bytes().into()),
            ..millrace_kafka::RawRecord::default()
        })
        .await?;
    let restarted = stack.recommender("").await?;
    let catalog = restarted.stats().catalog;
    assert_eq!((catalog.items, catalog.signals), (59, 60));
    assert_eq!((catalog.other_models, catalog.unreadable), (1, 2));
    assert!(catalog.ready && catalog.bytes > 10_000);
    assert!(restarted.item("of-another-model").is_none());
    until("the running one has read the same", async || {
        let catalog = recommender.stats().catalog;
        Ok(catalog.items == 59 && catalog.unreadable == 2 && catalog.other_models == 1)
    })
    .await
}
