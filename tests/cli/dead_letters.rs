//! Dead letters worked off: replayed, capped, discarded, exported, and all of it audited.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use millrace_kafka::{
    DeadLetterReason, DeadLetters, Producer, RawRecord, ReadFrom, ReadUntil, Record, TopicReader,
    topics,
};
use millrace_schemas::{DocumentEvent, DocumentNotice, Framing, Layout, encode};
use serde_json::{Value, json};

use crate::harness::{Pipeline, Target, eventually, on_both_targets, text};

const LONG: Duration = Duration::from_secs(90);

on_both_targets!(
    what_was_mended_is_replayed_and_found,
    what_is_replayed_while_nobody_reads_says_that_it_waits,
    a_record_that_fails_each_time_stops_at_its_cap,
    what_is_discarded_is_audited_and_stays_on_its_topic,
    a_replay_that_is_killed_loses_nothing,
    what_has_no_way_back_stays_where_it_is,
);

/// A folder with one document that can't be read: it says that it is text.
fn one_unreadable(pipeline: &Pipeline) -> anyhow::Result<()> {
    pipeline.write("docs/good.txt", "Knead the dough and bake the loaf.\n")?;
    pipeline.write("docs/birds.txt", [0u8, 159, 146, 150, 0, 1, 2, 3])?;
    let summary = pipeline.ingest(&pipeline.path("docs"))?;
    ensure!(
        summary["indexed"] == 1 && summary["dead_lettered"] == 1,
        "{summary}"
    );
    Ok(())
}

/// An `up` that may read the folder of [`one_unreadable`] and does not watch it.
fn up(pipeline: &mut Pipeline) -> anyhow::Result<crate::harness::Up> {
    let docs = pipeline.path("docs");
    std::fs::create_dir_all(&docs)?;
    let roots = format!("[{:?}]", text(&docs)?);
    pipeline.set("MILLRACE_OBJECTS__ALLOWED_ROOTS", &roots);
    pipeline.up(&[])
}

fn list(pipeline: &Pipeline) -> anyhow::Result<Value> {
    pipeline.json(&["dlq", "list", "--all"])
}

fn records(pipeline: &Pipeline, topic: &str) -> anyhow::Result<Vec<Value>> {
    let peeked = pipeline.json(&["peek", topic, "-n", "1000"])?;
    Ok(peeked["records"].as_array().cloned().unwrap_or_default())
}

/// The values of a record's headers of this name.
fn headers<'a>(record: &'a Value, name: &str) -> Vec<&'a str> {
    let all = record["headers"].as_array().into_iter().flatten();
    all.filter(|header| header[0] == name)
        .filter_map(|header| header[1].as_str())
        .collect()
}

/// Events of an action on the topic `audit`, as (phase, event).
fn audited(pipeline: &Pipeline, action: &str) -> anyhow::Result<Vec<(String, Value)>> {
    let events = records(pipeline, "audit")?;
    let events = events.into_iter().map(|record| record["value"].clone());
    Ok(events
        .filter(|event| event["action"] == action)
        .map(|event| {
            let phase = event["phase"].as_str().unwrap_or_default().to_owned();
            (phase, event)
        })
        .collect())
}

