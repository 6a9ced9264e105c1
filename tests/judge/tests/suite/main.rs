//! The judge on fixed seeds: short, for every change. `make judge` runs long.
//!
//! Timing decides nothing here: whatever the machine does, no promise may be broken.

mod embedded;
mod mutations;
mod process_group;
mod real;

use std::path::Path;

use anyhow::{Context, ensure};
use millrace_judge::run::{Progress, Settings, run};
use millrace_judge::schedule::TargetKind;
use serde::Deserialize;

/// What a failing run tells beside its assertion: nextest shows it with the failure.
#[expect(clippy::print_stdout, reason = "a helper of tests prints as tests do")]
fn tell(line: &str) {
    println!("{line}");
}

/// A seed that is kept, and how long it runs here.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    seed: u64,
    minutes: f64,
    /// Why it is kept.
    #[serde(rename = "why")]
    _why: String,
}

/// Judges on each seed that is kept for a target in `seeds/`.
async fn judge(target: TargetKind) -> anyhow::Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("seeds/{target}.json"));
    let text =
        std::fs::read_to_string(&file).with_context(|| format!("can't read {}", file.display()))?;
    let seeds: Vec<Kept> = serde_json::from_str(&text)?;
    ensure!(!seeds.is_empty(), "{} names no seed", file.display());
    for Kept { seed, minutes, .. } in seeds {
        let settings = Settings {
            seed,
            minutes,
            target,
            schedule: None,
            binary: std::env::var_os("MILLRACE_JUDGE_BINARY").map(Into::into),
            folder: None,
            command: format!("millrace-judge --seed {seed} --minutes {minutes} --target {target}"),
        };
        let report = run(&settings, &Lines)
            .await
            .with_context(|| format!("could not judge: {}", settings.command))?;
        tell(&report.text());
        ensure!(report.violations.is_empty(), "{}", report.text());
        ensure!(report.obligations > 50, "hardly anything was handed out");
        ensure!(
            report.faults.values().sum::<u64>() > 5,
            "hardly any fault was injected: {:?}",
            report.faults
        );
    }
    Ok(())
}

struct Lines;

impl Progress for Lines {
    fn step(&self, _number: usize, _of: usize, _obligations: u64) {}

    fn phase(&self, what: &str) {
        tell(&format!("judge: {what}"));
    }
}
