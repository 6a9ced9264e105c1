//! `kill -9`, with real processes: a test that runs an ignored one of its own binary.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use millrace_kafka::KafkaConfig;
use millrace_state::{EmbeddedState, StateStore};

use super::Place;

const FOLDER: &str = "MILLRACE_TEST_STATE_FOLDER";
const BOOTSTRAP: &str = "MILLRACE_TEST_BOOTSTRAP";
const PREFIX: &str = "MILLRACE_TEST_TOPIC_PREFIX";

/// A process that works on a place's brokers and state folder.
pub struct Child(std::process::Child);

impl Child {
    /// Runs the ignored test `test`, which finds them by [`of_parent`].
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(test: &str, place: &Place) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["--exact", test, "--ignored", "--nocapture"])
            .env(FOLDER, place.state_folder())
            .env(BOOTSTRAP, &place.kafka.bootstrap)
            .env(PREFIX, &place.kafka.topic_prefix)
            .stdout(Stdio::piped());
        Ok(Self(command.spawn()?))
    }

    /// Reads its lines until one holds a number of at least `enough` after `word`, then kills it.
    ///
    /// # Errors
    /// It ended before.
    pub fn kill_once(mut self, word: &str, enough: u64) -> Result<()> {
        let waited = self.wait_for(word, enough);
        self.0.kill()?;
        self.0.wait()?;
        waited
    }

    fn wait_for(&mut self, word: &str, enough: u64) -> Result<()> {
        let lines = BufReader::new(self.0.stdout.take().context("no output")?).lines();
        for line in lines {
            if let Some((_, number)) = line?.split_once(word)
                && number.trim().parse::<u64>()? >= enough
            {
                return Ok(());
            }
        }
        anyhow::bail!("the child ended before it said {word:?} {enough}")
    }
}

/// In the child: its parent's brokers and state.
///
/// # Errors
/// There is no parent, or the state is not free.
pub fn of_parent() -> Result<(KafkaConfig, Arc<dyn StateStore>)> {
    let variable = |name| std::env::var(name).with_context(|| format!("{name} is not set"));
    let kafka = KafkaConfig {
        bootstrap: variable(BOOTSTRAP)?,
        topic_prefix: variable(PREFIX)?,
        ..KafkaConfig::default()
    };
    let state = EmbeddedState::open(variable(FOLDER)?.as_ref())?;
    Ok((member(&kafka), Arc::new(state)))
}

/// A stable member: after a kill it has its partitions back at once.
#[must_use]
pub fn member(kafka: &KafkaConfig) -> KafkaConfig {
    KafkaConfig {
        group_instance_id: Some("one".to_owned()),
        ..kafka.clone()
    }
}