fn what_was_mended_is_replayed_and_found(target: Target) -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(target)?;
    one_unreadable(&pipeline)?;
    let listed = list(&pipeline)?;
    ensure!(listed["total"] == 1, "{listed}");
    let group = &listed["groups"][0];
    ensure!(
        group["stage"] == "extract" && group["count"] == 1,
        "{listed}"
    );
    let topic = group["topic"].as_str().unwrap_or_default();
    ensure!(topic.ends_with("documents.dlq"), "{listed}");
    ensure!(group["oldest_ms"] == group["newest_ms"], "{listed}");

    // Looking changes nothing.
    let dry = pipeline.json(&["dlq", "replay", "--dry-run"])?;
    ensure!(
        dry["selected"] == 1 && dry["replayed"] == 0 && dry["dry_run"] == true,
        "{dry}"
    );
    let target_topic = dry["topics"][0]["target"].as_str().unwrap_or_default();
    ensure!(
        target_topic.ends_with(".documents") && dry["bytes"].as_u64() > Some(0),
        "{dry}"
    );
    let other = pipeline.json(&["dlq", "replay", "--dry-run", "--stage", "index"])?;
    ensure!(other["selected"] == 0, "{other}");
    ensure!(list(&pipeline)? == listed);
    let before = records(&pipeline, "documents")?;
    ensure!(before.len() == 2, "{before:?}");
    // Nobody can be asked here.
    let output = pipeline.output(&["dlq", "replay"])?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(2) && error.contains("--yes"),
        "{error}"
    );

    pipeline.write(
        "docs/birds.txt",
        "Penguins huddle together against the antarctic storm.\n",
    )?;
    let running = up(&mut pipeline)?;
    let replayed = pipeline.json(&["dlq", "replay", "--yes"])?;
    ensure!(
        replayed["replayed"] == 1 && replayed["recovered"] == 0,
        "{replayed}"
    );
    eventually("it is found", LONG, || {
        let found = pipeline.search("flightless birds in the cold")?;
        Ok(found.contains(&"birds.txt".to_owned()).then_some(()))
    })?;
    let listed = list(&pipeline)?;
    ensure!(listed["total"] == 0 && listed["replayed"] == 1, "{listed}");
    ensure!(pipeline.json(&["dlq", "list"])?["groups"] == json!([]));

    // The record is the original, and says that it was replayed.
    let after = records(&pipeline, "documents")?;
    ensure!(after.len() == 3, "{after:?}");
    let is_replay = |record: &&Value| !headers(record, "dlq.replay_count").is_empty();
    let replay = after.iter().find(is_replay).context("it is a replay")?;
    let original = before
        .iter()
        .find(|record| record["key"] == replay["key"])
        .context("the original is there")?;
    ensure!(replay["value"] == original["value"], "{replay}\n{original}");
    let (old, new) = (&original["headers"], &replay["headers"]);
    let (old, new) = (old.as_array(), new.as_array());
    ensure!(
        old.zip(new).is_some_and(|(old, new)| new.starts_with(old)),
        "{replay}\n{original}"
    );
    ensure!(headers(replay, "dlq.replay_count") == ["1"], "{replay}");
    let first_offset = original["offset"].to_string();
    ensure!(
        headers(replay, "dlq.first_offset") == [first_offset],
        "{replay}"
    );

    let again = pipeline.json(&["dlq", "replay", "--yes"])?;
    ensure!(again["selected"] == 0, "{again}");
    let events = audited(&pipeline, "dlq.replay")?;
    let phases: Vec<&str> = events.iter().map(|(phase, _)| phase.as_str()).collect();
    ensure!(phases == ["begun", "done"], "{events:?}");
    ensure!(events[0].1["id"] == events[1].1["id"], "{events:?}");
    ensure!(events[1].1["counts"]["replayed"] == 1, "{events:?}");
    let who = events[1].1["who"].as_str().unwrap_or_default();
    ensure!(who.contains('@'), "{events:?}");
    running.leave()
}

/// Without an `up` a replay only publishes.
fn what_is_replayed_while_nobody_reads_says_that_it_waits(target: Target) -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(target)?;
    one_unreadable(&pipeline)?;
    let birds = pipeline.path("docs/birds.txt");
    let status = |pipeline: &Pipeline| pipeline.json(&["status", text(&birds)?]);
    let failed = status(&pipeline)?;
    ensure!(
        failed["outcome"] == "dead_lettered" && failed["waiting"].is_null(),
        "{failed}"
    );
    pipeline.write("docs/birds.txt", "Penguins huddle together.\n")?;

    let replayed = pipeline.json(&["dlq", "replay", "--yes"])?;
    let documents = format!("{}documents", pipeline.topic_prefix());
    ensure!(replayed["unread"] == json!([documents]), "{replayed}");
    let waits = status(&pipeline)?;
    let waiting = &waits["waiting"];
    ensure!(
        waits["outcome"] == "dead_lettered" && waiting["topic"] == json!(documents),
        "{waits}"
    );
    ensure!(
        waiting["is_read"] == false && waiting["before"] == 0,
        "{waits}"
    );

    let running = up(&mut pipeline)?;
    let done = eventually("it is done", LONG, || {
        let status = status(&pipeline)?;
        Ok((status["outcome"] == "indexed").then_some(status))
    })?;
    ensure!(done["waiting"].is_null(), "{done}");
    running.leave()
}

