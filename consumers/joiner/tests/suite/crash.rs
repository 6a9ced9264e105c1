//! `kill -9`, with real processes.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use millrace_kafka::KafkaConfig;
use millrace_schemas::BehaviorKind;
use millrace_state::EmbeddedState;

use crate::stack::{
    DEADLINE, Place, event, item_id, publish, publish_signal, signal, start, until,
};

const FOLDER: &str = "MILLRACE_TEST_STATE_FOLDER";
const BOOTSTRAP: &str = "MILLRACE_TEST_JOINER_BOOTSTRAP";
const PREFIX: &str = "MILLRACE_TEST_JOINER_PREFIX";

/// Runs one of the ignored tests below in a process of its own.
fn child(test: &str, environment: &[(&str, &str)]) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["--exact", test, "--ignored", "--nocapture"])
        .envs(environment.iter().copied())
        .stdout(Stdio::piped());
    Ok(command.spawn()?)
}

/// Reads the child's lines until one holds a number of at least `enough` after `word`.
fn wait_for(child: &mut Child, word: &str, enough: u64) -> Result<()> {
    let lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    for line in lines {
        if let Some((_, number)) = line?.split_once(word)
            && number.trim().parse::<u64>()? >= enough
        {
            return Ok(());
        }
    }
    anyhow::bail!("the child ended before it said {word:?} {enough}")
}

fn variable(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_of_the_joiner_counts_nothing_twice_and_loses_nothing() -> Result<()> {
    const ITEMS: usize = 25;
    const ROUNDS: usize = 3;
    const A_ROUND: usize = 1_500;
    let mut place = Place::embedded()?;
    place.with_topics().await?;
    let producer = place.producer()?;
    let folder = place.state_folder();
    let folder = folder.to_str().context("a path of text")?;
    let environment = [
        (FOLDER, folder),
        (BOOTSTRAP, place.kafka.bootstrap.as_str()),
        (PREFIX, place.kafka.topic_prefix.as_str()),
    ];
    for round in 0..ROUNDS {
        let mut joiner = child("crash::child_joins_until_killed", &environment)?;
        // Some signals come after their behavior.
        for item in (0..ITEMS).filter(|item| item % ROUNDS == round) {
            publish_signal(&producer, &signal(item, 1)).await?;
        }
        let ids = round * A_ROUND..(round + 1) * A_ROUND;
        let events: Vec<_> = ids
            .map(|id| event(&id, id % ITEMS, BehaviorKind::Click))
            .collect();
        publish(&producer, &events).await?;
        let waited = wait_for(&mut joiner, "joined", 50);
        joiner.kill()?;
        joiner.wait()?;
        waited?;
    }
    // The last one finishes what is left.
    let joiner = start(&member(&place.kafka), place.state().await?).await?;
    joiner.end_of_input().await?;
    let feedback = place.feedback().await?;
    ensure!(
        feedback.len() == ROUNDS * A_ROUND,
        "{} origins",
        feedback.len()
    );
    let stats = place.stats().await?;
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

/// A stable member: after a kill it has its partitions back at once.
fn member(kafka: &KafkaConfig) -> KafkaConfig {
    KafkaConfig {
        group_instance_id: Some("one".to_owned()),
        ..kafka.clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run as a child process by the test above"]
async fn child_joins_until_killed() -> Result<()> {
    let kafka = KafkaConfig {
        bootstrap: variable(BOOTSTRAP)?,
        topic_prefix: variable(PREFIX)?,
        ..KafkaConfig::default()
    };
    let state = EmbeddedState::open(variable(FOLDER)?.as_ref())?;
    let joiner = start(&member(&kafka), Arc::new(state)).await?;
    let mut told = 0;
    loop {
        until("more is joined", async || Ok(joiner.stats().joined > told)).await?;
        told = joiner.stats().joined;
        println!("joined {told}");
        std::io::stdout().flush()?;
    }
}
