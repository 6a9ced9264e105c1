//! What only the embedded broker can be asked: crashes, files, limits.

mod full_disk;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{ApiKey, FetchRequest, FetchResponse};
use millrace_broker::{Broker, BrokerConfig, FlushPolicy};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::producer::Producer;
use rdkafka::{Message, Offset};

use crate::client::{DEADLINE, Target, eventually, payloads, read, read_nothing, send, unique};
use crate::raw::{Raw, RawRecord, batch, topic_name, unchanging};

/// The member that `crashed_member_is_replaced` kills; run by that check alone, through the environment.
#[test]
#[ignore = "a process of another check, not a check"]
fn member_process() -> Result<()> {
    let of = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
    let target = Target::at(of("MEMBER_BOOTSTRAP")?);
    let consumer = target.consumer(
        &of("MEMBER_GROUP")?,
        &[("partition.assignment.strategy", "cooperative-sticky")],
    )?;
    consumer.subscribe(&[&of("MEMBER_TOPIC")?])?;
    let start = std::time::Instant::now();
    while start.elapsed() < 4 * DEADLINE {
        let _polled = consumer.poll(Duration::from_millis(100));
    }
    Ok(())
}

/// The broker as a process of its own, to be killed.
struct Process {
    child: Child,
    bootstrap: String,
}

impl Process {
    fn start(dir: &Path) -> Result<Process> {
        Process::start_after("", dir)
    }

    /// The same, in a shell that runs `before` first.
    fn start_after(before: &str, dir: &Path) -> Result<Process> {
        let mut child = Command::new("bash")
            .arg("-c")
            .arg(format!("{before} exec \"$0\" \"$@\""))
            .arg(env!("CARGO_BIN_EXE_millrace-broker"))
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no stdout")?).read_line(&mut line)?;
        ensure!(!line.is_empty(), "the broker did not start");
        Ok(Process {
            child,
            bootstrap: line.trim().to_owned(),
        })
    }

    /// As `kill -9`.
    fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn start(dir: &Path) -> Result<(Broker, Target)> {
    start_with(BrokerConfig::new(dir))
}

fn start_with(config: BrokerConfig) -> Result<(Broker, Target)> {
    let broker = Broker::start(config)?;
    let target = Target::at(broker.bootstrap());
    Ok((broker, target))
}

/// Maintenance often enough for a test to see it.
fn busy(dir: &Path) -> BrokerConfig {
    let mut config = BrokerConfig::new(dir);
    config.maintenance_interval = Duration::from_millis(50);
    config
}

/// The partition's folder.
fn partition_dir(dir: &Path, topic: &str) -> Result<PathBuf> {
    let found = fs::read_dir(dir.join("topics"))?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with(&format!("{topic}@")))
        });
    Ok(found.context("the topic has no folder")?.join("0"))
}

fn segments(dir: &Path, topic: &str) -> Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = fs::read_dir(partition_dir(dir, topic)?)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    found.sort();
    Ok(found)
}

fn fetch(target: &Target, topic: &str, offset: i64) -> Result<Bytes> {
    let partition = FetchPartition::default()
        .with_partition(0)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20)
        .with_current_leader_epoch(-1);
    let request = FetchRequest::default()
        .with_max_wait_ms(100)
        .with_max_bytes(1 << 20)
        .with_topics(vec![
            FetchTopic::default()
                .with_topic(topic_name(topic))
                .with_partitions(vec![partition]),
        ]);
    let mut answer: FetchResponse =
        Raw::connect(&target.bootstrap)?.ask(ApiKey::Fetch, 11, &request)?;
    let data = answer.responses.remove(0).partitions.remove(0);
    ensure!(data.error_code == 0, "error {}", data.error_code);
    Ok(data.records.unwrap_or_default())
}

