//! Topics replayed: counted, chosen, copied byte for byte, to files, into the index. What is killed or
//! stopped is in `replay_cut_off`.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use millrace_kafka::topics::TopicSpec;
use millrace_kafka::{
    Admin, Producer, RawRecord, ReadFrom, ReadUntil, Record, TopicReader, topics,
};
use serde_json::Value;

use crate::harness::{Pipeline, Target, on_both_targets, text};

/// A topic that nobody of ours reads.
pub const SOURCE: &str = topics::BEHAVIOR_UNMATCHED;
const HOSTILE: &[u8] = b"\xFF\x00\x1B[2J";

on_both_targets!(
    a_dry_run_counts_and_changes_nothing,
    a_copy_is_the_original_byte_for_byte,
    flags_choose_what_is_replayed,
    a_file_has_every_byte_and_is_there_when_it_is_whole,
    the_index_is_the_same_after_a_replay_to_it,
    what_retention_took_is_told,
);

/// Runs with a client of the topics, while no command runs.
fn topics_of<T>(
    pipeline: &Pipeline,
    work: impl AsyncFnOnce(millrace_kafka::KafkaConfig) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    pipeline.with_kafka(|kafka| tokio::runtime::Runtime::new()?.block_on(work(kafka)))
}

/// A pipeline whose topic has records of all kinds, minutes apart, and a topic `backfill` as wide.
pub fn seeded(target: Target, count: i64) -> anyhow::Result<Pipeline> {
    let pipeline = Pipeline::new(target)?;
    pipeline.json(&["topics", "create"])?;
    topics_of(&pipeline, async |kafka| {
        let declared = topics::declaration(SOURCE).context("it is declared")?;
        let backfill = TopicSpec {
            name: "backfill".to_owned(),
            ..declared.clone()
        };
        Admin::connect(&kafka)?.create_topic(&backfill).await?;
        let producer = Producer::connect(&kafka)?;
        let now_ms = jiff::Timestamp::now().as_millisecond();
        let mut waiting = Vec::new();
        for n in 0..count {
            let kind = if n % 2 == 0 { "even" } else { "odd" };
            let record = RawRecord {
                topic: kafka.topic(SOURCE),
                key: Some(format!("file:///srv/{kind}/{n}").into()),
                value: (n % 5 != 0).then(|| Bytes::from(format!("value {n}"))),
                headers: vec![
                    ("ce_type".to_owned(), Some(format!("test.{kind}").into())),
                    ("absent".to_owned(), None),
                    ("twice".to_owned(), Some(Bytes::from_static(HOSTILE))),
                    ("twice".to_owned(), Some(Bytes::new())),
                ],
                timestamp_ms: Some(now_ms - (count - n) * 60_000),
                partition_key: None,
            };
            waiting.push(producer.enqueue_raw(record).await?);
        }
        let hostile = RawRecord {
            topic: kafka.topic(SOURCE),
            key: Some(Bytes::from_static(HOSTILE)),
            value: Some(Bytes::from_static(HOSTILE)),
            timestamp_ms: Some(now_ms),
            ..RawRecord::default()
        };
        waiting.push(producer.enqueue_raw(hostile).await?);
        for record in waiting {
            record.acknowledged().await?;
        }
        Ok(())
    })?;
    Ok(pipeline)
}

pub fn all(pipeline: &Pipeline, topic: &str) -> anyhow::Result<Vec<Record>> {
    let mut records = topics_of(pipeline, async |kafka| {
        let (topic, from) = (kafka.topic(topic), ReadFrom::Beginning);
        let reader = TopicReader::open(&kafka, &topic, &from, ReadUntil::PresentEnd).await?;
        Ok(reader.collect().await?)
    })?;
    records.sort_by_key(|record| (record.partition, record.offset));
    Ok(records)
}

