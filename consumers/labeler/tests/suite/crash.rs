//! `kill -9`, with real processes.

use std::io::Write as _;

use anyhow::{Result, ensure};
use millrace_stateful::testing::{Child, DEADLINE, Place, member, of_parent, until};

use crate::stack::{answer, click, latest, publish_answer, publish_click, start};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_loses_no_click_and_counts_none_twice() -> Result<()> {
    const ROUNDS: usize = 3;
    const ANSWERS: usize = 40;
    let mut place = Place::embedded()?;
    place.with_topics().await?;
    let producer = place.producer()?;
    for round in 0..ROUNDS {
        let child = Child::start("crash::child_labels_until_killed", &place)?;
        // Each round has answers of its own, and late clicks on those of the rounds before.
        for number in 0..ANSWERS {
            publish_answer(&producer, &answer(&format!("{round}-{number}"), 100)).await?;
            for of in 0..=round {
                let id = format!("{round}-{of}-{number}");
                let click = click(&id, &format!("{of}-{number}"), number % 3 + 1, 90);
                publish_click(&producer, &click).await?;
                publish_click(&producer, &click).await?;
            }
        }
        // SIGKILL, somewhere in one of the next writes.
        child.kill_once("counted", 10)?;
    }
    // The last one finishes what is left.
    let labeler = start(&member(&place.kafka), place.state().await?).await?;
    labeler.end_of_input().await?;
    let latest = latest(&place).await?;
    ensure!(latest.len() == ROUNDS * ANSWERS, "{}", latest.len());
    for round in 0..ROUNDS {
        for number in 0..ANSWERS {
            let example = &latest[&format!("{round}-{number}")];
            let expected = i32::try_from(ROUNDS - round)?;
            let clicks = example.items[number % 3].clicks;
            ensure!(
                clicks == expected && example.revision == expected + 1,
                "{example:?}"
            );
        }
    }
    labeler.shutdown(DEADLINE).await;
    drop(labeler);
    place.stop_broker();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run as a child process by the test above"]
async fn child_labels_until_killed() -> Result<()> {
    let (kafka, state) = of_parent()?;
    let labeler = start(&kafka, state).await?;
    let mut told = 0;
    loop {
        let counted = || labeler.stats().clicks.counted;
        until("more is counted", async || Ok(counted() > told)).await?;
        told = counted();
        println!("counted {told}");
        std::io::stdout().flush()?;
    }
}
