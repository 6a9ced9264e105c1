//! `millrace lag`: how far the consumers are behind, and what that means.

mod report;
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use millrace_kafka::{Admin, KafkaConfig, LagHistory, PartitionLag, topics};

use self::report::Report;
use crate::cli::UsageError;
use crate::config::Config;
use crate::output::{Output, printable};
use crate::rollout::records;
use crate::session::TopicsSession;
use crate::stack::vectorizer_group;

/// Show how far each consumer group is behind, in records and in seconds, and what that means.
///
/// Status by Burrow's rules: OK has caught up or is about to; WARN goes on and falls behind; STALL has the
/// partition and does not move; STOP: records wait and nobody has the partition; REWIND went back. Seconds
/// are the age of the next unread record. Rate and time left need two looks.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these groups. Default: all whose name begins with `kafka.topic_prefix`.
    #[arg(long, value_name = "GROUP")]
    group: Vec<String>,
    /// All groups that the brokers know, other applications' too.
    #[arg(long, conflicts_with = "group")]
    all: bool,
    /// Seconds between the two looks that rate and time left come from; 0 looks once. Groups that have
    /// nothing to read are looked at once.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    over: f64,
    /// Look again and again: a terminal is drawn on, sorted by trouble; with --json, a line a look.
    #[arg(long)]
    watch: bool,
    /// Seconds between the looks of --watch.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 2.0,
        requires = "watch"
    )]
    every: f64,
}

/// The longest time between looks.
const MAX_SECONDS: f64 = 3_600.0;

pub async fn run(args: Args, config: Config, output: Output) -> anyhow::Result<ExitCode> {
    let over = seconds("--over", args.over, 0.0)?;
    let every = seconds("--every", args.every, 0.2)?;
    let session = TopicsSession::attach_or_start(&config)?;
    let watching = Watching::new(&args, &config, &session.kafka).await;
    let done = async {
        let mut watching = watching?;
        if args.watch {
            return watch::run(&mut watching, every, output).await;
        }
        let mut report = watching.look().await?;
        if report.is_behind() && !over.is_zero() {
            tokio::time::sleep(over).await;
            report = watching.look().await?;
        }
        output.result(&report, || report.text())
    }
    .await;
    session.close().await;
    done.map(|()| ExitCode::SUCCESS)
}

fn seconds(flag: &str, seconds: f64, least: f64) -> Result<Duration, UsageError> {
    if (least..=MAX_SECONDS).contains(&seconds) {
        return Ok(Duration::from_secs_f64(seconds));
    }
    Err(UsageError(format!(
        "{flag} {seconds} is not between {least} and {MAX_SECONDS} seconds"
    )))
}

/// Which groups are looked at, and what was seen of them.
struct Watching {
    admin: Admin,
    groups: Groups,
    /// Where nothing has read the documents yet, this group is to.
    vectorizer: String,
    documents: String,
    history: LagHistory,
}

enum Groups {
    Named(Vec<String>),
    Prefixed(String),
}

impl Watching {
    async fn new(args: &Args, config: &Config, kafka: &KafkaConfig) -> anyhow::Result<Self> {
        let index = &config.index.name;
        let last = records::read(kafka, index).await?;
        let index = records::written_index(last.as_ref(), index);
        let groups = if !args.group.is_empty() {
            Groups::Named(args.group.clone())
        } else if args.all {
            Groups::Prefixed(String::new())
        } else {
            Groups::Prefixed(kafka.topic_prefix.clone())
        };
        Ok(Self {
            admin: Admin::connect(kafka)?,
            groups,
            vectorizer: vectorizer_group(kafka, &index),
            documents: kafka.topic(topics::DOCUMENTS),
            history: LagHistory::default(),
        })
    }

    /// Looks once, and tells what all looks so far come to.
    async fn look(&mut self) -> anyhow::Result<Report> {
        let known = self.admin.groups().await?;
        let groups = match &self.groups {
            Groups::Named(named) => {
                for group in named {
                    ensure!(
                        known.contains(group),
                        "unknown group {group:?}; there are {}",
                        listed(&known)
                    );
                }
                named.clone()
            }
            Groups::Prefixed(prefix) => {
                let is_meant = |group: &&String| group.starts_with(prefix);
                known.iter().filter(is_meant).cloned().collect()
            }
        };
        let mut lags = self.admin.group_lags(&groups).await?;
        let is_there = |lag: &PartitionLag| lag.group == self.vectorizer;
        let is_meant = matches!(self.groups, Groups::Prefixed(_));
        if is_meant && !lags.partitions.iter().any(is_there) {
            lags.partitions.extend(self.unread_documents().await?);
        }
        self.history.observe(&lags.partitions);
        Ok(Report::new(lags, &self.history))
    }

    /// Documents wait for the vectorizer also where it has never run.
    async fn unread_documents(&self) -> anyhow::Result<Vec<PartitionLag>> {
        if !self.admin.list().await?.contains(&self.documents) {
            return Ok(Vec::new());
        }
        let documents = std::slice::from_ref(&self.documents);
        let mut lags = self.admin.group_lag(&self.vectorizer, documents).await?;
        self.admin.read_ages(&mut lags).await?;
        Ok(lags)
    }
}

fn listed(groups: &[String]) -> String {
    if groups.is_empty() {
        return "none yet".to_owned();
    }
    let names: Vec<_> = groups.iter().map(|group| printable(group)).collect();
    names.join(", ")
}