#[test]
fn kill_9_loses_nothing_acknowledged() -> Result<()> {
    let dir = tempfile::tempdir()?;
    for round in 0..3 {
        let process = Process::start(dir.path())?;
        let target = Target::at(process.bootstrap.clone());
        let topic = target.topic("durable", 1, &[])?;
        let config = [
            ("linger.ms", "1"),
            ("compression.type", "zstd"),
            ("message.timeout.ms", "60000"),
        ];
        let acknowledged = produce_until_killed(&target, &topic, &config, process)?;
        ensure!(
            acknowledged > 0,
            "nothing was acknowledged in round {round}"
        );
        let (broker, target) = start(dir.path())?;
        let high = target
            .consumer("any", &[])?
            .fetch_watermarks(&topic, 0, DEADLINE)?
            .1;
        ensure!(
            high >= acknowledged,
            "{high} of {acknowledged} acknowledged records are there"
        );
        let seen = read(&target.reader(&topic, 0, &[])?, usize::try_from(high)?)?;
        for (number, record) in seen.iter().enumerate() {
            ensure!(
                record.payload == format!("v{number}"),
                "offset {number} holds {}",
                record.payload
            );
        }
        broker.stop();
    }
    Ok(())
}

/// Streams records and kills the broker in the middle; returns how many were acknowledged.
fn produce_until_killed(
    target: &Target,
    topic: &str,
    settings: &[(&str, &str)],
    process: Process,
) -> Result<i64> {
    use rdkafka::producer::{BaseRecord, DeliveryResult, ProducerContext, ThreadedProducer};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};
    struct Count(Arc<AtomicI64>);
    impl rdkafka::ClientContext for Count {}
    impl ProducerContext for Count {
        type DeliveryOpaque = ();
        fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
            if let Ok(message) = result {
                self.0.fetch_max(message.offset() + 1, Ordering::SeqCst);
            }
        }
    }
    let acknowledged = Arc::new(AtomicI64::new(0));
    let mut config = target.client();
    config.set("enable.idempotence", "true").set("acks", "all");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    let producer: ThreadedProducer<Count> =
        config.create_with_context(Count(Arc::clone(&acknowledged)))?;
    let mut process = Some(process);
    for number in 0..200_000 {
        let payload = format!("v{number}");
        if producer
            .send(BaseRecord::<str, str>::to(topic).key("k").payload(&payload))
            .is_err()
        {
            // The queue is full; what is in it is enough.
            break;
        }
        if number > 1000 && acknowledged.load(Ordering::SeqCst) > 500 {
            if let Some(process) = process.take() {
                process.kill()?;
            }
            break;
        }
    }
    if let Some(process) = process {
        eventually("some acknowledgements", || {
            Ok((acknowledged.load(Ordering::SeqCst) > 500).then_some(()))
        })?;
        process.kill()?;
    }
    producer.purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
    Ok(acknowledged.load(Ordering::SeqCst))
}

#[test]
fn torn_tail_is_cut() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (broker, target) = start(dir.path())?;
    let topic = target.topic("torn", 1, &[])?;
    send(&target.producer(&[])?, &topic, 0..10, None)?;
    broker.stop();
    let path = segments(dir.path(), &topic)?.remove(0);
    let whole = fs::read(&path)?;
    let mut torn = whole.clone();
    torn.extend_from_slice(&whole[..whole.len() / 2]);
    torn[whole.len() + 30] ^= 1;
    fs::write(&path, &torn)?;
    let (_broker, target) = start(dir.path())?;
    ensure!(fs::metadata(&path)?.len() == whole.len() as u64);
    send(&target.producer(&[])?, &topic, 10..12, None)?;
    let seen = read(&target.reader(&topic, 0, &[])?, 12)?;
    ensure!(
        seen[11].offset == 11 && seen[11].payload == "v11",
        "{seen:?}"
    );
    Ok(())
}

#[test]
fn corruption_in_the_middle_is_reported() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (broker, target) = start(dir.path())?;
    let topic = target.topic("hole", 1, &[])?;
    for number in 0..3 {
        send(&target.producer(&[])?, &topic, number..number + 1, None)?;
    }
    broker.stop();
    let path = segments(dir.path(), &topic)?.remove(0);
    let mut content = fs::read(&path)?;
    content[65] ^= 1;
    fs::write(&path, &content)?;
    let Err(error) = Broker::start(BrokerConfig::new(dir.path())) else {
        bail!("it started over a hole")
    };
    let chain = format!("{:#}", anyhow::Error::from(error));
    ensure!(
        chain.contains("corrupt at byte 0") && chain.contains(&path.display().to_string()),
        "{chain}"
    );
    Ok(())
}

