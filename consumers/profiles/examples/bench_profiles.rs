//! How fast feedback becomes profiles: records a second, and the time from a click's feedback to its
//! user's profile as a reader sees it.
//!
//! ```text
//! bench_profiles [RECORDS]
//! ```
//! The broker is in a process of its own, so that the CPU time counted is the consumer's: decoding,
//! state, profiles, and the Kafka client's threads. One record in 24 is a click, the others exposures.

#![allow(
    clippy::cast_precision_loss,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark"
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use millrace_broker::{Broker, BrokerConfig};
use millrace_features::ProfileSettings;
use millrace_kafka::{Admin, KafkaConfig, Producer};
use millrace_profiles::{Profiles, ProfilesConfig, ProfilesDeps};
use millrace_schemas::{BehaviorEvent, BehaviorKind, EventHeaders, Feedback, FeedbackItem, Origin};
use millrace_state::EmbeddedState;

const USERS: usize = 1_000;
const ITEMS: usize = 2_000;
const DIMENSION: u16 = 384;
const CLICKS: usize = 200;
const DRAIN: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    let argument = std::env::args().nth(1);
    if argument.as_deref() == Some("broker") {
        return serve();
    }
    let records = argument.map_or(Ok(100_000), |count| count.parse())?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(bench(records))
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
    publish(&producer, 0..count, false).await?;

    let (began, cpu) = (Instant::now(), cpu_seconds()?);
    let profiles = Profiles::start(ProfilesDeps {
        kafka: kafka.clone(),
        producer: producer.clone(),
        registry: None,
        state: Arc::new(EmbeddedState::open(&folder.path().join("state"))?),
        model_version: "bench".to_owned(),
        vectors: None,
        fields: ProfileSettings::default().fields,
        config: ProfilesConfig::default(),
    })
    .await?;
    profiles.end_of_input().await?;
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds()? - cpu);
    let applied = profiles.stats().applied;
    anyhow::ensure!(applied == count as u64, "{applied} of {count} were applied");

    let reader = profiles.reader();
    let (mut latencies_ms, mut reads_us) = (Vec::new(), Vec::new());
    for number in count..count + CLICKS {
        let user = user(number);
        let before = clicks(&reader, &user).await?;
        let sent = Instant::now();
        publish(&producer, number..number + 1, true).await?;
        while clicks(&reader, &user).await? == before {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        latencies_ms.push(sent.elapsed().as_secs_f64() * 1e3);
        let asked = Instant::now();
        reader.get(&user).await?;
        reads_us.push(asked.elapsed().as_secs_f64() * 1e6);
    }
    let profile = reader.get(&user(0)).await?.context("a profile")?;
    latencies_ms.sort_by(f64::total_cmp);
    reads_us.sort_by(f64::total_cmp);
    profiles.shutdown(DRAIN).await;
    drop(broker.stdin.take());
    broker.wait()?;
    println!(
        "{{\"records\":{count},\"users\":{USERS},\"dimension\":{DIMENSION},\"seconds\":{seconds:.2},\
         \"records_per_s\":{:.0},\"cpu_seconds\":{cpu:.2},\"records_per_cpu_s\":{:.0},\
         \"profile_bytes\":{},\"click_to_profile_p50_ms\":{:.1},\"click_to_profile_p99_ms\":{:.1},\
         \"read_p50_us\":{:.0},\"read_p99_us\":{:.0}}}",
        count as f64 / seconds,
        count as f64 / cpu,
        profile.to_bytes().len(),
        latencies_ms[CLICKS / 2],
        latencies_ms[CLICKS * 99 / 100],
        reads_us[CLICKS / 2],
        reads_us[CLICKS * 99 / 100],
    );
    Ok(())
}

async fn clicks(reader: &millrace_profiles::ProfileReader, user: &str) -> Result<u64> {
    let profile = reader.get(user).await?;
    Ok(profile.map_or(0, |profile| profile.count(BehaviorKind::Click)))
}

async fn publish(producer: &Producer, numbers: std::ops::Range<usize>, click: bool) -> Result<()> {
    let headers = EventHeaders {
        id: "bench".to_owned(),
        source: "bench".to_owned(),
        type_: "bench".to_owned(),
        time_ms: None,
        traceparent: None,
    };
    let mut enqueued = Vec::new();
    for number in numbers {
        let feedback = feedback(number, click);
        let key = &feedback.event.user_id;
        enqueued.push(producer.enqueue(key, None, &feedback, &headers).await?);
    }
    for enqueued in enqueued {
        enqueued.acknowledged().await?;
    }
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

fn user(number: usize) -> String {
    format!("user-{}", number % USERS)
}

fn feedback(number: usize, click: bool) -> Feedback {
    let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    let item = mixed % ITEMS;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let kind = if click || mixed.is_multiple_of(24) {
        BehaviorKind::Click
    } else {
        BehaviorKind::Expose
    };
    let component = |at: u16| (item as f32 + f32::from(at)).sin() / f32::from(DIMENSION).sqrt();
    Feedback {
        event: BehaviorEvent {
            event_id: format!("{number:016x}"),
            user_id: user(number),
            item_id: format!("{item:032x}"),
            item: item.to_string(),
            kind,
            value: None,
            event_time_ms: i64::try_from(now.as_millis()).unwrap(),
            request_id: Some("bench".to_owned()),
            trace_info: None,
            scene_id: None,
            position: Some(1),
            attributes: BTreeMap::new(),
            source: "own".to_owned(),
        },
        origin: Origin {
            topic: "behavior.by-item".to_owned(),
            partition: i32::try_from(mixed % 6).unwrap(),
            offset: i64::try_from(number).unwrap(),
        },
        item: FeedbackItem {
            model_version: "bench".to_owned(),
            vector: (0..DIMENSION).map(component).collect(),
            title: Some(format!("Title {item}")),
            categories: vec![format!("category {}", item % 40)],
            key_phrases: (0..8)
                .map(|n| format!("phrase {}", (item + n) % 500))
                .collect(),
            ..FeedbackItem::default()
        },
        expected_ctr: Some(0.04),
    }
}