/// All of a record but where it stands.
pub fn content(record: &Record) -> (i32, Option<Bytes>, Option<Bytes>, Option<i64>, String) {
    (
        record.partition,
        record.key.clone(),
        record.value.clone(),
        record.timestamp_ms,
        format!("{:?}", record.headers),
    )
}

pub fn full(pipeline: &Pipeline, topic: &str) -> anyhow::Result<String> {
    pipeline.with_kafka(|kafka| Ok(kafka.topic(topic)))
}

/// Groups of this pipeline's replays that the brokers know; other tests' replays run beside it.
pub fn replay_groups(pipeline: &Pipeline) -> anyhow::Result<Vec<String>> {
    let lag = pipeline.json(&["lag", "--all", "--over", "0"])?;
    let groups = lag["groups"].as_array().into_iter().flatten();
    let names = groups.filter_map(|group| group["group"].as_str());
    let ours = format!("{}replay.", pipeline.topic_prefix());
    let replays = names.filter(|name| name.starts_with(&ours));
    Ok(replays.map(str::to_owned).collect())
}

pub fn lines(bytes: &[u8]) -> anyhow::Result<Vec<Value>> {
    let lines = std::str::from_utf8(bytes)?.lines();
    Ok(lines.map(serde_json::from_str).collect::<Result<_, _>>()?)
}

/// What goes to standard output with these flags.
fn printed(pipeline: &Pipeline, flags: &[&str]) -> anyhow::Result<Vec<Value>> {
    let output = pipeline.output(&[&["replay", SOURCE, "--to-file", "-"], flags].concat())?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{flags:?}: {stderr}");
    lines(&output.stdout)
}

pub fn places(lines: &[Value]) -> BTreeSet<(i64, i64)> {
    let number = |value: &Value| value.as_i64().unwrap_or(-1);
    let place = |line: &Value| (number(&line["partition"]), number(&line["offset"]));
    lines.iter().map(place).collect()
}

fn a_dry_run_counts_and_changes_nothing(target: Target) -> anyhow::Result<()> {
    let pipeline = seeded(target, 40)?;
    let before = pipeline.json(&["topics", "list"])?;
    let dry = pipeline.json(&["replay", SOURCE, "--dry-run"])?;
    ensure!(
        dry["records"] == 41 && dry["offsets"] == 41 && dry["dry_run"] == true,
        "{dry}"
    );
    let sum = |list: &str| {
        let list = dry[list].as_array().into_iter().flatten();
        list.filter_map(|it| it["records"].as_u64()).sum::<u64>()
    };
    ensure!(sum("partitions") == 41 && sum("times") == 41, "{dry}");
    ensure!(
        dry["prefixes"][0]["prefix"] == "file:///srv/even/" && dry["prefixes"][0]["records"] == 20,
        "{dry}"
    );
    let to = full(&pipeline, "backfill")?;
    let flags = ["--key", "/srv/odd", "--rate", "10/s", "--to-topic", &to];
    let dry = pipeline.json(&[&["replay", SOURCE, "--dry-run"], &flags[..]].concat())?;
    ensure!(
        dry["records"] == 20 && dry["estimated_seconds"].as_f64() >= Some(2.0),
        "{dry}"
    );
    ensure!(pipeline.json(&["topics", "list"])? == before);
    ensure!(replay_groups(&pipeline)?.is_empty());
    Ok(())
}

