//! `kill -9`, with real processes.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use millrace_kafka::KafkaConfig;
use millrace_state::EmbeddedState;

use crate::profiles::{clicks, ensure_all};
use crate::stack::{DEADLINE, Place, publish, start, until};

const FOLDER: &str = "MILLRACE_TEST_STATE_FOLDER";
const BOOTSTRAP: &str = "MILLRACE_TEST_PROFILES_BOOTSTRAP";
const PREFIX: &str = "MILLRACE_TEST_PROFILES_PREFIX";

/// Runs the ignored test below in a process of its own.
fn child(environment: &[(&str, &str)]) -> Result<Child> {
    let test = "crash::child_applies_until_killed";
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

/// A stable member: after a kill it has its partitions back at once.
fn member(kafka: &KafkaConfig) -> KafkaConfig {
    KafkaConfig {
        group_instance_id: Some("one".to_owned()),
        ..kafka.clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_applies_nothing_twice_and_loses_nothing() -> Result<()> {
    const ROUNDS: usize = 3;
    const A_ROUND: usize = 1_000;
    let mut place = Place::embedded()?;
    place.with_topics().await?;
    let producer = place.producer()?;
    let folder = place.state_folder();
    let environment = [
        (FOLDER, folder.to_str().context("a path of text")?),
        (BOOTSTRAP, place.kafka.bootstrap.as_str()),
        (PREFIX, place.kafka.topic_prefix.as_str()),
    ];
    let feedback = clicks(0..ROUNDS * A_ROUND);
    for round in feedback.chunks(A_ROUND) {
        let mut child = child(&environment)?;
        publish(&producer, round).await?;
        // SIGKILL, somewhere in one of the next writes.
        let waited = wait_for(&mut child, "applied", 50);
        child.kill()?;
        child.wait()?;
        waited?;
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
    let kafka = KafkaConfig {
        bootstrap: variable(BOOTSTRAP)?,
        topic_prefix: variable(PREFIX)?,
        ..KafkaConfig::default()
    };
    let state = EmbeddedState::open(variable(FOLDER)?.as_ref())?;
    let handle = start(&member(&kafka), Arc::new(state)).await?;
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
