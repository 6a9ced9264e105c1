//! One engine of `make bench-encoder`: encodes texts when told to and says how long it took.
//!
//! Protocol (shared with `infra/bench/encoder/peers.py`): started with the model folder, the number
//! of threads and a file of texts (one JSON string a line), it prints `ready` and then reads lines
//! `arrival` or `sorted` from stdin. For each it encodes all texts, in order of arrival 32 at a time or
//! longest first and all at once, and answers with a line of JSON: wall and CPU seconds, tokens. `vectors PATH` writes the vectors as little-endian
//! f32 in arrival order; `latency N` times N single short texts.

use std::io::{BufRead, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use millrace_models::{Encoder, EncoderOptions};

/// Texts that are there at a time when they come as a stream; the peers' batch.
const ARRIVING: usize = 32;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, threads, texts] = arguments.as_slice() else {
        bail!("usage: bench_encoder MODEL_FOLDER THREADS TEXTS.jsonl");
    };
    let texts: Vec<String> = std::fs::read_to_string(texts)
        .with_context(|| format!("failed to read `{texts}`"))?
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let options = EncoderOptions {
        threads: Some(threads.parse::<NonZeroUsize>()?),
        ..EncoderOptions::default()
    };
    let encoder = Encoder::load(Path::new(folder), options)?;
    let arrival: Vec<&str> = texts.iter().map(String::as_str).collect();
    let mut sorted = arrival.clone();
    sorted.sort_by_key(|text| std::cmp::Reverse(text.len()));
    let tokens: usize = arrival
        .iter()
        .map(|text| encoder.tokenizer().encode(text).map(|ids| ids.len()))
        .sum::<Result<_, _>>()
        .map_err(|error| anyhow::anyhow!(error))?;

    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "ready")?;
    for command in std::io::stdin().lock().lines() {
        let command = command?;
        let answer = match command.split_once(' ').unwrap_or((command.as_str(), "")) {
            ("arrival", _) => timed(&encoder, &arrival, ARRIVING, tokens)?,
            ("sorted", _) => timed(&encoder, &sorted, sorted.len(), tokens)?,
            ("vectors", path) => {
                let vectors = encoder.encode(&arrival)?;
                let bytes: Vec<u8> = vectors
                    .iter()
                    .flatten()
                    .flat_map(|value| value.to_le_bytes())
                    .collect();
                std::fs::write(path, bytes).with_context(|| format!("failed to write `{path}`"))?;
                serde_json::json!({"vectors": vectors.len()})
            }
            ("latency", count) => latency(&encoder, &arrival, count.parse()?)?,
            (other, _) => bail!("unknown command `{other}`"),
        };
        writeln!(stdout, "{answer}")?;
        stdout.flush()?;
    }
    Ok(())
}

fn timed(
    encoder: &Encoder,
    texts: &[&str],
    at_a_time: usize,
    tokens: usize,
) -> Result<serde_json::Value> {
    let (started, cpu) = (Instant::now(), cpu_time()?);
    for batch in texts.chunks(at_a_time.max(1)) {
        encoder.encode(batch)?;
    }
    let (wall, cpu) = (started.elapsed(), cpu_time()?.saturating_sub(cpu));
    Ok(serde_json::json!({
        "texts": texts.len(),
        "tokens": tokens,
        "wall_seconds": wall.as_secs_f64(),
        "cpu_seconds": cpu.as_secs_f64(),
    }))
}

/// Median time of a search query: the first eight words of a text, alone.
fn latency(encoder: &Encoder, texts: &[&str], count: usize) -> Result<serde_json::Value> {
    let mut times = Vec::with_capacity(count);
    for text in texts.iter().cycle().take(count) {
        let query = text
            .split_whitespace()
            .take(8)
            .collect::<Vec<_>>()
            .join(" ");
        let started = Instant::now();
        encoder.encode(&[&query])?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let median = times
        .get(times.len() / 2)
        .context("`latency` needs a count above 0")?;
    Ok(serde_json::json!({"queries": count, "p50_ms": median}))
}

/// User and system time of this process, all threads; Linux counts it in 10 ms.
fn cpu_time() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The command may hold spaces; the fields after its closing bracket may not.
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks = |field: usize| -> Result<u64> {
        Ok(fields
            .get(field)
            .context("/proc/self/stat is too short")?
            .parse()?)
    };
    // utime and stime, fields 14 and 15 of proc(5); 100 ticks a second on every Linux.
    Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
}
