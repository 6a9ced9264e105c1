//! `millrace dlq export FILE`: letters as lines of JSON.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use millrace_kafka::{KafkaConfig, ResolvedLetters};
use serde_json::json;

use crate::dead_letters::{Filter, FilterArgs, describe, visit};
use crate::output::{Output, counted, refuse_existing};

/// Write dead letters to a file, one JSON object a line: decoded, and raw in base64.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file, or `-` for standard output.
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    #[command(flatten)]
    filter: FilterArgs,
    /// Also those that were replayed or discarded.
    #[arg(long)]
    all: bool,
    /// Replace a file that is there.
    #[arg(long)]
    force: bool,
}

pub async fn run(args: &Args, kafka: &KafkaConfig, output: Output) -> anyhow::Result<ExitCode> {
    let filter = Filter::new(&args.filter, kafka)?;
    if args.file == Path::new("-") {
        let stdout = BufWriter::new(std::io::stdout());
        match write(args, kafka, &filter, stdout).await {
            // A reader that has seen enough.
            Err(error) if is_broken_pipe(&error) => {}
            written => {
                written?;
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    refuse_existing(&args.file, args.force)?;
    // Beside the file and then in its place: nobody takes half an export for a whole one.
    let mut staging = args.file.clone().into_os_string();
    staging.push(format!(".{}.new", std::process::id()));
    let staging = PathBuf::from(staging);
    let written = to_file(args, kafka, &filter, &staging).await;
    let written = written.and_then(|letters| {
        std::fs::rename(&staging, &args.file)?;
        Ok(letters)
    });
    if written.is_err() {
        // The error that is reported is why it is not whole.
        let _ = std::fs::remove_file(&staging);
    }
    let letters = written.with_context(|| format!("can't export to {}", args.file.display()))?;
    let report = json!({ "file": args.file, "letters": letters });
    output.result(&report, || {
        let letters = counted(letters, "dead letter");
        format!("{letters} in {}", args.file.display())
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn to_file(
    args: &Args,
    kafka: &KafkaConfig,
    filter: &Filter,
    path: &Path,
) -> anyhow::Result<u64> {
    let file = File::create_new(path)?;
    let letters = write(args, kafka, filter, BufWriter::new(file.try_clone()?)).await?;
    file.sync_all()?;
    Ok(letters)
}

async fn write(
    args: &Args,
    kafka: &KafkaConfig,
    filter: &Filter,
    mut out: impl Write,
) -> anyhow::Result<u64> {
    let resolved = ResolvedLetters::read(kafka).await?;
    let mut letters = 0;
    visit(kafka, filter, &resolved, |scanned| {
        if args.all || scanned.resolved.is_none() {
            serde_json::to_writer(&mut out, &describe(&scanned)).map_err(std::io::Error::from)?;
            out.write_all(b"\n")?;
            letters += 1;
        }
        Ok(ControlFlow::Continue(()))
    })
    .await?;
    out.flush()?;
    Ok(letters)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
