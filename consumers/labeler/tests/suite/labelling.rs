//! The labeler from its topics to its topic.

use anyhow::{Context as _, Result, ensure};
use millrace_kafka::topics;
use millrace_labeler::{RunState, StartError};
use millrace_schemas::{Framing, encode};
use millrace_stateful::testing::{DEADLINE, Place, publish_raw, until};

use crate::stack::{answer, click, latest, publish, publish_answer, publish_click, start};

pub async fn an_answer_becomes_an_example_and_a_late_click_corrects_it(
    place: &Place,
) -> Result<()> {
    place.with_topics().await?;
    let producer = place.producer()?;
    let labeler = start(&place.kafka, place.state().await?).await?;
    let shown = answer("shown", 50);
    publish_answer(&producer, &shown).await?;
    // Doubled, as a recommender does that is not sure.
    publish_answer(&producer, &answer("shown", 1)).await?;
    publish_click(&producer, &click("one", "shown", 2, 45)).await?;
    publish_click(&producer, &click("one", "shown", 2, 45)).await?;
    publish_click(&producer, &click("outside", "shown", 1, 10)).await?;
    publish_click(&producer, &click("early", "unknown", 1, 45)).await?;
    labeler.end_of_input().await?;
    let example = latest(place).await?.remove("shown").context("a record")?;
    ensure!(example.revision == 2, "{example:?}");
    let clicks: Vec<i32> = example.items.iter().map(|item| item.clicks).collect();
    ensure!(clicks == [0, 1, 0], "{clicks:?}");
    let item = &example.items[1];
    ensure!(item.position == 2 && item.features[0].to_bits() == 0.25_f32.to_bits());
    ensure!(item.features[1].is_nan() && example.items[2].explored);
    ensure!(example.ranker_version == "custom_v1" && example.served_at_ms == shown.served_at_ms);
    ensure!(example.origin.topic == place.kafka.topic(topics::IMPRESSIONS));

    publish_click(&producer, &click("late", "shown", 2, 30)).await?;
    until("it is corrected", async || {
        Ok(latest(place).await?["shown"].revision == 3)
    })
    .await?;
    let records = place.records(topics::TRAINING).await?;
    ensure!(
        records
            .iter()
            .all(|record| record.key_text().as_deref() == Some("shown"))
    );
    // An answer that comes after its click, and after its window.
    publish_answer(&producer, &answer("unknown", 46)).await?;
    labeler.end_of_input().await?;
    ensure!(latest(place).await?["unknown"].items[0].clicks == 1);
    let stats = labeler.stats();
    ensure!(
        (stats.examples, stats.corrections, stats.repeated_answers) == (2, 1, 1),
        "{stats:?}"
    );
    let of = stats.clicks;
    ensure!(
        (of.counted, of.duplicates, of.outside) == (3, 1, 1),
        "{stats:?}"
    );
    ensure!(labeler.shutdown(DEADLINE).await.unfinished == 0);
    ensure!(*labeler.state().borrow() == RunState::Stopped);
    Ok(())
}

pub async fn what_cannot_be_read_is_a_dead_letter(place: &Place) -> Result<()> {
    place.with_topics().await?;
    let producer = place.producer()?;
    let labeler = start(&place.kafka, place.state().await?).await?;
    let (answers, clicks) = (topics::IMPRESSIONS, topics::BEHAVIOR_BY_REQUEST);
    publish_raw(&producer, answers, "r", Some(b"no answer".to_vec())).await?;
    publish(&producer, "another", &answer("r", 1)).await?;
    let mut infinite = answer("infinite", 1);
    infinite.items[0].features[0] = f32::INFINITY;
    publish_answer(&producer, &infinite).await?;
    publish_answer(&producer, &answer("future", -60)).await?;
    publish_raw(&producer, clicks, "r", None).await?;
    publish_click(&producer, &click("future", "r", 1, -60)).await?;
    let value = encode(&click("misplaced", "r", 1, 1), &Framing::SingleObject)?;
    publish_raw(&producer, clicks, "another", Some(value)).await?;
    publish_answer(&producer, &answer("good", 5)).await?;
    labeler.end_of_input().await?;
    let letters = place.dead_letters(answers).await?;
    let expected = [
        "event_time_in_future",
        "key_mismatch",
        "not_finite",
        "unknown_framing",
    ];
    ensure!(letters.keys().eq(expected.iter()), "{letters:?}");
    ensure!(letters["event_time_in_future"].contains("labeler.max_skew_ms"));
    let letters = place.dead_letters(clicks).await?;
    let expected = ["event_time_in_future", "key_mismatch", "no_value"];
    ensure!(letters.keys().eq(expected.iter()), "{letters:?}");
    ensure!(latest(place).await?.keys().eq(["good"].iter()));
    ensure!(labeler.stats().dead_lettered == 7, "{:?}", labeler.stats());
    Ok(())
}

pub async fn topics_that_are_not_partitioned_alike_are_refused(place: &Place) -> Result<()> {
    place.with_fewer_partitions(topics::IMPRESSIONS).await?;
    match start(&place.kafka, place.state().await?).await {
        Ok(_) => anyhow::bail!("it started"),
        Err(error @ StartError::NotCopartitioned { .. }) => {
            let message = error.to_string();
            ensure!(
                message.contains("6 partitions") && message.contains("has 3"),
                "{message}"
            );
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