fn a_record_that_fails_each_time_stops_at_its_cap(target: Target) -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(target)?;
    one_unreadable(&pipeline)?;
    let first_origin = first_shown(&pipeline)?["origin"].clone();
    ensure!(first_origin["offset"].is_number(), "{first_origin}");
    let running = up(&mut pipeline)?;
    for count in 1..=2 {
        let replayed = pipeline.json(&["dlq", "replay", "--yes"])?;
        ensure!(replayed["replayed"] == 1, "{replayed}");
        let letter = eventually("it fails again", LONG, || {
            let letter = first_shown(&pipeline)?;
            Ok((letter["replay_count"] == count).then_some(letter))
        })?;
        ensure!(
            letter["history"]["first_origin"] == first_origin,
            "{letter}"
        );
        ensure!(letter["origin"] != first_origin, "{letter}");
        let times = letter["history"]["replayed_at_ms"].as_array();
        ensure!(times.map(Vec::len) == Some(count), "{letter}");
    }
    let capped = pipeline.json(&["dlq", "replay", "--yes"])?;
    ensure!(
        capped["capped"] == 1 && capped["selected"] == 0 && capped["replayed"] == 0,
        "{capped}"
    );
    let raised = pipeline.json(&["dlq", "replay", "--dry-run", "--max-replays", "3"])?;
    ensure!(raised["selected"] == 1 && raised["capped"] == 0, "{raised}");
    let listed = list(&pipeline)?;
    ensure!(listed["total"] == 1 && listed["replayed"] == 2, "{listed}");
    running.leave()
}

/// The first open letter.
fn first_shown(pipeline: &Pipeline) -> anyhow::Result<Value> {
    Ok(pipeline.json(&["dlq", "show"])?["records"][0].clone())
}

fn what_is_discarded_is_audited_and_stays_on_its_topic(target: Target) -> anyhow::Result<()> {
    let pipeline = Pipeline::new(target)?;
    one_unreadable(&pipeline)?;

    // An export has every byte.
    let file = pipeline.path("letters.jsonl");
    let file = text(&file)?;
    let exported = pipeline.json(&["dlq", "export", file])?;
    ensure!(exported["letters"] == 1, "{exported}");
    let line = std::fs::read_to_string(file)?;
    let letter: Value = serde_json::from_str(&line)?;
    let original = original_of(&pipeline, &letter)?;
    let bytes = |raw: &Value| anyhow::Ok(STANDARD.decode(raw.as_str().context("base64")?)?);
    ensure!(Some(bytes(&letter["raw"]["value"])?) == original.value.as_deref().map(<[u8]>::to_vec));
    ensure!(Some(bytes(&letter["raw"]["key"])?) == original.key.as_deref().map(<[u8]>::to_vec));
    let told = letter["raw"]["headers"].as_array().context("a list")?;
    ensure!(told.len() == original.headers.len(), "{letter}");
    for (told, (name, value)) in told.iter().zip(&original.headers) {
        ensure!(
            told[0] == name.as_str()
                && Some(bytes(&told[1])?) == value.as_deref().map(<[u8]>::to_vec)
        );
    }
    ensure!(letter["value"]["uri"].is_string(), "not decoded: {letter}");
    let output = pipeline.output(&["dlq", "export", file])?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(2) && error.contains("--force"),
        "{error}"
    );
    pipeline.json(&["dlq", "export", file, "--force"])?;
    let output = pipeline.output(&["dlq", "export", "-"])?;
    ensure!(output.stdout == line.as_bytes());

    let drawn = pipeline.json(&["dlq", "histogram", "--by", "stage"])?;
    ensure!(
        drawn["total"] == 1 && drawn["buckets"][0]["by"]["extract"] == 1,
        "{drawn}"
    );

    let dry = pipeline.json(&["dlq", "discard", "--dry-run"])?;
    ensure!(dry["selected"] == 1 && dry["discarded"] == 0, "{dry}");
    pipeline.failure(&["dlq", "discard"])?;
    let kept = pipeline.json(&["dlq", "discard", "--yes", "--reason", "another"])?;
    ensure!(kept["selected"] == 0, "{kept}");
    ensure!(list(&pipeline)?["total"] == 1);
    let discarded = pipeline.json(&["dlq", "discard", "--yes", "--stage", "extract"])?;
    ensure!(discarded["discarded"] == 1, "{discarded}");
    let listed = list(&pipeline)?;
    ensure!(listed["total"] == 0 && listed["discarded"] == 1, "{listed}");
    for order in [
        &["dlq", "discard", "--yes"][..],
        &["dlq", "replay", "--yes"],
    ] {
        let nothing = pipeline.json(order)?;
        ensure!(nothing["selected"] == 0, "{order:?}: {nothing}");
    }
    ensure!(records(&pipeline, "documents.dlq")?.len() == 1);

    let events = audited(&pipeline, "dlq.discard")?;
    let phases: Vec<&str> = events.iter().map(|(phase, _)| phase.as_str()).collect();
    ensure!(phases == ["begun", "done"], "{events:?}");
    let (begun, done) = (&events[0].1, &events[1].1);
    ensure!(begun["arguments"]["stage"] == "extract", "{begun}");
    ensure!(done["counts"]["discarded"] == 1, "{done}");
    let shown = pipeline.json(&["dlq", "show", "--all"])?;
    let resolved = &shown["records"][0]["resolved"];
    ensure!(
        resolved["resolution"] == "discarded" && resolved["who"] == done["who"],
        "{shown}"
    );
    Ok(())
}

