//! A run whose process is killed, and one whose disk is full: with real processes.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use candle_core::Device;
use millrace_training::dataset::Dataset;
use millrace_training::{Run, TrainingOptions, train};

use crate::running::run;
use crate::small;

const FOLDER: &str = "MILLRACE_TEST_TRAINING_FOLDER";
const RESUME: &str = "MILLRACE_TEST_TRAINING_RESUME";

/// Runs the ignored test below in a process of its own, with `before` in the shell that starts it.
fn child(folder: &Path, before: &str, resume: bool) -> Result<Child> {
    let mut command = Command::new("bash");
    command
        .arg("-c")
        .arg(format!("{before} exec \"$0\" \"$@\""))
        .arg(std::env::current_exe()?)
        .args(["--exact", "crash::child_trains", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if resume {
        command.env(RESUME, "1");
    }
    Ok(command.spawn()?)
}

fn options() -> TrainingOptions {
    TrainingOptions {
        checkpoint_every: 1,
        ..small::options()
    }
}

/// A folder with a model, `base`, and a dataset, `data`.
async fn work() -> Result<tempfile::TempDir> {
    let work = tempfile::tempdir()?;
    small::write_model(&work.path().join("base"))?;
    small::dataset(&work.path().join("data"), 0.2).await?;
    Ok(work)
}

#[tokio::test]
async fn kill_9_changes_nothing_of_the_result() -> Result<()> {
    let work = work().await?;
    let (base, data) = (work.path().join("base"), work.path().join("data"));
    let whole = work.path().join("whole/model");
    let expected = run(&base, &data, &whole, &options(), false)?;

    for (killed_at, resume) in [(3, false), (7, true), (12, true)] {
        let mut child = child(work.path(), "", resume)?;
        let lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let wanted = format!("step {killed_at} ");
        let mut reached = false;
        for line in lines {
            // Harness and test write to one line now and then.
            if line?.contains(&wanted) {
                reached = true;
                break;
            }
        }
        // SIGKILL, somewhere between this step's checkpoint and the next.
        child.kill()?;
        child.wait()?;
        assert!(reached, "the child ended before step {killed_at}");
    }
    let cut = work.path().join("cut/model");
    let resumed = run(&base, &data, &cut, &options(), true)?;
    assert_eq!(resumed.model_version, expected.model_version);
    Ok(())
}

#[tokio::test]
async fn a_full_disk_leaves_the_checkpoint_before() -> Result<()> {
    let work = work().await?;
    let (base, data) = (work.path().join("base"), work.path().join("data"));
    let cut = work.path().join("cut/model");
    // No file may grow beyond 16 KiB: a checkpoint of some 80 KiB can't be written.
    let output = child(work.path(), "trap '' XFSZ; ulimit -f 16;", false)?.wait_with_output()?;
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("failed to write the checkpoint"), "{said}");
    assert!(said.contains("go on with --resume"), "{said}");
    let names: Vec<PathBuf> = std::fs::read_dir(&cut)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    assert!(
        names
            .iter()
            .all(|path| !path.to_string_lossy().contains("safetensors")),
        "{names:?}"
    );

    // With a checkpoint before: it stays, and the run goes on from it.
    let mut first = child(work.path(), "", false)?;
    let lines = BufReader::new(first.stdout.take().context("no output")?).lines();
    for line in lines {
        if line?.contains("step 5 ") {
            break;
        }
    }
    first.kill()?;
    first.wait()?;
    let before = std::fs::read(cut.join("checkpoint.safetensors"))?;
    let output = child(work.path(), "trap '' XFSZ; ulimit -f 16;", true)?.wait_with_output()?;
    assert!(!output.status.success());
    assert_eq!(std::fs::read(cut.join("checkpoint.safetensors"))?, before);
    run(&base, &data, &cut, &options(), true)?;
    Ok(())
}

#[test]
#[ignore = "run as a child process by the tests above"]
fn child_trains() -> Result<()> {
    let folder = std::env::var_os(FOLDER).with_context(|| format!("{FOLDER} is not set"))?;
    let folder = PathBuf::from(folder);
    let dataset = Dataset::read(&folder.join("data"))?;
    let run = Run {
        base: &folder.join("base"),
        dataset: &dataset,
        out: &folder.join("cut/model"),
        options: &options(),
        device: &Device::Cpu,
        resume: std::env::var_os(RESUME).is_some(),
    };
    let result = train(&run, &mut |step| {
        println!("step {} of {}", step.done, step.steps);
        let _ = std::io::stdout().flush();
    });
    if let Err(error) = result {
        anyhow::bail!("{error}");
    }
    Ok(())
}