fn a_copy_is_the_original_byte_for_byte(target: Target) -> anyhow::Result<()> {
    let pipeline = seeded(target, 40)?;
    let to = full(&pipeline, "backfill")?;
    let done = pipeline.json(&["replay", SOURCE, "--to-topic", &to])?;
    ensure!(
        done["records"] == 41 && done["done"] == true && done["keeps_partitions"] == true,
        "{done}"
    );
    let (originals, copies) = (all(&pipeline, SOURCE)?, all(&pipeline, "backfill")?);
    ensure!(originals.len() == 41);
    let contents = |records: &[Record]| records.iter().map(content).collect::<Vec<_>>();
    ensure!(
        contents(&originals) == contents(&copies),
        "{originals:?}\n{copies:?}"
    );
    ensure!(replay_groups(&pipeline)?.is_empty(), "it is done");
    let audited = pipeline.json(&["peek", "audit"])?;
    let events = audited["records"].as_array().into_iter().flatten();
    let phases: BTreeSet<&str> = events
        .filter(|event| event["value"]["action"] == "replay")
        .filter_map(|event| event["value"]["phase"].as_str())
        .collect();
    ensure!(phases == BTreeSet::from(["begun", "done"]), "{audited}");

    let refused = |to: &str| {
        let output = pipeline.output(&["replay", SOURCE, "--to-topic", to])?;
        ensure!(output.status.code() == Some(2), "{to}");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let itself = refused(SOURCE)?;
    ensure!(itself.contains("to itself"), "{itself}");
    // Nobody can be asked here.
    let read = refused("impressions")?;
    ensure!(
        read.contains("the labeler") && read.contains("--yes"),
        "{read}"
    );
    ensure!(all(&pipeline, "impressions")?.is_empty());
    Ok(())
}

fn flags_choose_what_is_replayed(target: Target) -> anyhow::Result<()> {
    let pipeline = seeded(target, 40)?;
    let originals = all(&pipeline, SOURCE)?;
    let count = |flags: &[&str]| Ok::<_, anyhow::Error>(printed(&pipeline, flags)?.len());
    ensure!(count(&[])? == 41);
    ensure!(count(&["--key", "file:///srv/even/"])? == 20);
    ensure!(count(&["--type", "test.odd"])? == 20);
    ensure!(count(&["--type", "test.odd", "--type", "test.even"])? == 40);
    ensure!(count(&["--from", "10m"])? <= 11);
    ensure!(count(&["--to", "10m"])? >= 30);
    ensure!(count(&["--from", "20m", "--to", "10m", "--key", "/srv/odd"])? == 5);
    let last = originals.iter().max_by_key(|record| record.offset);
    let partition = last.context("there are some")?.partition;
    let of_partition = originals.iter().filter(|it| it.partition == partition);
    let number = partition.to_string();
    ensure!(count(&["--partition", &number])? == of_partition.count());
    let few = printed(
        &pipeline,
        &[
            "--partition",
            &number,
            "--from-offset",
            "1",
            "--to-offset",
            "3",
        ],
    )?;
    let partition = i64::from(partition);
    ensure!(places(&few) == BTreeSet::from([(partition, 1), (partition, 2)]));

    topics_of(&pipeline, async |kafka| {
        let producer = Producer::connect(&kafka)?;
        for key in ["a@m1", "a@m2", "b@m2"] {
            let record = RawRecord {
                topic: kafka.topic(topics::SIGNALS),
                key: Some(key.into()),
                ..RawRecord::default()
            };
            producer.send_raw(record).await?;
        }
        Ok(())
    })?;
    let dry = pipeline.json(&["replay", "signals", "--model", "m2", "--dry-run"])?;
    ensure!(dry["records"] == 2, "{dry}");
    Ok(())
}

fn a_file_has_every_byte_and_is_there_when_it_is_whole(target: Target) -> anyhow::Result<()> {
    let pipeline = seeded(target, 20)?;
    let originals = all(&pipeline, SOURCE)?;
    let (plain, packed) = (pipeline.path("out.jsonl"), pipeline.path("out.jsonl.gz"));
    for path in [&plain, &packed] {
        let done = pipeline.json(&["replay", SOURCE, "--to-file", text(path)?])?;
        ensure!(done["records"] == 21 && done["done"] == true, "{done}");
    }
    let told = lines(&std::fs::read(&plain)?)?;
    ensure!(places(&told).len() == originals.len(), "{told:?}");
    let bytes = |raw: &Value| raw.as_str().map(|raw| STANDARD.decode(raw)).transpose();
    for line in &told {
        let is_it = |record: &&Record| {
            line["partition"] == record.partition && line["offset"] == record.offset
        };
        let original = originals.iter().find(is_it).context("it is there")?;
        let raw = &line["raw"];
        ensure!(
            bytes(&raw["key"])?.as_deref() == original.key.as_deref(),
            "{line}"
        );
        ensure!(
            bytes(&raw["value"])?.as_deref() == original.value.as_deref(),
            "{line}"
        );
        ensure!(
            line["timestamp_ms"].as_i64() == original.timestamp_ms,
            "{line}"
        );
        let headers = raw["headers"].as_array().context("a list")?;
        ensure!(headers.len() == original.headers.len(), "{line}");
        for (told, (name, value)) in headers.iter().zip(&original.headers) {
            ensure!(told[0] == name.as_str(), "{line}");
            ensure!(bytes(&told[1])?.as_deref() == value.as_deref(), "{line}");
        }
    }
    ensure!(places(&lines(&unpacked(&packed)?)?) == places(&told));

    let report = pipeline.path("report.html");
    let again = ["replay", SOURCE, "--to-file", text(&plain)?];
    let refused = pipeline.failure(&again)?;
    ensure!(refused.contains("--force"), "{refused}");
    let flags = ["--force", "--report", text(&report)?];
    pipeline.json(&[&again, &flags[..]].concat())?;
    let page = std::fs::read_to_string(&report)?;
    ensure!(page.contains("<svg") && !page.contains("http"), "{page}");
    let beside = std::fs::read_dir(pipeline.path(""))?;
    for entry in beside {
        let name = entry?.file_name().to_string_lossy().into_owned();
        ensure!(!name.ends_with(".part"), "{name} is left");
    }
    Ok(())
}

pub fn unpacked(path: &Path) -> anyhow::Result<Vec<u8>> {
    let output = Command::new("gzip").arg("-dc").arg(path).output()?;
    ensure!(output.status.success(), "gzip: {}", output.status);
    Ok(output.stdout)
}

fn the_index_is_the_same_after_a_replay_to_it(target: Target) -> anyhow::Result<()> {
    let pipeline = Pipeline::new(target)?;
    pipeline.write("docs/bread.txt", "Knead the dough and bake the loaf.\n")?;
    pipeline.write("docs/birds.txt", "Penguins huddle against the storm.\n")?;
    pipeline.write("docs/tides.txt", "The moon draws the sea up the beach.\n")?;
    let docs = pipeline.path("docs");
    pipeline.ingest(&docs)?;
    let queries = ["flightless birds", "baking", "ocean and moon"];
    let found = |pipeline: &Pipeline| {
        let found = queries.iter().map(|query| pipeline.search(query));
        found.collect::<anyhow::Result<Vec<_>>>()
    };
    let before = found(&pipeline)?;

    // What `ingest` was given may be read by whatever runs on this data folder later.
    let running = pipeline.up(&[])?;
    for notices in [3, 6] {
        let done = pipeline.json(&["replay", "documents", "--to-index"])?;
        ensure!(
            done["records"] == notices && done["done"] == true && done["pending"] == 0,
            "{done}"
        );
        let outcomes = &done["outcomes"];
        let counted = ["indexed", "stale", "superseded", "removed", "dead_lettered"];
        let counted = counted.iter().filter_map(|name| outcomes[name].as_u64());
        ensure!(counted.sum::<u64>() == notices, "{done}");
        ensure!(outcomes["dead_lettered"] == 0, "{done}");
        ensure!(outcomes["seconds"].is_null(), "nobody measured it: {done}");
        ensure!(found(&pipeline)? == before);
    }
    running.leave()?;
    ensure!(found(&pipeline)? == before);

    // The grant taken back, it says so instead of waiting.
    std::fs::remove_file(pipeline.path("data/granted-roots.json"))?;
    let output = pipeline.output(&["replay", "documents", "--to-index"])?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(1) && stderr.contains("12 records were refused"),
        "{stderr}"
    );
    ensure!(found(&pipeline)? == before);
    Ok(())
}

