//! `millrace dlq list`: how many dead letters there are, by topic, stage and reason.

use std::process::ExitCode;

use millrace_kafka::{KafkaConfig, ResolvedLetters};

use crate::dead_letters::{Filter, FilterArgs, Summary};
use crate::output::{Output, printable, table, time};

/// Count dead letters by topic, stage and reason.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    /// Also those that were replayed or discarded.
    #[arg(long)]
    all: bool,
}

pub async fn run(args: &Args, kafka: &KafkaConfig, output: Output) -> anyhow::Result<ExitCode> {
    let filter = Filter::new(&args.filter, kafka)?;
    let resolved = ResolvedLetters::read(kafka).await?;
    let summary = Summary::count(kafka, &filter, &resolved, args.all).await?;
    output.result(&summary, || text(&summary, args.all))?;
    Ok(ExitCode::SUCCESS)
}

fn text(summary: &Summary, all: bool) -> String {
    if summary.groups.is_empty() {
        return "no dead letters".to_owned();
    }
    let mut header = vec!["TOPIC", "STAGE", "REASON", "OPEN", "KEYS"];
    if all {
        header.extend(["REPLAYED", "DISCARDED"]);
    }
    header.extend(["OLDEST", "NEWEST", "EXAMPLE"]);
    let mut rows = vec![header.into_iter().map(str::to_owned).collect()];
    rows.extend(summary.groups.iter().map(|group| {
        let mut row = vec![
            group.topic.clone(),
            printable(&group.stage).into_owned(),
            printable(&group.error_type).into_owned(),
            group.count.to_string(),
            group.keys.to_string(),
        ];
        if all {
            row.extend([group.replayed.to_string(), group.discarded.to_string()]);
        }
        row.extend([
            time(group.oldest_ms),
            time(group.newest_ms),
            printable(&group.example).into_owned(),
        ]);
        row
    }));
    table(&rows)
}