/// The record that a letter is of, from its topic.
fn original_of(pipeline: &Pipeline, letter: &Value) -> anyhow::Result<Record> {
    let number = |name: &str| letter["origin"][name].as_i64().context("a number");
    let (partition, offset) = (i32::try_from(number("partition")?)?, number("offset")?);
    pipeline.with_kafka(|kafka| {
        tokio::runtime::Runtime::new()?.block_on(async {
            let topic = kafka.topic(topics::DOCUMENTS);
            let from = ReadFrom::Offsets([(partition, offset)].into());
            let reader = TopicReader::open(&kafka, &topic, &from, ReadUntil::PresentEnd).await?;
            let first = reader.collect().await?.into_iter().next();
            first.context("the original is there")
        })
    })
}

/// So many letters of notices that could be read: what failed is mended.
fn letters(pipeline: &Pipeline, count: i64) -> anyhow::Result<()> {
    pipeline.json(&["topics", "create"])?;
    let now_ms = jiff::Timestamp::now().as_millisecond();
    pipeline.with_kafka(|kafka| {
        tokio::runtime::Runtime::new()?.block_on(async {
            let dead_letters = DeadLetters::new(Producer::connect(&kafka)?, "vectorizer");
            let reason = DeadLetterReason {
                error_type: "retry_exhausted".to_owned(),
                attempts: 9,
                ..DeadLetterReason::default()
            };
            for n in 0..count {
                let uri = format!("file:///srv/corpus.jsonl#{n}");
                let notice = DocumentNotice {
                    uri: uri.clone(),
                    event: DocumentEvent::Created,
                    event_time_ms: now_ms,
                    etag: None,
                    size_bytes: None,
                    media_type: Some("text/plain".to_owned()),
                    content: Some(format!("Passage {n} of the corpus.").into_bytes()),
                    title: None,
                    layout: Layout::Passage,
                    metadata: std::collections::BTreeMap::new(),
                    min_version: None,
                    source: "corpus".to_owned(),
                };
                let record = Record {
                    topic: kafka.topic(topics::DOCUMENTS),
                    partition: 0,
                    offset: n,
                    timestamp_ms: Some(now_ms),
                    key: Some(uri.into()),
                    value: Some(encode(&notice, &Framing::SingleObject)?.into()),
                    headers: vec![],
                };
                dead_letters.publish(&record, "index", &reason).await?;
            }
            Ok(())
        })
    })
}

