//! `millrace dlq list|show`: what could not be processed, and why.

use std::collections::{BTreeMap, HashSet};
use std::process::ExitCode;

use millrace_kafka::{DeadLetter, KafkaConfig, ReadFrom, read_dead_letters, topics};
use serde::Serialize;
use serde_json::{Value, json};

use super::peek;
use crate::config::Config;
use crate::output::{Output, table};
use crate::session::TopicsSession;

/// Inspect the dead-letter topic.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Count dead letters by stage and reason.
    List,
    /// Show dead letters: reason, origin and the original record.
    Show {
        /// Only this origin, as `partition/offset`.
        #[arg(long, value_name = "PARTITION/OFFSET")]
        origin: Option<String>,
        /// At most so many.
        #[arg(short = 'n', long, default_value_t = 10, value_name = "N")]
        count: usize,
    },
}

/// Dead letters of one stage with one reason.
#[derive(Debug, Serialize)]
struct Group {
    stage: String,
    error_type: String,
    count: u64,
    oldest_ms: Option<i64>,
    example: String,
}

pub async fn run(args: Args, config: Config, output: Output) -> anyhow::Result<ExitCode> {
    let session = TopicsSession::attach_or_start(&config)?;
    let done = match &args.action {
        Action::List => list(&session.kafka, output).await,
        Action::Show { origin, count } => {
            show(&session.kafka, origin.as_deref(), *count, output).await
        }
    };
    session.close().await;
    done.map(|()| ExitCode::SUCCESS)
}

async fn list(kafka: &KafkaConfig, output: Output) -> anyhow::Result<()> {
    let mut groups: BTreeMap<(String, String), Group> = BTreeMap::new();
    let mut total = 0u64;
    let mut seen = HashSet::new();
    let mut letters = read_dead_letters(kafka, topics::DOCUMENTS, &ReadFrom::Beginning).await?;
    while let Some(record) = letters.next().await {
        let letter = DeadLetter::from_record(record?);
        // A crash between dead letter and acknowledgement repeats it under the same origin.
        if !seen.insert(letter.identity()) {
            continue;
        }
        total += 1;
        let failed_at = letter.first_failed_at_ms.or(letter.original.timestamp_ms);
        let key = (letter.stage.clone(), letter.error_type.clone());
        let group = groups.entry(key).or_insert_with(|| Group {
            stage: letter.stage.clone(),
            error_type: letter.error_type.clone(),
            count: 0,
            oldest_ms: failed_at,
            example: letter.message.clone(),
        });
        group.count += 1;
        group.oldest_ms = group.oldest_ms.into_iter().chain(failed_at).min();
    }
    let groups: Vec<Group> = groups.into_values().collect();
    let report = json!({ "total": total, "groups": groups });
    output.result(&report, || {
        if groups.is_empty() {
            return "no dead letters".to_owned();
        }
        let mut rows = vec![
            ["STAGE", "REASON", "COUNT", "EXAMPLE"]
                .map(str::to_owned)
                .to_vec(),
        ];
        rows.extend(groups.iter().map(|group| {
            vec![
                group.stage.clone(),
                group.error_type.clone(),
                group.count.to_string(),
                group.example.clone(),
            ]
        }));
        table(&rows)
    })
}

async fn show(
    kafka: &KafkaConfig,
    origin: Option<&str>,
    count: usize,
    output: Output,
) -> anyhow::Result<()> {
    let mut records = Vec::new();
    let mut letters = read_dead_letters(kafka, topics::DOCUMENTS, &ReadFrom::Beginning).await?;
    while records.len() < count {
        let Some(record) = letters.next().await else {
            break;
        };
        let letter = DeadLetter::from_record(record?);
        let place = format!("{}/{}", letter.origin.partition, letter.origin.offset);
        if origin.is_none_or(|origin| origin == place) {
            records.push(describe(&letter));
        }
    }
    output.result(&json!({ "records": records }), || {
        if records.is_empty() {
            return "no dead letters there".to_owned();
        }
        let text = |record: &Value| {
            format!(
                "{}/{}/{}  {}: {}\n  {}\n  key {}\n  {}",
                record["origin"]["topic"].as_str().unwrap_or_default(),
                record["origin"]["partition"],
                record["origin"]["offset"],
                record["stage"].as_str().unwrap_or_default(),
                record["error_type"].as_str().unwrap_or_default(),
                record["message"].as_str().unwrap_or_default(),
                record["key"],
                record["value"],
            )
        };
        records.iter().map(text).collect::<Vec<_>>().join("\n")
    })
}

fn describe(letter: &DeadLetter) -> Value {
    let mut record = peek::describe(&letter.original);
    if let Value::Object(fields) = &mut record {
        fields.remove("topic");
        fields.remove("partition");
        fields.remove("offset");
        fields.insert("origin".to_owned(), json!(letter.origin));
        fields.insert("position".to_owned(), json!(letter.position));
        fields.insert("stage".to_owned(), json!(letter.stage));
        fields.insert("error_type".to_owned(), json!(letter.error_type));
        fields.insert("message".to_owned(), json!(letter.message));
        fields.insert("attempts".to_owned(), json!(letter.attempts));
        fields.insert("replay_count".to_owned(), json!(letter.replay_count));
        fields.insert(
            "first_failed_at_ms".to_owned(),
            json!(letter.first_failed_at_ms),
        );
    }
    record
}