#[test]
fn second_process_is_refused_by_pid() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let process = Process::start(dir.path())?;
    let Err(error) = Broker::start(BrokerConfig::new(dir.path())) else {
        bail!("two processes on one folder")
    };
    let message = error.to_string();
    ensure!(
        message.contains(&format!("process {}", process.child.id())),
        "{message}"
    );
    process.kill()?;
    // The dead hold nothing.
    start(dir.path())?.0.stop();
    Ok(())
}

#[test]
fn only_loopback_unless_told() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut config = BrokerConfig::new(dir.path());
    config.listen = "0.0.0.0:0".parse()?;
    let Err(error) = Broker::start(config.clone()) else {
        bail!("it listens to everybody")
    };
    ensure!(error.to_string().contains("allow_remote"), "{error}");
    config.allow_remote = true;
    config.advertised = Some("127.0.0.1:9".to_owned());
    let broker = Broker::start(config)?;
    ensure!(broker.bootstrap() == "127.0.0.1:9");
    broker.stop();
    Ok(())
}

#[test]
fn oversized_request_ends_the_connection_and_nothing_else() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut config = BrokerConfig::new(dir.path());
    config.request_max_bytes = 10_000;
    let (_broker, target) = start_with(config)?;
    let mut raw = Raw::connect(&target.bootstrap)?;
    raw.send_bytes(&2_000_000_000i32.to_be_bytes())?;
    ensure!(raw.read_frame().is_err(), "it was answered");
    let mut raw = Raw::connect(&target.bootstrap)?;
    raw.send_bytes(&(-5i32).to_be_bytes())?;
    ensure!(raw.read_frame().is_err(), "it was answered");
    let mut raw = Raw::connect(&target.bootstrap)?;
    raw.send_bytes(&[0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff])?;
    ensure!(raw.read_frame().is_err(), "it was answered");
    target.topic("fine", 1, &[]).map(drop)
}

#[test]
fn restart_keeps_offsets_members_and_sequences() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (broker, target) = start(dir.path())?;
    let address = broker.address();
    let topic = target.topic("kept", 2, &[("cleanup.policy", "compact")])?;
    let group = unique("kept");
    send(&target.producer(&[])?, &topic, 0..20, Some(0))?;
    let consumer = target.consumer(
        &group,
        &[("partition.assignment.strategy", "cooperative-sticky")],
    )?;
    consumer.subscribe(&[&topic])?;
    read(&consumer, 20)?;
    consumer.commit_consumer_state(CommitMode::Sync)?;
    let mut raw = Raw::connect(&target.bootstrap)?;
    let producer = raw.new_producer()?;
    let record = || RawRecord {
        key: Some(b"k"),
        value: Some(b"v"),
        headers: &[],
    };
    ensure!(raw.produce(&topic, &batch(&[record()], producer, 0, 0))?.0 == 0);
    broker.stop();
    let mut config = BrokerConfig::new(dir.path());
    config.listen = address;
    let (_broker, target) = start_with(config)?;
    ensure!(target.committed(&group, &topic, 0)?.0 == Offset::Offset(20));
    let mut raw = Raw::connect(&target.bootstrap)?;
    ensure!(
        raw.produce(&topic, &batch(&[record()], producer, 0, 0))? == (0, 20),
        "the duplicate was appended"
    );
    ensure!(
        raw.produce(&topic, &batch(&[record()], producer, 5, 0))?.0 == 45,
        "the gap was accepted"
    );
    let newer = raw.new_producer()?;
    ensure!(newer.0 != producer.0, "a producer id was given out twice");
    // The member goes on where it was: same generation, no rebalance.
    let seen = read(&consumer, 1)?;
    ensure!(seen[0].offset == 20, "{seen:?}");
    consumer.commit_consumer_state(CommitMode::Sync)?;
    ensure!(target.committed(&group, &topic, 0)?.0 == Offset::Offset(21));
    Ok(())
}

