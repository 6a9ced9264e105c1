//! How many behavior events a core re-keys, joins and counts, and how soon a single click is
//! feedback. Prints one JSON line. `bench_joiner [EVENTS]`, default 300,000.
//!
//! The embedded broker runs in a process of its own (this program again), so that the processor time
//! counted is the joiner's: decoding, state, encoding, compression, and the Kafka client's threads.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark that meets an error has failed"
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use futures::future::try_join_all;
use millrace_broker::{Broker, BrokerConfig};
use millrace_joiner::{Joiner, JoinerConfig, JoinerDeps};
use millrace_kafka::{Admin, KafkaConfig, Producer, ReadFrom, ReadUntil, TopicReader, topics};
use millrace_schemas::{BehaviorEvent, BehaviorKind, EventHeaders, Origin, Signal};
use millrace_state::EmbeddedState;

const ITEMS: usize = 2_000;
const DIMENSION: usize = 384;
const CLICKS: usize = 200;
const DRAIN: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    let argument = std::env::args().nth(1);
    if argument.as_deref() == Some("broker") {
        return serve();
    }
    let events = argument.map_or(Ok(300_000), |count| count.parse())?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(bench(events))
}

/// The broker's process: until its input ends.
fn serve() -> Result<()> {
    let folder = std::env::args().nth(2).context("a folder")?;
    let broker = Broker::start(BrokerConfig::new(folder))?;
    println!("{}", broker.bootstrap());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    broker.stop();
    Ok(())
}

async fn bench(count: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut broker = Command::new(std::env::current_exe()?)
        .arg("broker")
        .arg(folder.path().join("broker"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut bootstrap = String::new();
    BufReader::new(broker.stdout.take().context("output")?).read_line(&mut bootstrap)?;
    let kafka = KafkaConfig {
        bootstrap: bootstrap.trim().to_owned(),
        ..KafkaConfig::default()
    };
    Admin::connect(&kafka)?.create_declared().await?;
    let producer = Producer::connect(&kafka)?;
    for items in (0..ITEMS).collect::<Vec<_>>().chunks(500) {
        try_join_all(items.iter().map(|&item| publish_signal(&producer, item))).await?;
    }
    let ids: Vec<usize> = (0..count).collect();
    for ids in ids.chunks(5_000) {
        publish(
            &producer,
            ids.iter().map(|&id| event(id, now_ms())).collect(),
        )
        .await?;
    }

    let state = Arc::new(EmbeddedState::open(&folder.path().join("state"))?);
    let (began, cpu) = (Instant::now(), cpu_seconds()?);
    let joiner = Joiner::start(JoinerDeps {
        kafka: kafka.clone(),
        producer: Producer::connect(&kafka)?,
        registry: None,
        state,
        config: JoinerConfig::default(),
    })
    .await?;
    joiner.end_of_input().await?;
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds()? - cpu);
    let joined = joiner.stats().joined;
    anyhow::ensure!(joined == count as u64, "{joined} of {count} were joined");

    let mut latencies_ms = Vec::new();
    let feedback = kafka.topic(topics::FEEDBACK);
    let mut reader =
        TopicReader::open(&kafka, &feedback, &ReadFrom::End, ReadUntil::Forever).await?;
    for click in 0..CLICKS {
        let sent = Instant::now();
        publish(&producer, vec![event(count + click, now_ms())]).await?;
        reader.next().await.context("feedback")??;
        latencies_ms.push(sent.elapsed().as_secs_f64() * 1e3);
    }
    latencies_ms.sort_by(f64::total_cmp);
    joiner.shutdown(DRAIN).await;
    drop(broker.stdin.take());
    broker.wait()?;
    println!(
        "{{\"events\":{count},\"items\":{ITEMS},\"dimension\":{DIMENSION},\"seconds\":{seconds:.2},\
         \"events_per_s\":{:.0},\"cpu_seconds\":{cpu:.2},\"events_per_cpu_s\":{:.0},\
         \"click_to_feedback_p50_ms\":{:.1},\"click_to_feedback_p99_ms\":{:.1}}}",
        count as f64 / seconds,
        count as f64 / cpu,
        latencies_ms[CLICKS / 2],
        latencies_ms[CLICKS * 99 / 100],
    );
    Ok(())
}

async fn publish(producer: &Producer, events: Vec<BehaviorEvent>) -> Result<()> {
    let headers = headers();
    let sends = events
        .iter()
        .map(|event| producer.send(&event.user_id, None, event, &headers));
    try_join_all(sends).await?;
    Ok(())
}

async fn publish_signal(producer: &Producer, item: usize) -> Result<()> {
    let signal = signal(item);
    let key = signal.key();
    producer
        .send(&key, Some(&signal.item_id), &signal, &headers())
        .await?;
    Ok(())
}

/// User and system time of this process.
fn cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // After the name, which may hold anything: state is the first field, user time the 12th.
    let (_, fields) = stat.rsplit_once(')').context("a process")?;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: f64 = ticks.map(|field| field.parse::<f64>().unwrap()).sum();
    Ok(ticks / 100.0)
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

fn headers() -> EventHeaders {
    EventHeaders {
        id: "bench".to_owned(),
        source: "bench".to_owned(),
        type_: "bench".to_owned(),
        time_ms: None,
        traceparent: None,
    }
}

/// One item in ten gets half of the events; one event in 24 is a click.
fn event(id: usize, event_time_ms: i64) -> BehaviorEvent {
    let mixed = id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    let item = if mixed.is_multiple_of(2) {
        mixed % (ITEMS / 10)
    } else {
        mixed % ITEMS
    };
    BehaviorEvent {
        event_id: format!("{id:016x}"),
        user_id: format!("user-{}", mixed % 10_007),
        item_id: format!("{item:032x}"),
        item: format!("item-{item}"),
        kind: if mixed.is_multiple_of(24) {
            BehaviorKind::Click
        } else {
            BehaviorKind::Expose
        },
        value: None,
        event_time_ms,
        request_id: Some(format!("{:016x}", mixed / 24)),
        trace_info: None,
        scene_id: Some("home".to_owned()),
        position: i32::try_from(mixed % 24 + 1).ok(),
        attributes: BTreeMap::new(),
        source: "own".to_owned(),
    }
}

fn signal(item: usize) -> Signal {
    let number = |i: usize| ((item * 31 + i * 17) % 1_000) as f32 / 10_000.0;
    Signal {
        item_id: format!("{item:032x}"),
        uri: format!("file:///items/{item}"),
        document_version: 1,
        model_version: "bench".to_owned(),
        vector: (0..DIMENSION).map(number).collect(),
        title: Some(format!("The title of item number {item}")),
        language: Some("en".to_owned()),
        media_type: "text/plain".to_owned(),
        categories: vec!["news".to_owned(), "sports".to_owned()],
        tags: vec!["one".to_owned(), "two".to_owned()],
        key_phrases: vec!["a key phrase".to_owned(), "another one".to_owned()],
        near_duplicate_hash: 7,
        published_at_ms: Some(1_700_000_000_000),
        deleted: false,
        etag: None,
        size_bytes: None,
        metadata: BTreeMap::new(),
        origin: Origin {
            topic: "documents".to_owned(),
            partition: 0,
            offset: 0,
        },
    }
}
