//! `millrace dlq list`: how many dead letters there are, by topic, stage and reason.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::process::ExitCode;

use millrace_kafka::{KafkaConfig, ResolvedLetters, ScannedLetter};
use millrace_schemas::Resolution;
use serde::Serialize;

use super::filter::{Filter, FilterArgs};
use super::visit;
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

#[derive(Debug, Default, Serialize)]
struct Report {
    /// Open letters.
    total: u64,
    replayed: u64,
    discarded: u64,
    oldest_ms: Option<i64>,
    newest_ms: Option<i64>,
    groups: Vec<Group>,
}

/// Letters of one topic and stage with one reason.
#[derive(Debug, Default, Serialize)]
struct Group {
    topic: String,
    stage: String,
    error_type: String,
    /// Open ones.
    count: u64,
    replayed: u64,
    discarded: u64,
    /// When the first and the last of them failed first: of the open ones, with `--all` of all.
    oldest_ms: Option<i64>,
    newest_ms: Option<i64>,
    example: String,
}

pub async fn run(args: &Args, kafka: &KafkaConfig, output: Output) -> anyhow::Result<ExitCode> {
    let filter = Filter::new(&args.filter, kafka)?;
    let resolved = ResolvedLetters::read(kafka).await?;
    let mut groups: BTreeMap<(String, String, String), Group> = BTreeMap::new();
    visit(kafka, &filter, &resolved, |scanned| {
        if args.all || scanned.resolved.is_none() {
            let letter = &scanned.letter;
            let key = (
                letter.position.topic.clone(),
                letter.stage.clone(),
                letter.error_type.clone(),
            );
            groups.entry(key).or_default().count(scanned);
        }
        Ok(ControlFlow::Continue(()))
    })
    .await?;
    let mut report = Report::default();
    for ((topic, stage, error_type), group) in groups {
        report.total += group.count;
        report.replayed += group.replayed;
        report.discarded += group.discarded;
        report.oldest_ms = report.oldest_ms.into_iter().chain(group.oldest_ms).min();
        report.newest_ms = report.newest_ms.max(group.newest_ms);
        report.groups.push(Group {
            topic,
            stage,
            error_type,
            ..group
        });
    }
    output.result(&report, || text(&report, args.all))?;
    Ok(ExitCode::SUCCESS)
}

impl Group {
    fn count(&mut self, scanned: ScannedLetter) {
        let failed_at_ms = scanned.letter.failed_at_ms();
        self.oldest_ms = self.oldest_ms.into_iter().chain(failed_at_ms).min();
        self.newest_ms = self.newest_ms.max(failed_at_ms);
        if self.example.is_empty() {
            self.example = scanned.letter.message;
        }
        match scanned.resolved.map(|resolved| resolved.resolution) {
            None => self.count += 1,
            Some(Resolution::Discarded) => self.discarded += 1,
            // One that only a newer version knows is not open either.
            Some(Resolution::Replayed | Resolution::Unknown) => self.replayed += 1,
        }
    }
}

fn text(report: &Report, all: bool) -> String {
    if report.groups.is_empty() {
        return "no dead letters".to_owned();
    }
    let mut header = vec!["TOPIC", "STAGE", "REASON", "OPEN"];
    if all {
        header.extend(["REPLAYED", "DISCARDED"]);
    }
    header.extend(["OLDEST", "NEWEST", "EXAMPLE"]);
    let mut rows = vec![header.into_iter().map(str::to_owned).collect()];
    rows.extend(report.groups.iter().map(|group| {
        let mut row = vec![
            group.topic.clone(),
            printable(&group.stage).into_owned(),
            printable(&group.error_type).into_owned(),
            group.count.to_string(),
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
