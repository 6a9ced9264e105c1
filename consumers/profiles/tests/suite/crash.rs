//! `kill -9`, with real processes.

use std::io::Write as _;

use anyhow::{Result, ensure};
use millrace_stateful::testing::{Child, DEADLINE, Place, member, of_parent, until};

use crate::profiles::{clicks, ensure_all};
use crate::stack::{publish, start};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_applies_nothing_twice_and_loses_nothing() -> Result<()> {
    const ROUNDS: usize = 3;
    const A_ROUND: usize = 1_000;
    let mut place = Place::embedded()?;
    place.with_topics().await?;
    let producer = place.producer()?;
    let feedback = clicks(0..ROUNDS * A_ROUND);
    for round in feedback.chunks(A_ROUND) {
        let child = Child::start("crash::child_applies_until_killed", &place)?;
        publish(&producer, round).await?;
        // SIGKILL, somewhere in one of the next writes.
        child.kill_once("applied", 50)?;
    }
    // The last one finishes what is left.
    let handle = start(&member(&place.kafka), place.state().await?).await?;
    handle.end_of_input().await?;
    ensure_all(&handle.reader(), &feedback).await?;
    ensure!(handle.stats().duplicates == 0, "{:?}", handle.stats());
    handle.shutdown(DEADLINE).await;
    drop(handle);
    place.stop_broker();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run as a child process by the test above"]
async fn child_applies_until_killed() -> Result<()> {
    let (kafka, state) = of_parent()?;
    let handle = start(&kafka, state).await?;
    let mut told = 0;
    loop {
        until(
            "more is applied",
            async || Ok(handle.stats().applied > told),
        )
        .await?;
        told = handle.stats().applied;
        println!("applied {told}");
        std::io::stdout().flush()?;
    }
}