#[test]
fn members_are_forgotten_where_none_can_be_alive() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (broker, target) = start(dir.path())?;
    let topic = target.topic("left", 1, &[])?;
    let group = unique("left");
    send(&target.producer(&[])?, &topic, 0..3, Some(0))?;
    // A static member leaves nothing behind that tells that it is gone.
    let consumer = target.consumer(&group, &[("group.instance.id", "one")])?;
    consumer.subscribe(&[&topic])?;
    read(&consumer, 3)?;
    consumer.commit_consumer_state(CommitMode::Sync)?;
    broker.stop();
    drop(consumer);
    for (keep_members, members) in [(true, 1), (false, 0)] {
        let mut config = BrokerConfig::new(dir.path());
        config.keep_members = keep_members;
        let (broker, target) = start_with(config)?;
        let client = target.consumer(&unique("asks"), &[])?;
        let listed = client.fetch_group_list(Some(&group), Duration::from_secs(10))?;
        let found = listed.groups().iter().map(|group| group.members().len());
        ensure!(
            found.sum::<usize>() == members,
            "keep_members = {keep_members}"
        );
        ensure!(target.committed(&group, &topic, 0)?.0 == Offset::Offset(3));
        broker.stop();
    }
    Ok(())
}

#[test]
fn transaction_survives_kill_9_of_the_broker() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let process = Process::start(dir.path())?;
    let target = Target::at(process.bootstrap.clone());
    let topic = target.topic("interrupted", 1, &[])?;
    let id = unique("tx");
    let producer = target.transactional_producer(&id, "20000")?;
    producer.begin_transaction()?;
    send(&producer, &topic, 0..3, Some(0))?;
    process.kill()?;
    let process = Process::start(dir.path())?;
    let target = Target::at(process.bootstrap.clone());
    let reader = target.reader(&topic, 0, &[("isolation.level", "read_committed")])?;
    read_nothing(&reader, Duration::from_millis(500))?;
    // Its next holder aborts it.
    let next = target.transactional_producer(&id, "20000")?;
    next.begin_transaction()?;
    send(&next, &topic, 10..12, Some(0))?;
    next.commit_transaction(DEADLINE)?;
    ensure!(payloads(&read(&reader, 2)?) == ["v10", "v11"]);
    Ok(())
}

#[test]
fn segments_roll_by_size_and_retention_takes_the_oldest() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (_broker, target) = start_with(busy(dir.path()))?;
    let settings = [("segment.bytes", "2000"), ("retention.bytes", "6000")];
    let topic = target.topic("bounded", 1, &settings)?;
    let producer = target.producer(&[("batch.num.messages", "1")])?;
    send(&producer, &topic, 0..200, Some(0))?;
    let consumer = target.consumer("any", &[])?;
    let low = eventually("old segments are gone", || {
        let (low, high) = consumer.fetch_watermarks(&topic, 0, DEADLINE)?;
        ensure!(high == 200);
        Ok((low > 100).then_some(low))
    })?;
    let seen = read(&target.reader(&topic, 0, &[])?, usize::try_from(200 - low)?)?;
    ensure!(
        seen[0].offset == low && seen[0].payload == format!("v{low}"),
        "{:?}",
        seen[0]
    );
    let bytes: u64 = segments(dir.path(), &topic)?
        .iter()
        .map(|path| fs::metadata(path).map_or(0, |of| of.len()))
        .sum();
    ensure!((6000..=10_000).contains(&bytes), "{bytes} bytes are left");
    Ok(())
}

#[test]
fn retention_by_time_takes_even_the_last_segment() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (broker, target) = start_with(busy(dir.path()))?;
    let topic = target.topic("brief", 1, &[("retention.ms", "300")])?;
    send(&target.producer(&[])?, &topic, 0..10, Some(0))?;
    let consumer = target.consumer("any", &[])?;
    eventually("everything is gone", || {
        Ok((consumer.fetch_watermarks(&topic, 0, DEADLINE)? == (10, 10)).then_some(()))
    })?;
    broker.stop();
    let (_broker, target) = start(dir.path())?;
    ensure!(
        target
            .consumer("any", &[])?
            .fetch_watermarks(&topic, 0, DEADLINE)?
            == (10, 10)
    );
    Ok(())
}