fn a_replay_that_is_killed_loses_nothing(target: Target) -> anyhow::Result<()> {
    const LETTERS: usize = 120;
    let mut pipeline = Pipeline::new(target)?;
    letters(&pipeline, i64::try_from(LETTERS)?)?;
    let running = up(&mut pipeline)?;
    ensure!(list(&pipeline)?["total"] == LETTERS);
    let replays = || {
        let documents = records(&pipeline, "documents")?;
        let from = documents
            .iter()
            .flat_map(|record| headers(record, "dlq.replayed_from"));
        anyhow::Ok(from.map(str::to_owned).collect::<Vec<String>>())
    };

    let mut replaying = pipeline
        .command(&["dlq", "replay", "--yes", "--rate", "20/s"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let begun = eventually("some are published", LONG, || {
        let replays = replays()?;
        Ok((replays.len() >= 10).then_some(replays.len()))
    });
    replaying.kill()?;
    replaying.wait()?;
    ensure!(begun? < LETTERS, "it was done before it could be killed");
    let left = list(&pipeline)?;
    ensure!(left["total"].as_u64() > Some(0), "{left}");

    let rest = pipeline.json(&["dlq", "replay", "--yes"])?;
    ensure!(rest["interrupted"] == false, "{rest}");
    let listed = list(&pipeline)?;
    ensure!(
        listed["total"] == 0 && listed["replayed"] == LETTERS,
        "{listed}"
    );
    let replays = replays()?;
    let distinct: BTreeSet<&String> = replays.iter().collect();
    ensure!(
        distinct.len() == LETTERS,
        "{} of {LETTERS}: {rest}",
        distinct.len()
    );
    ensure!(replays.len() <= LETTERS + 256, "{}: {rest}", replays.len());
    eventually("all of them are worked off", LONG, || {
        let lag = pipeline.json(&["lag"])?;
        let partitions = lag["partitions"].as_array().cloned().unwrap_or_default();
        Ok(partitions
            .iter()
            .all(|partition| partition["lag"] == 0)
            .then_some(()))
    })?;
    ensure!(list(&pipeline)?["total"] == 0, "they failed again");
    // The position is behind the last letter, and says so as every group's does.
    let topic = listed["groups"][0]["topic"].as_str().unwrap_or_default();
    let prefix = topic.strip_suffix("documents.dlq").context("its prefix")?;
    let group = format!("{prefix}dlq-replay.documents");
    let lag = pipeline.json(&["lag", "--group", &group])?;
    let partition = &lag["partitions"][0];
    ensure!(
        partition["topic"] == topic && partition["lag"] == 0 && partition["end_offset"] == LETTERS,
        "{lag}"
    );
    // The first one begun and never ended; the second is whole.
    let events = audited(&pipeline, "dlq.replay")?;
    let phases: Vec<&str> = events.iter().map(|(phase, _)| phase.as_str()).collect();
    ensure!(phases == ["begun", "begun", "done"], "{events:?}");
    running.leave()
}

/// A record that somebody else put on the topic, of bytes that would do harm on a terminal.
fn what_has_no_way_back_stays_where_it_is(target: Target) -> anyhow::Result<()> {
    let pipeline = Pipeline::new(target)?;
    pipeline.json(&["topics", "create"])?;
    pipeline.with_kafka(|kafka| {
        tokio::runtime::Runtime::new()?.block_on(async {
            let hostile: bytes::Bytes = (&b"\xFF\x1B[2J\x00"[..]).into();
            let producer = Producer::connect(&kafka)?;
            let record = RawRecord {
                topic: kafka.topic(topics::BEHAVIOR_DLQ),
                key: Some(hostile.clone()),
                value: Some(hostile.clone()),
                headers: vec![
                    ("__connect.errors.stage".to_owned(), Some(hostile.clone())),
                    ("dlq.replay_count".to_owned(), Some(hostile)),
                    ("absent".to_owned(), None),
                ],
                ..RawRecord::default()
            };
            producer.send_raw(record).await?;
            Ok(())
        })
    })?;
    let listed = list(&pipeline)?;
    ensure!(listed["total"] == 1, "{listed}");
    let replayed = pipeline.json(&["dlq", "replay", "--yes"])?;
    ensure!(
        replayed["selected"] == 0 && replayed["unreplayable"]["no_origin"] == 1,
        "{replayed}"
    );
    let shown = pipeline.json(&["dlq", "show", "--topic", "behavior"])?;
    let value = shown["records"][0]["raw"]["value"]
        .as_str()
        .context("raw")?;
    ensure!(STANDARD.decode(value)? == b"\xFF\x1B[2J\x00", "{shown}");
    let elsewhere = pipeline.json(&["dlq", "list", "--topic", "documents.dlq"])?;
    ensure!(elsewhere["total"] == 0, "{elsewhere}");
    let discarded = pipeline.json(&["dlq", "discard", "--yes", "--topic", "behavior.dlq"])?;
    ensure!(discarded["discarded"] == 1, "{discarded}");
    ensure!(list(&pipeline)?["total"] == 0);
    Ok(())
}

#[test]
fn what_can_never_be_ordered_is_wrong_usage() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    pipeline.json(&["topics", "create"])?;
    for (arguments, says) in [
        (&["replay", "--rate", "NaN"][..], "more than 0"),
        (&["replay", "--rate=-5/s"], "more than 0"),
        (&["replay", "--max", "0"], "--max"),
        (&["discard", "--max", "0"], "--max"),
        (&["list", "--topic", "signals"], "documents.dlq"),
        (&["show", "--topic", "nothing"], "documents.dlq"),
        (&["list", "--from", "yesterday"], "RFC 3339"),
        (
            &["list", "--from", "1h", "--to", "2h"],
            "--from is after --to",
        ),
        (&["show", "--origin", "x/1"], "expected a partition"),
        (&["histogram", "--bucket", "0h"], "above 0"),
    ] {
        let output = pipeline.output(&[&["dlq"], arguments].concat())?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(2) && stderr.contains(says),
            "{arguments:?}: {} {stderr}",
            output.status
        );
    }
    // Nothing there is nothing wrong.
    for arguments in [
        &["list"][..],
        &["show"],
        &["histogram"],
        &["replay", "--yes"],
        &["discard", "--yes"],
    ] {
        pipeline.json(&[&["dlq"], arguments].concat())?;
    }
    Ok(())
}
