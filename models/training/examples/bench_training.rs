//! Training steps for `infra/bench/training/step_time.py`: `bench_training MODEL THREADS BATCHES.json`.
//!
//! BATCHES.json is `[[queries, [ids, …]], …]`: batches of token sequences, queries first, then as many
//! positives, then negatives. Prints `ready`; each line `COUNT` on standard input asks for so many
//! steps, each answered by a line of JSON. The peer, `peer.py`, has the same protocol.

use std::io::{BufRead, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use candle_core::Device;
use millrace_models::ModelConfig;
use millrace_training::{
    AdamWOptions, Batch, ContrastiveLoss, Moments, Network, ParameterLayout, Trainer,
};
use serde_json::json;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, threads, batches] = arguments.as_slice() else {
        anyhow::bail!("usage: bench_training MODEL THREADS BATCHES.json");
    };
    let batches: Vec<(usize, Vec<Vec<u32>>)> =
        serde_json::from_slice(&std::fs::read(batches).context("no batches")?)?;
    let config = ModelConfig::read(Path::new(model))?;
    let layout = ParameterLayout::new(&config);
    let parameters = layout.read(Path::new(model))?;
    let loss = ContrastiveLoss {
        scale: 20.0,
        dimensions: vec![config.hidden_size],
    };
    let mut trainer = Trainer::new(
        Network::new(&config, &layout, &Device::Cpu, threads.parse()?)?,
        layout,
        parameters.clone(),
        Moments::zero(parameters.len()),
        loss,
        AdamWOptions::default(),
    );
    let mut out = std::io::stdout();
    writeln!(out, "ready")?;
    let mut step = 0;
    for line in std::io::stdin().lock().lines() {
        for _ in 0..line?.trim().parse::<usize>()? {
            let (queries, sequences) = &batches[step % batches.len()];
            let batch = Batch {
                sequences: sequences.iter().map(Vec::as_slice).collect(),
                queries: *queries,
                masked: Vec::new(),
            };
            step += 1;
            let (started, cpu) = (Instant::now(), cpu_time()?);
            let loss = trainer.step(&batch, step, 3e-5)?;
            let (wall, cpu) = (started.elapsed(), cpu_time()?.saturating_sub(cpu));
            let answer = json!({
                "loss": loss,
                "seconds": wall.as_secs_f64(),
                "cpu_seconds": cpu.as_secs_f64(),
            });
            writeln!(out, "{answer}")?;
        }
    }
    Ok(())
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
        let text = fields.get(field).context("/proc/self/stat is too short")?;
        Ok(text.parse()?)
    };
    // utime and stime, fields 14 and 15 of proc(5); 100 ticks a second on every Linux.
    Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
}
