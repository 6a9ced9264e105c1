//! Produce and consume rates of the embedded broker through librdkafka, and its memory.
//!
//! `cargo run --release -p millrace-broker --example bench -- [RECORDS] [BYTES]`
//! The broker is a process of its own (`cargo build --release -p millrace-broker` first), so that its
//! memory is measured alone. Ends with one line of JSON.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _killed = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn resident_mib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .context("no VmRSS")?;
    Ok(line
        .split_whitespace()
        .nth(1)
        .context("no value")?
        .parse::<u64>()?
        / 1024)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the queue tells nobody when it has room again"
)]
fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let records: usize = arguments.next().map_or(Ok(100_000), |text| text.parse())?;
    let bytes: usize = arguments.next().map_or(Ok(1024), |text| text.parse())?;
    let dir = tempfile::tempdir()?;
    let program = std::env::current_exe()?
        .parent()
        .and_then(|examples| examples.parent())
        .context("no folder")?
        .join("millrace-broker");
    let mut child = Command::new(program)
        .arg(dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut bootstrap = String::new();
    BufReader::new(child.stdout.take().context("no stdout")?).read_line(&mut bootstrap)?;
    let server = Server(child);
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap.trim());

    let admin: AdminClient<DefaultClientContext> = config.create()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let topic = NewTopic::new("bench", 6, TopicReplication::Fixed(1));
    runtime.block_on(admin.create_topics([&topic], &AdminOptions::new()))?;
    let started_mib = resident_mib(server.0.id())?;

    let mut produce = config.clone();
    produce
        .set("enable.idempotence", "true")
        .set("linger.ms", "10")
        .set("queue.buffering.max.messages", "20000");
    let producer: ThreadedProducer<DefaultProducerContext> = produce.create()?;
    let payload: Vec<u8> = (0..bytes)
        .map(|at| b' ' + u8::try_from(at * 31 % 64).unwrap_or(0))
        .collect();
    let start = Instant::now();
    for number in 0..records {
        let key = number.to_le_bytes();
        let mut record = Some(
            BaseRecord::<[u8], [u8]>::to("bench")
                .key(&key)
                .payload(&payload),
        );
        while let Some(next) = record.take() {
            if let Err((_, back)) = producer.send(next) {
                std::thread::sleep(Duration::from_millis(1));
                record = Some(back);
            }
        }
    }
    producer.flush(Duration::from_secs(120))?;
    let produced = start.elapsed();

    config
        .set("group.id", "bench")
        .set("auto.offset.reset", "earliest");
    let consumer: BaseConsumer = config.create()?;
    consumer.subscribe(&["bench"])?;
    let (mut first, mut seen) = (None, 0);
    while seen < records {
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) if message.payload_len() == bytes => {
                first.get_or_insert_with(Instant::now);
                seen += 1;
            }
            Some(Ok(message)) => bail!("a record of {} bytes", message.payload_len()),
            // None comes for a rebalance too.
            Some(Err(_)) | None if start.elapsed() < Duration::from_secs(240) => {}
            Some(Err(_)) | None => bail!("{seen} of {records} records came"),
        }
    }
    let consumed = first.map(|first| first.elapsed()).unwrap_or_default();
    let rate = |took: Duration| (records as f64 / took.as_secs_f64()).round();
    let result = serde_json::json!({
        "records": records,
        "bytes_per_record": bytes,
        "produced_per_second": rate(produced),
        "consumed_per_second": rate(consumed),
        "broker_rss_mib_at_start": started_mib,
        "broker_rss_mib_after": resident_mib(server.0.id())?,
    });
    writeln!(std::io::stdout(), "{result}")?;
    Ok(())
}
