//! `millrace topics create|list|describe|reset-offsets`.

mod reset_offsets;

use std::process::ExitCode;

use millrace_kafka::topics::declared;
use millrace_kafka::{Admin, Created, KafkaConfig, TopicDescription};
use serde::Serialize;
use serde_json::json;

use crate::config::Config;
use crate::output::{Output, table};
use crate::session::TopicsSession;
use crate::topic_name::full_name;

/// Create and inspect the topics that Millrace declares; move where groups resume from.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Create those that are missing; tell how those that are there differ from their declaration.
    Create,
    /// List the declared topics and what the brokers have of them.
    List,
    /// Describe one topic: settings, partitions, offsets.
    Describe {
        /// The declared name, such as `signals`, or the full one.
        topic: String,
    },
    ResetOffsets(reset_offsets::Args),
}

pub async fn run(args: Args, config: Config, output: Output) -> anyhow::Result<ExitCode> {
    let session = match args.action {
        Action::Create => TopicsSession::attach_or_make(&config)?,
        Action::List | Action::Describe { .. } | Action::ResetOffsets(_) => {
            TopicsSession::attach_or_start(&config)?
        }
    };
    let done = act(args.action, &session.kafka, output).await;
    session.close().await;
    done
}

async fn act(action: Action, kafka: &KafkaConfig, output: Output) -> anyhow::Result<ExitCode> {
    let admin = Admin::connect(kafka)?;
    match action {
        Action::Create => create(&admin, output).await?,
        Action::List => list(&admin, kafka, output).await?,
        Action::Describe { topic } => describe(&admin, &full_name(&topic, kafka)?, output).await?,
        Action::ResetOffsets(args) => return reset_offsets::run(&args, kafka, output).await,
    }
    Ok(ExitCode::SUCCESS)
}

async fn create(admin: &Admin, output: Output) -> anyhow::Result<()> {
    #[derive(Default, Serialize)]
    struct Report {
        created: Vec<String>,
        existing: Vec<String>,
        differing: Vec<serde_json::Value>,
    }
    let mut report = Report::default();
    let mut lines = Vec::new();
    for topic in admin.create_declared().await? {
        match topic.result {
            Created::Created => {
                lines.push(format!("created   {}", topic.topic));
                report.created.push(topic.topic);
            }
            Created::Existing => {
                lines.push(format!("existing  {}", topic.topic));
                report.existing.push(topic.topic);
            }
            Created::Differs { differences } => {
                lines.push(format!(
                    "differs   {}: {}",
                    topic.topic,
                    differences.join("; ")
                ));
                report
                    .differing
                    .push(json!({ "topic": topic.topic, "differences": differences }));
            }
        }
    }
    output.result(&report, || lines.join("\n"))
}

async fn list(admin: &Admin, kafka: &KafkaConfig, output: Output) -> anyhow::Result<()> {
    let present = admin.list().await?;
    let mut topics = Vec::new();
    for topic in declared() {
        let name = kafka.topic(&topic.name);
        let description = if present.contains(&name) {
            Some(admin.describe(&name).await?)
        } else {
            None
        };
        topics.push(json!({
            "topic": name,
            "present": description.is_some(),
            "partitions": description.as_ref().map_or(0, |topic| topic.partitions.len()),
            "records": description.as_ref().map_or(0, records),
            "cleanup_policy": topic.cleanup_policy,
        }));
    }
    output.result(&json!({ "topics": topics }), || {
        let mut rows = vec![
            ["TOPIC", "PARTITIONS", "RECORDS", "CLEANUP"]
                .map(str::to_owned)
                .to_vec(),
        ];
        rows.extend(topics.iter().map(|topic| {
            let text = |key: &str| topic[key].to_string().trim_matches('"').to_owned();
            let partitions = if topic["present"] == true {
                text("partitions")
            } else {
                "missing".to_owned()
            };
            vec![
                text("topic"),
                partitions,
                text("records"),
                text("cleanup_policy"),
            ]
        }));
        table(&rows)
    })
}

fn records(topic: &TopicDescription) -> i64 {
    topic
        .partitions
        .iter()
        .filter_map(|partition| partition.ends)
        .map(|ends| ends.next - ends.oldest)
        .sum()
}

async fn describe(admin: &Admin, name: &str, output: Output) -> anyhow::Result<()> {
    let topic = admin.describe(name).await?;
    let partitions: Vec<serde_json::Value> = topic
        .partitions
        .iter()
        .map(|partition| {
            json!({
                "partition": partition.partition,
                "leader": partition.leader,
                "replicas": partition.replicas,
                "start_offset": partition.ends.map(|ends| ends.oldest),
                "end_offset": partition.ends.map(|ends| ends.next),
            })
        })
        .collect();
    let report = json!({
        "topic": topic.name,
        "cleanup_policy": topic.settings.get("cleanup.policy"),
        "settings": topic.settings,
        "partitions": partitions,
    });
    output.result(&report, || {
        let mut rows = vec![
            ["PARTITION", "LEADER", "REPLICAS", "START", "END"]
                .map(str::to_owned)
                .to_vec(),
        ];
        let offset = |offset: Option<i64>| offset.map_or("-".to_owned(), |it| it.to_string());
        rows.extend(topic.partitions.iter().map(|partition| {
            vec![
                partition.partition.to_string(),
                partition.leader.to_string(),
                partition.replicas.to_string(),
                offset(partition.ends.map(|ends| ends.oldest)),
                offset(partition.ends.map(|ends| ends.next)),
            ]
        }));
        let settings: Vec<String> = topic
            .settings
            .iter()
            .map(|(name, value)| format!("  {name} = {value}"))
            .collect();
        format!("{}\n{}\n{}", topic.name, settings.join("\n"), table(&rows))
    })
}
