//! `millrace-judge`: hand out obligations, inject faults, judge.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use millrace_judge::run::{Progress, Settings, run};
use millrace_judge::schedule::{Schedule, TargetKind};

/// Judges whether Millrace loses anything, or gets anything wrong, under faults.
///
/// Exits with 1 where a promise was broken, and with 2 where it could not judge.
#[derive(Debug, Parser)]
struct Arguments {
    /// Makes the workload and the schedule; the same number makes the same. Default: random.
    #[arg(long)]
    seed: Option<u64>,
    /// How long faults are injected, minutes.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// What is judged.
    #[arg(long, value_enum, default_value_t = TargetKind::Embedded)]
    target: TargetKind,
    /// Faults from this JSON file in place of those that the seed makes.
    #[arg(long, value_name = "FILE")]
    schedule: Option<PathBuf>,
    /// Print the schedule as JSON, and do nothing.
    #[arg(long)]
    print_schedule: bool,
    /// The binary to judge. Default: `millrace` beside this program.
    #[arg(long, value_name = "PATH", env = "MILLRACE_JUDGE_BINARY")]
    millrace: Option<PathBuf>,
    /// Keep data and logs here. Default: a temporary folder, kept only where something was found.
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Print the report as one JSON object.
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match judge(Arguments::parse()).await {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "millrace-judge: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn judge(arguments: Arguments) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        arguments.minutes > 0.0 && arguments.minutes <= 55.0,
        "--minutes is {}; give more than 0 and at most 55: records from the future must stay so",
        arguments.minutes
    );
    let schedule = arguments
        .schedule
        .as_deref()
        .map(read_schedule)
        .transpose()?;
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let mut command = format!(
        "millrace-judge --seed {seed} --minutes {} --target {}",
        arguments.minutes, arguments.target
    );
    if let Some(file) = &arguments.schedule {
        command.push_str(&format!(" --schedule {}", file.display()));
    }
    let settings = Settings {
        seed,
        minutes: arguments.minutes,
        target: arguments.target,
        schedule,
        binary: arguments.millrace,
        folder: arguments.folder,
        command,
    };
    if arguments.print_schedule {
        let schedule = serde_json::to_string_pretty(&settings.schedule()?)?;
        writeln!(std::io::stdout(), "{schedule}")?;
        return Ok(ExitCode::SUCCESS);
    }
    // A run that is cut off is repeated by it too. Nobody reads a log that is closed.
    let _ = writeln!(std::io::stderr(), "judge: this run is {}", settings.command);
    let bar = Bar::new(seed);
    let report = run(&settings, &bar)
        .await
        .with_context(|| format!("could not judge (seed {seed}): {}", settings.command))?;
    bar.0.finish_and_clear();
    let text = if arguments.json {
        serde_json::to_string(&report)?
    } else {
        report.text()
    };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(if report.violations.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn read_schedule(path: &std::path::Path) -> anyhow::Result<Schedule> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("can't read the schedule {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| {
        format!(
            "{} is no schedule; --print-schedule shows one",
            path.display()
        )
    })
}

/// A bar on a terminal, a line for each phase elsewhere.
struct Bar(ProgressBar);

impl Bar {
    fn new(seed: u64) -> Self {
        let bar = ProgressBar::new(0).with_style(
            ProgressStyle::with_template(
                "{elapsed_precise} [{bar:30}] fault {pos}/{len} (eta {eta}) {msg}",
            )
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.set_message(format!("seed {seed}"));
        bar.enable_steady_tick(Duration::from_millis(250));
        Self(bar)
    }
}

impl Progress for Bar {
    fn step(&self, number: usize, of: usize, obligations: u64) {
        self.0.set_length(of as u64);
        self.0.set_position(number as u64);
        self.0.set_message(format!("{obligations} obligations"));
    }

    fn phase(&self, what: &str) {
        self.0.set_message(what.to_owned());
        if !std::io::stderr().is_terminal() {
            // Nobody reads a log that is closed.
            let _ = writeln!(std::io::stderr(), "judge: {what}");
        }
    }
}