const COMPACT: [(&str, &str); 5] = [
    ("cleanup.policy", "compact"),
    ("segment.bytes", "1024"),
    ("min.cleanable.dirty.ratio", "0.01"),
    ("max.compaction.lag.ms", "100"),
    ("delete.retention.ms", "500"),
];

#[test]
fn compaction_keeps_the_latest_byte_for_byte() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (broker, target) = start_with(busy(dir.path()))?;
    let topic = target.topic("latest", 1, &COMPACT)?;
    let mut raw = Raw::connect(&target.bootstrap)?;
    // Duplicate header keys, which a decoder into a map would lose.
    let headers: [(&str, &[u8]); 3] = [("h", b"1"), ("h", b"2"), ("g", b"")];
    let kept = [
        RawRecord {
            key: Some(b"once"),
            value: Some(b"whole"),
            headers: &headers,
        },
        RawRecord {
            key: Some(b"too"),
            value: Some(b"whole"),
            headers: &headers,
        },
    ];
    let whole = batch(&kept, (-1, -1), -1, 5);
    ensure!(raw.produce(&topic, &whole)? == (0, 0));
    let partly = [
        RawRecord {
            key: Some(b"often"),
            value: Some(b"old"),
            headers: &headers,
        },
        RawRecord {
            key: Some(b"stays"),
            value: Some(b"new"),
            headers: &headers,
        },
    ];
    ensure!(raw.produce(&topic, &batch(&partly, (-1, -1), -1, 5))? == (0, 2));
    let filler = "x".repeat(300);
    for number in 0..20 {
        let value = format!("{filler}{number}");
        let record = RawRecord {
            key: Some(b"often"),
            value: Some(value.as_bytes()),
            headers: &headers,
        };
        ensure!(raw.produce(&topic, &batch(&[record], (-1, -1), -1, 5))?.0 == 0);
    }
    eventually("superseded records are gone", || {
        Ok((read_keys(&fetch_all(&target, &topic)?)?
            .iter()
            .filter(|key| *key == b"often")
            .count()
            == 1)
            .then_some(()))
    })?;
    let left = fetch_all(&target, &topic)?;
    ensure!(
        left.windows(whole.len() - 16)
            .any(|found| found == unchanging(whole.clone())),
        "the whole batch changed"
    );
    // Of the second batch one record stays, at its offset, with all its headers.
    let alone = batch(&partly[1..], (-1, -1), -1, 5);
    let original = batch(&partly, (-1, -1), -1, 5);
    let record_bytes = &original[original.len() - (alone.len() - 61)..];
    ensure!(
        left.windows(record_bytes.len())
            .any(|found| found == record_bytes),
        "the raw record changed"
    );
    let seen = read(&target.reader(&topic, 0, &[("check.crcs", "true")])?, 4)?;
    let offsets: Vec<i64> = seen.iter().map(|record| record.offset).collect();
    ensure!(offsets == [0, 1, 3, 23], "{offsets:?}");
    broker.stop();
    let (_broker, target) = start(dir.path())?;
    ensure!(read(&target.reader(&topic, 0, &[])?, 4)? == seen);
    Ok(())
}

fn fetch_all(target: &Target, topic: &str) -> Result<Vec<u8>> {
    let (mut offset, mut all) = (0, Vec::new());
    loop {
        let part = fetch(target, topic, offset)?;
        if part.is_empty() {
            return Ok(all);
        }
        let mut at = 0;
        while at + 61 <= part.len() {
            let base = i64::from_be_bytes(part[at..at + 8].try_into()?);
            offset = base + i64::from(i32::from_be_bytes(part[at + 23..at + 27].try_into()?)) + 1;
            at += usize::try_from(i32::from_be_bytes(part[at + 8..at + 12].try_into()?))? + 12;
        }
        all.extend_from_slice(&part);
    }
}

/// The keys in a run of batches, by the crate that decodes records.
fn read_keys(batches: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut bytes = Bytes::copy_from_slice(batches);
    let sets = kafka_protocol::records::RecordBatchDecoder::decode_all(&mut bytes)?;
    let records = sets.into_iter().flat_map(|set| set.records);
    Ok(records
        .map(|record| record.key.unwrap_or_default().to_vec())
        .collect())
}

