//! `millrace lag`: how far the consumers are behind.

use std::process::ExitCode;

use anyhow::ensure;
use millrace_kafka::{Admin, topics};
use serde::Serialize;

use crate::config::Config;
use crate::output::{Output, table};
use crate::session::TopicsSession;
use crate::stack::vectorizer_group;

/// Show how far each consumer group is behind, in records and in seconds.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this group. Default: the vectorizer's.
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
}

#[derive(Debug, Serialize)]
struct Report {
    partitions: Vec<Partition>,
}

#[derive(Debug, Serialize)]
struct Partition {
    group: String,
    topic: String,
    partition: i32,
    current_offset: i64,
    end_offset: i64,
    lag: i64,
    /// Age of the next unread record; 0 where there is none.
    lag_seconds: f64,
}

pub async fn run(args: Args, config: Config, output: Output) -> anyhow::Result<ExitCode> {
    // The vectorizer's may have read nothing yet; any other that was named must be there.
    let must_exist = args.group.is_some();
    let group = args.group.unwrap_or_else(|| vectorizer_group(&config));
    let session = TopicsSession::attach_or_start(&config)?;
    let lags = async {
        let admin = Admin::connect(&session.kafka)?;
        if must_exist {
            let groups = admin.groups().await?;
            ensure!(
                groups.contains(&group),
                "unknown group {group:?}; there are {}",
                named(&groups)
            );
        }
        // One that was named is asked where it has committed.
        let documents = (!must_exist).then(|| session.kafka.topic(topics::DOCUMENTS));
        let topics: Vec<String> = documents.into_iter().collect();
        Ok(admin.group_lag(&group, &topics).await?)
    }
    .await;
    session.close().await;
    let partitions = lags?
        .into_iter()
        .map(|lag| Partition {
            group: group.clone(),
            topic: lag.topic,
            partition: lag.partition,
            current_offset: lag.current,
            end_offset: lag.end,
            lag: lag.lag,
            lag_seconds: lag.lag_seconds,
        })
        .collect();
    let report = Report { partitions };
    output.result(&report, || text(&report))?;
    Ok(ExitCode::SUCCESS)
}

fn named(groups: &[String]) -> String {
    if groups.is_empty() {
        return "none yet".to_owned();
    }
    groups.join(", ")
}

fn text(report: &Report) -> String {
    let header = [
        "GROUP",
        "TOPIC",
        "PARTITION",
        "CURRENT",
        "END",
        "LAG",
        "LAG SECONDS",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(report.partitions.iter().map(|partition| {
        vec![
            partition.group.clone(),
            partition.topic.clone(),
            partition.partition.to_string(),
            partition.current_offset.to_string(),
            partition.end_offset.to_string(),
            partition.lag.to_string(),
            format!("{:.1}", partition.lag_seconds),
        ]
    }));
    table(&rows)
}