fn what_retention_took_is_told(target: Target) -> anyhow::Result<()> {
    let pipeline = seeded(target, 60)?;
    let most = all(&pipeline, SOURCE)?;
    let most = most.iter().max_by_key(|record| record.offset);
    let partition = most.context("there are some")?.partition;
    topics_of(&pipeline, async |kafka| {
        let admin = Admin::connect(&kafka)?;
        let before = std::collections::BTreeMap::from([(partition, 3)]);
        admin.delete_records(&kafka.topic(SOURCE), &before).await?;
        Ok(())
    })?;
    let number = partition.to_string();
    let flags = [
        "replay",
        SOURCE,
        "--partition",
        &number,
        "--from-offset",
        "1",
    ];
    let file = pipeline.path("out.jsonl");
    let flags = [&flags[..], &["--to-file", text(&file)?]].concat();
    let refused = pipeline.failure(&flags)?;
    ensure!(
        refused.contains("begins at 3, and lacks 2") && refused.contains("--accept-loss"),
        "{refused}"
    );
    let done = pipeline.json(&[&flags[..], &["--accept-loss"]].concat())?;
    ensure!(done["gone"] == 2 && done["done"] == true, "{done}");
    let first = lines(&std::fs::read(&file)?)?;
    ensure!(
        first.iter().all(|line| line["offset"].as_i64() >= Some(3)),
        "{first:?}"
    );
    Ok(())
}