#[test]
fn tombstones_go_after_their_time_and_sequences_stay() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (broker, target) = start_with(busy(dir.path()))?;
    let topic = target.topic("tombs", 1, &COMPACT)?;
    let mut raw = Raw::connect(&target.bootstrap)?;
    let producer = raw.new_producer()?;
    let put = |value| {
        [RawRecord {
            key: Some(b"gone"),
            value,
            headers: &[],
        }]
    };
    ensure!(
        raw.produce(&topic, &batch(&put(Some(b"v")), producer, 0, 5))?
            .0
            == 0
    );
    ensure!(raw.produce(&topic, &batch(&put(None), producer, 1, 5))?.0 == 0);
    eventually("the value is gone, the tombstone not yet", || {
        Ok((read_keys(&fetch_all(&target, &topic)?)?.len() == 1).then_some(()))
    })?;
    eventually("the tombstone is gone", || {
        Ok(fetch_all(&target, &topic)?.is_empty().then_some(()))
    })?;
    broker.stop();
    let (_broker, target) = start(dir.path())?;
    let mut raw = Raw::connect(&target.bootstrap)?;
    // Nothing in the log tells the producer's last sequence any more.
    ensure!(
        raw.produce(&topic, &batch(&put(None), producer, 1, 5))? == (0, 1),
        "the duplicate was appended"
    );
    ensure!(raw.produce(&topic, &batch(&put(None), producer, 2, 5))? == (0, 2));
    Ok(())
}

#[test]
fn compressed_batches_are_compacted() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (_broker, target) = start_with(busy(dir.path()))?;
    for codec in ["zstd", "gzip", "lz4"] {
        let topic = target.topic(codec, 1, &COMPACT)?;
        let producer = target.producer(&[("compression.type", codec)])?;
        for _ in 0..10 {
            send(&producer, &topic, 0..50, Some(0))?;
        }
        eventually(
            &format!("{codec}: 50 keys are left in sealed segments"),
            || {
                let reader = target.reader(&topic, 0, &[])?;
                let high = reader.fetch_watermarks(&topic, 0, DEADLINE)?.1;
                let left = read_keys(&fetch_all(&target, &topic)?)?.len();
                Ok((high == 500 && left == 50).then_some(()))
            },
        )?;
        let seen = read(&target.reader(&topic, 0, &[("check.crcs", "true")])?, 50)?;
        ensure!(
            seen.iter().all(|record| record.offset >= 450),
            "{codec}: {seen:?}"
        );
    }
    Ok(())
}

#[test]
fn each_write_can_be_forced_to_disk() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut config = BrokerConfig::new(dir.path());
    config.flush = FlushPolicy::EachWrite;
    let (broker, target) = start_with(config)?;
    let topic = target.topic("forced", 1, &[])?;
    send(&target.producer(&[])?, &topic, 0..100, Some(0))?;
    broker.stop();
    let (_broker, target) = start(dir.path())?;
    read(&target.reader(&topic, 0, &[])?, 100)?;
    Ok(())
}

#[test]
fn missing_topics_are_made_when_that_is_asked_for() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut config = BrokerConfig::new(dir.path());
    config.auto_create_topics = true;
    config.default_partitions = 2;
    let (_broker, target) = start_with(config)?;
    let topic = unique("auto");
    send(&target.producer(&[])?, &topic, 0..10, None)?;
    let metadata = target
        .consumer("any", &[])?
        .fetch_metadata(Some(&topic), DEADLINE)?;
    ensure!(metadata.topics()[0].partitions().len() == 2);
    Ok(())
}

#[test]
fn journal_that_is_gone_is_not_taken_for_an_empty_broker() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (broker, target) = start(dir.path())?;
    target.topic("orphan", 1, &[])?;
    broker.stop();
    fs::remove_file(dir.path().join("journal"))?;
    let Err(error) = Broker::start(BrokerConfig::new(dir.path())) else {
        bail!("it started without its journal")
    };
    ensure!(
        error.to_string().contains("journal is missing")
            || error.to_string().contains("is missing"),
        "{error}"
    );
    std::io::stdout().flush()?;
    Ok(())
}
