//! The embedded index when its process is killed and when the disk is full: with real processes.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use millrace_index::{BulkAction, EmbeddedIndex, ItemOutcome, Record, SearchIndex};

use crate::conformance::{chunk, spec, text_query};

const FOLDER: &str = "MILLRACE_TEST_INDEX_FOLDER";
const BATCH: usize = 20;

/// Runs one of the ignored tests below in a process of its own, through `shell` where given.
fn child(test: &str, folder: &std::path::Path, shell: Option<&str>) -> anyhow::Result<Child> {
    let program = std::env::current_exe()?;
    let mut command = match shell {
        None => Command::new(&program),
        Some(before) => {
            let mut shell = Command::new("bash");
            shell
                .arg("-c")
                .arg(format!("{before} exec \"$0\" \"$@\""))
                .arg(&program);
            shell
        }
    };
    command
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    Ok(command.spawn()?)
}

fn batch(number: usize) -> Vec<Record> {
    let vector = [1.0, number as f32 / 100.0, 0.5];
    (0..BATCH)
        .map(|i| chunk(&format!("{number}-{i}"), 0, 1, "flutter", vector))
        .collect()
}

async fn open(folder: &std::path::Path) -> anyhow::Result<EmbeddedIndex> {
    let index = EmbeddedIndex::open(folder)?;
    index.ensure(&spec("documents".into(), 3)).await?;
    Ok(index)
}

async fn write(index: &EmbeddedIndex, records: Vec<Record>) -> anyhow::Result<Vec<ItemOutcome>> {
    Ok(index
        .bulk(records.into_iter().map(BulkAction::upsert).collect())
        .await?)
}

fn folder_of_the_parent() -> anyhow::Result<std::path::PathBuf> {
    let folder = std::env::var_os(FOLDER).with_context(|| format!("{FOLDER} is not set"))?;
    Ok(folder.into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_loses_no_acknowledged_write() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut acknowledged = 0;
    for round in 1..=5 {
        let mut writer = child("crash::child_writes_until_killed", folder.path(), None)?;
        let lines = BufReader::new(writer.stdout.take().context("no output")?).lines();
        let enough = acknowledged + 2 * round;
        for line in lines {
            if let Some((_, number)) = line?.split_once("acknowledged ") {
                acknowledged = number.trim().parse::<usize>()? + 1;
            }
            if acknowledged >= enough {
                break;
            }
        }
        // SIGKILL, somewhere in the next batch.
        writer.kill()?;
        writer.wait()?;
        anyhow::ensure!(acknowledged >= enough, "the child ended by itself");

        let index = open(folder.path()).await?;
        for number in 0..acknowledged {
            let ids: Vec<String> = batch(number).into_iter().map(|record| record.id).collect();
            let found = index.fetch(&ids, true).await?;
            anyhow::ensure!(
                found.iter().flatten().eq(batch(number).iter()),
                "batch {number} is not as it was acknowledged"
            );
        }
        // Whatever came after is there whole or not at all, and the mirror agrees with the disk.
        let chunks = index.count().await?.chunks as usize;
        anyhow::ensure!(chunks >= acknowledged * BATCH && chunks.is_multiple_of(BATCH));
        acknowledged = chunks / BATCH;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run as a child process by the test above"]
async fn child_writes_until_killed() -> anyhow::Result<()> {
    let index = open(&folder_of_the_parent()?).await?;
    for number in index.count().await?.chunks as usize / BATCH.. {
        let outcomes = write(&index, batch(number)).await?;
        anyhow::ensure!(
            outcomes.iter().all(|o| *o == ItemOutcome::Indexed),
            "{outcomes:?}"
        );
        println!("acknowledged {number}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_was_cut_off_can_be_made_again() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let index = open(folder.path()).await?;
    write(&index, batch(0)).await?;
    drop(index);
    let meta = folder.path().join("documents-000001/meta.json");
    let before = std::fs::read(&meta)?;
    // Replacing a record deletes it in its segment, which takes a file beside it.
    let again = || vec![batch(0).swap_remove(0)];
    let index = open(folder.path()).await?;
    write(&index, again()).await?;
    drop(index);
    // Killed before the meta file that names the new files was in place.
    std::fs::write(&meta, before)?;
    let index = open(folder.path()).await?;
    let outcomes = write(&index, again()).await?;
    anyhow::ensure!(outcomes == [ItemOutcome::Indexed], "{outcomes:?}");
    anyhow::ensure!(index.count().await?.chunks as usize == BATCH);
    Ok(())
}

/// More text than the limit on the size of a file lets through.
fn large() -> Record {
    let words = (0..300_000_u64).map(|i| format!("w{:x} ", i.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
    chunk("large", 0, 1, &words.collect::<String>(), [0.0, 1.0, 0.0])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_halts_keeps_what_was_there_and_recovers_by_itself() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    // A limit on the size of files stands for the disk's: writes beyond it fail, with an error
    // instead of the signal that they would bring.
    let limited = "trap '' XFSZ; ulimit -S -f 400;";
    let test = "crash::child_meets_a_full_disk";
    let mut writer = child(test, folder.path(), Some(limited))?;
    let mut lines = BufReader::new(writer.stdout.take().context("no output")?).lines();
    let mut wait_for = |wanted: &str| -> anyhow::Result<()> {
        for line in lines.by_ref() {
            if line?.contains(wanted) {
                return Ok(());
            }
        }
        anyhow::bail!("the child ended before it said {wanted:?}")
    };
    wait_for("halted")?;
    let pid = writer.id().to_string();
    let raised = Command::new("prlimit")
        .args(["--pid", &pid, "--fsize=unlimited"])
        .status()?;
    anyhow::ensure!(raised.success());
    writer
        .stdin
        .take()
        .context("no input")?
        .write_all(b"go on\n")?;
    wait_for("recovered")?;
    let status = writer.wait()?;
    anyhow::ensure!(status.success(), "{status}");
    let index = open(folder.path()).await?;
    assert_eq!(index.count().await?.chunks as usize, BATCH + 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run as a child process by the test above"]
async fn child_meets_a_full_disk() -> anyhow::Result<()> {
    let index = open(&folder_of_the_parent()?).await?;
    let first = write(&index, batch(0)).await?;
    anyhow::ensure!(
        first.iter().all(|o| *o == ItemOutcome::Indexed),
        "{first:?}"
    );
    let full = write(&index, vec![large()]).await?;
    anyhow::ensure!(matches!(&full[..], [ItemOutcome::Halt(_)]), "{full:?}");
    // Store and mirror are as before: the failed record is in neither.
    anyhow::ensure!(index.count().await?.chunks as usize == BATCH);
    anyhow::ensure!(index.get(&["large#0".to_owned()]).await? == [None]);
    anyhow::ensure!(index.search(&text_query("flutter")).await?.len() == 10);
    println!("halted: {full:?}");
    std::io::stdout().flush()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let again = write(&index, vec![large()]).await?;
    anyhow::ensure!(again == [ItemOutcome::Indexed], "{again:?}");
    anyhow::ensure!(index.count().await?.chunks as usize == BATCH + 1);
    println!("recovered");
    Ok(())
}