#[test]
fn what_can_never_be_replayed_is_refused() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    pipeline.json(&["topics", "create"])?;
    for (arguments, code, says) in [
        (&["--rate", "NaN"][..], 2, "more than 0"),
        (&["--rate", "0"], 2, "more than 0"),
        (&["--from", "yesterday"], 2, "RFC 3339"),
        (
            &["--from", "1h", "--to", "2h"],
            2,
            "--from is not before --to",
        ),
        (
            &["--from-offset", "3", "--to-offset", "3"],
            2,
            "nothing could ever",
        ),
        (&["--from-offset=-1"], 2, "--from-offset"),
        (
            &["--from-offset", "1", "--from", "2h"],
            2,
            "cannot be used with",
        ),
        (&["--model", "m"], 2, "name no model"),
        (&["--to-index"], 2, "has none"),
        (&[], 2, "say where to"),
        (&["--to-file", "-", "--name", "a"], 2, "standard output"),
        (
            &["--to-file", "x", "--name", "../a"],
            2,
            "can't be the name",
        ),
        (&["--to-topic", SOURCE], 2, "to itself"),
        (&["--to-topic", "nothing"], 1, "nothing"),
        (
            &["--to-file", "x", "--partition", "99"],
            1,
            "has no partition 99",
        ),
        (
            &["--to-file", "x", "--from-offset", "7"],
            1,
            "ends at offset 0",
        ),
        (
            &["--to-file", "x", "--to-offset", "7"],
            1,
            "ends at offset 0",
        ),
    ] {
        let output = pipeline.output(&[&["replay", SOURCE], arguments].concat())?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(code) && stderr.contains(says),
            "{arguments:?}: {} {stderr}",
            output.status
        );
    }
    let unknown = pipeline.failure(&["replay", "nothing", "--dry-run"])?;
    ensure!(unknown.contains("documents"), "{unknown}");
    // Nothing there is nothing wrong.
    let nothing = pipeline.json(&["replay", SOURCE, "--dry-run"])?;
    ensure!(nothing["records"] == 0, "{nothing}");
    let file = pipeline.path("empty.jsonl");
    let done = pipeline.json(&["replay", SOURCE, "--to-file", text(&file)?])?;
    ensure!(
        done["done"] == true && std::fs::read(&file)?.is_empty(),
        "{done}"
    );
    Ok(())
}
