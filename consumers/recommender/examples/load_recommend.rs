//! Asks a running recommender at a fixed rate, whether it keeps up or not, and prints one line of JSON.
//!
//! ```sh
//! cargo run --release -p millrace-recommender --example load_recommend -- \
//!   ADDRESS USERS [requests a second] [seconds]     # 127.0.0.1:7070, a file with a user a line
//! ```
//!
//! Requests have a schedule, and a latency is the time from the *scheduled* moment to the answer's last
//! byte: one that had to wait, for a connection or for this program, has waited (no coordinated
//! omission). Each of the connections has every n-th request, so that a slow answer delays others only
//! where it takes longer than all connections' turns.

#![allow(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

const CONNECTIONS: usize = 64;
/// At the start, not measured.
const WARM_UP: Duration = Duration::from_secs(5);
/// How much later than scheduled a request may be sent before the schedule was not kept.
const ON_TIME: Duration = Duration::from_millis(1);

/// What became of one request.
struct Measured {
    /// From the scheduled moment.
    took: Duration,
    /// How late it was sent.
    late: Duration,
    fallback: Option<String>,
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments
        .next()
        .context("give the address, as 127.0.0.1:7070")?;
    let users = arguments.next().context("give a file with a user a line")?;
    let rate: f64 = arguments.next().as_deref().unwrap_or("200").parse()?;
    let seconds: f64 = arguments.next().as_deref().unwrap_or("30").parse()?;
    let users = std::fs::read_to_string(&users).with_context(|| users.clone())?;
    let users: Arc<[String]> = users.lines().map(str::to_owned).collect();
    ensure!(!users.is_empty() && rate > 0.0, "no users, or no rate");

    let warm_up = (WARM_UP.as_secs_f64() * rate) as usize;
    let requests = warm_up + (seconds * rate) as usize;
    let begin = Instant::now() + Duration::from_millis(200);
    let connection = |first: usize| {
        let (address, users) = (address.clone(), Arc::clone(&users));
        std::thread::spawn(move || {
            let mut connection = Connection::open(&address)?;
            let mut measured = Vec::new();
            for n in (first..requests).step_by(CONNECTIONS) {
                let scheduled = begin + Duration::from_secs_f64(n as f64 / rate);
                #[expect(
                    clippy::disallowed_methods,
                    reason = "a thread of its own, which keeps a schedule"
                )]
                std::thread::sleep(scheduled.saturating_duration_since(Instant::now()));
                let late = scheduled.elapsed();
                let body = connection.ask(&address, &users[n * 7_919 % users.len()])?;
                let took = scheduled.elapsed();
                // Whatever else it costs to look at the answer is not the recommender's time.
                let fallback = fallback(&body)?;
                if n >= warm_up {
                    measured.push(Measured {
                        took,
                        late,
                        fallback,
                    });
                }
            }
            anyhow::Ok(measured)
        })
    };
    let connections: Vec<_> = (0..CONNECTIONS).map(connection).collect();
    let mut measured = Vec::new();
    for connection in connections {
        let ended = connection.join();
        let ended = ended.map_err(|_| anyhow::anyhow!("a connection panicked"))?;
        measured.extend(ended?);
    }
    println!("{}", report(rate, &measured));
    Ok(())
}

fn fallback(body: &[u8]) -> anyhow::Result<Option<String>> {
    let answer: Value = serde_json::from_slice(body)?;
    let items = answer["items"]
        .as_array()
        .context("an answer without items")?;
    ensure!(!items.is_empty(), "an empty answer: {answer}");
    Ok(answer["fallback"]["reason"].as_str().map(str::to_owned))
}

fn report(rate: f64, measured: &[Measured]) -> Value {
    let mut took: Vec<Duration> = measured.iter().map(|it| it.took).collect();
    took.sort();
    let at = |share: f64| {
        let at = ((took.len().max(1) - 1) as f64 * share).round() as usize;
        let ms = took.get(at).copied().unwrap_or_default().as_secs_f64() * 1e3;
        (ms * 100.0).round() / 100.0
    };
    let share = |count: usize| (count as f64 / measured.len().max(1) as f64 * 1e4).round() / 1e4;
    let mut fallbacks = BTreeMap::<&str, usize>::new();
    for reason in measured.iter().filter_map(|it| it.fallback.as_deref()) {
        *fallbacks.entry(reason).or_default() += 1;
    }
    json!({
        "load_rate_per_second": rate,
        "load_requests": measured.len(),
        "load_p50_ms": at(0.5),
        "load_p90_ms": at(0.9),
        "load_p99_ms": at(0.99),
        "load_max_ms": at(1.0),
        "load_sent_late_share": share(measured.iter().filter(|it| it.late > ON_TIME).count()),
        "load_fallback_share": share(fallbacks.values().sum()),
        "load_fallbacks": fallbacks,
    })
}

/// A connection that is kept open.
struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    fn open(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| address.to_owned())?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::with_capacity(64 << 10, stream),
        })
    }

    /// The body of an answer.
    fn ask(&mut self, address: &str, user: &str) -> anyhow::Result<Vec<u8>> {
        let request = format!(
            "GET /v1/instances/load/recommend?user_id={user} HTTP/1.1\r\nhost: {address}\r\n\r\n"
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        ensure!(line.starts_with("HTTP/1.1 200"), "{line:?}");
        let mut length = None;
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            match line.trim_end().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = Some(value.parse()?);
                }
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length.context("an answer without its length")?];
        self.stream.read_exact(&mut body)?;
        Ok(body)
    }
}
