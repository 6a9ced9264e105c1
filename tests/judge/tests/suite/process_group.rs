//! Nothing that a run started outlives it, however it ends.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::ensure;
use millrace_judge::target::process_group::ProcessGroup;

const SIGKILL: i32 = 9;

/// It is there while its standard input is (waiting for it ends that), with `folder` on its command
/// line as a Kafka has it.
fn lasting(folder: &Path) -> Command {
    let mut command = Command::new("cat");
    command.arg("-").arg(folder).stdin(Stdio::piped());
    command
}

/// As `infra/servers/servers` does once it has started one.
fn note_kafka(run: &Path, kafka: &Child) -> std::io::Result<()> {
    std::fs::create_dir_all(run.join("servers/kafka"))?;
    std::fs::write(run.join("servers/kafka/pid"), format!("{}\n", kafka.id()))
}

#[test]
fn a_group_that_is_over_takes_its_processes_and_its_kafka_with_it() -> anyhow::Result<()> {
    let run = tempfile::tempdir()?;
    let other = tempfile::tempdir()?;
    let group = ProcessGroup::begin(run.path())?;
    let mut member = lasting(run.path()).process_group(group.id().0).spawn()?;
    // In a group of its own, as Kafka is; known by its pid alone.
    let mut kafka = lasting(run.path()).process_group(0).spawn()?;
    let mut foreign = lasting(other.path()).process_group(0).spawn()?;
    note_kafka(run.path(), &kafka)?;
    ensure!(member.try_wait()?.is_none(), "it runs while the group does");

    drop(group);

    assert_eq!(member.wait()?.signal(), Some(SIGKILL));
    assert_eq!(kafka.wait()?.signal(), Some(SIGKILL));
    assert!(foreign.try_wait()?.is_none(), "of another run");
    foreign.wait()?;
    Ok(())
}

/// The pid of a Kafka that has ended may be another process's by now.
#[test]
fn a_pid_of_another_process_is_left_alone() -> anyhow::Result<()> {
    let run = tempfile::tempdir()?;
    let other = tempfile::tempdir()?;
    let group = ProcessGroup::begin(run.path())?;
    let mut member = lasting(run.path()).process_group(group.id().0).spawn()?;
    let mut foreign = lasting(other.path()).process_group(0).spawn()?;
    note_kafka(run.path(), &foreign)?;

    drop(group);

    assert_eq!(member.wait()?.signal(), Some(SIGKILL));
    assert!(foreign.try_wait()?.is_none(), "it is not of this run");
    foreign.wait()?;
    Ok(())
}
