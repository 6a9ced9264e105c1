//! Writes that there is no room for.

use std::process::Command;

use anyhow::{Result, bail, ensure};
use rdkafka::consumer::Consumer;

use super::{Process, start};
use crate::client::{DEADLINE, Target, read};
use crate::raw::{Raw, RawRecord, batch};

const KAFKA_STORAGE_ERROR: i16 = 56;

/// Appends a record of `value` until it is refused: how many were not, and the code of the refusal.
fn append_until_refused(
    raw: &mut Raw,
    topic: &str,
    producer: (i64, i16),
    value: &str,
) -> Result<(i32, i16)> {
    for sequence in 0..100 {
        let (code, offset) = append(raw, topic, producer, sequence, value)?;
        if code != 0 {
            return Ok((sequence, code));
        }
        ensure!(offset == i64::from(sequence));
    }
    bail!("the limit has no effect")
}

fn append(
    raw: &mut Raw,
    topic: &str,
    producer: (i64, i16),
    sequence: i32,
    value: &str,
) -> Result<(i16, i64)> {
    let record = RawRecord {
        key: Some(b"k"),
        value: Some(value.as_bytes()),
        headers: &[],
    };
    raw.produce(topic, &batch(&[record], producer, sequence, 0))
}

#[test]
fn a_limit_on_what_is_stored_refuses_writes_until_it_is_lifted() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (broker, target) = start(dir.path())?;
    let topic = target.topic("full", 1, &[])?;
    let mut raw = Raw::connect(&target.bootstrap)?;
    let producer = raw.new_producer()?;
    let value = "x".repeat(1000);
    broker.set_storage_limit(Some(broker.stored_bytes() + 5000));
    let (acknowledged, refused) = append_until_refused(&mut raw, &topic, producer, &value)?;
    ensure!(
        refused == KAFKA_STORAGE_ERROR && acknowledged == 4,
        "KAFKA_STORAGE_ERROR after 4, not {refused} after {acknowledged}"
    );
    broker.set_storage_limit(None);
    let again = append(&mut raw, &topic, producer, acknowledged, &value)?;
    ensure!(again == (0, 4), "{again:?}");
    broker.stop();
    let (_broker, target) = start(dir.path())?;
    ensure!(
        target
            .consumer("any", &[])?
            .fetch_watermarks(&topic, 0, DEADLINE)?
            == (0, 5)
    );
    Ok(())
}

#[test]
fn a_full_disk_loses_nothing_acknowledged_and_is_written_to_again_once_it_has_room() -> Result<()> {
    let dir = tempfile::tempdir()?;
    // A limit on the size of files stands for the disk's: writes beyond it are cut short and then
    // fail, with an error instead of the signal that they would bring.
    let limited = "trap '' XFSZ; ulimit -S -f 400;";
    let process = Process::start_after(limited, dir.path())?;
    let target = Target::at(process.bootstrap.clone());
    let topic = target.topic("full", 1, &[])?;
    let mut raw = Raw::connect(&target.bootstrap)?;
    let producer = raw.new_producer()?;
    let value = "x".repeat(30_000);
    let (acknowledged, refused) = append_until_refused(&mut raw, &topic, producer, &value)?;
    ensure!(
        refused == KAFKA_STORAGE_ERROR && acknowledged > 0,
        "{refused} after {acknowledged}"
    );
    // Refused again, and what was acknowledged is read meanwhile.
    let again = append(&mut raw, &topic, producer, acknowledged, &value)?;
    ensure!(again.0 == KAFKA_STORAGE_ERROR, "{again:?}");
    let count = usize::try_from(acknowledged)?;
    let seen = read(&target.reader(&topic, 0, &[])?, count)?;
    ensure!(seen.iter().all(|record| record.payload == value));

    let pid = process.child.id().to_string();
    let raised = Command::new("prlimit")
        .args(["--pid", &pid, "--fsize=unlimited"])
        .status()?;
    ensure!(raised.success());
    let written = append(&mut raw, &topic, producer, acknowledged, &value)?;
    ensure!(written == (0, i64::from(acknowledged)), "{written:?}");

    process.kill()?;
    let (_broker, target) = start(dir.path())?;
    let all = i64::from(acknowledged) + 1;
    let kept = target
        .consumer("any", &[])?
        .fetch_watermarks(&topic, 0, DEADLINE)?;
    ensure!(kept == (0, all), "{kept:?} of {all}");
    let seen = read(&target.reader(&topic, 0, &[])?, count + 1)?;
    ensure!(seen.iter().all(|record| record.payload == value));
    Ok(())
}
