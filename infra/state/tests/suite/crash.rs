//! `kill -9`, with real processes.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use millrace_state::{Change, Claim, EmbeddedState, Position, Shard, StateStore, Table};

const FOLDER: &str = "MILLRACE_TEST_STATE_FOLDER";
const COUNTS: Table = Table::new("counts");
const ITEMS: Table = Table::new("items");
const SHARD: Shard = Shard {
    generation: 1,
    partition: 0,
};

/// Runs the ignored test below in a process of its own.
fn writer(folder: &Path) -> Result<Child> {
    let test = "crash::child_commits_until_killed";
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(FOLDER, folder)
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

async fn value(state: &EmbeddedState, key: &[u8]) -> Result<Option<i64>> {
    let found = state.get(SHARD, vec![(COUNTS, key.to_vec())]).await?;
    let value = found.into_iter().next().flatten();
    Ok(value.map(|value| i64::from_be_bytes(value.as_ref().try_into().unwrap())))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_leaves_state_and_offset_of_the_same_commit() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut acknowledged = 0;
    for round in 1..=3 {
        let mut writer = writer(folder.path())?;
        acknowledged += 40 * round;
        let waited = wait_for(&mut writer, "acknowledged", acknowledged);
        // SIGKILL, somewhere in one of the next commits.
        writer.kill()?;
        writer.wait()?;
        waited?;
        let state = EmbeddedState::open(folder.path())?;
        let position = state.claim(SHARD).await?.position;
        let stands = position.get("up").context("a position")?;
        ensure!(
            stands >= i64::try_from(acknowledged)?,
            "{stands} of {acknowledged}"
        );
        // Each commit writes the same number into many keys of several tables.
        for key in 0..20_u8 {
            ensure!(
                value(&state, &[key]).await? == Some(stands),
                "{key} at {stands}"
            );
        }
        ensure!(position.get("down") == Some(-stands), "{position:?}");
        acknowledged = stands.unsigned_abs();
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run as a child process by the test above"]
async fn child_commits_until_killed() -> Result<()> {
    let state = EmbeddedState::open(Path::new(&std::env::var(FOLDER)?))?;
    let mut claim = state.claim(SHARD).await?;
    for number in claim.position.get("up").unwrap_or(0) + 1.. {
        let change = |key: u8| Change {
            table: COUNTS,
            key: vec![key],
            value: Some(number.to_be_bytes().to_vec()),
        };
        // Large enough that journals and tables are written in between.
        let ballast = Change {
            table: ITEMS,
            key: number.to_be_bytes().to_vec(),
            value: Some(vec![7; 20_000]),
        };
        let next = Position::default().with("up", number).with("down", -number);
        let changes = (0..20).map(change).chain([ballast]).collect();
        state.commit(SHARD, &claim, &next, changes).await?;
        claim = Claim {
            position: next,
            epoch: claim.epoch,
        };
        println!("acknowledged {number}");
        std::io::stdout().flush()?;
    }
    Ok(())
}
