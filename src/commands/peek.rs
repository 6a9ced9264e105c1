//! `millrace peek TOPIC`: look at records, decoded.

use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use millrace_kafka::{Admin, ReadFrom, ReadUntil, Record, TopicReader};
use serde_json::{Value, json};

use super::topics::full_name;
use crate::config::Config;
use crate::output::{Output, printable};
use crate::session::TopicsSession;

/// Look at records of a topic, decoded; joins no consumer group.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The declared name, such as `documents`, or the full one.
    topic: String,
    /// How many records.
    #[arg(short = 'n', long, default_value_t = 10, value_name = "N")]
    count: usize,
    /// Where to begin: `beginning`, `end` (the last N records of each partition), an offset, or an
    /// RFC 3339 time.
    #[arg(long, default_value = "beginning", value_name = "WHERE")]
    from: String,
    /// Only this partition.
    #[arg(long, value_name = "N")]
    partition: Option<i32>,
}

pub async fn run(args: Args, config: Config, output: Output) -> anyhow::Result<ExitCode> {
    let session = TopicsSession::attach_or_start(&config)?;
    let records = peek(&args, &session).await;
    session.close().await;
    let records = records?;
    output.result(&json!({ "records": records }), || {
        let lines: Vec<String> = records.iter().map(text).collect();
        if lines.is_empty() {
            "no records there".to_owned()
        } else {
            lines.join("\n")
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn peek(args: &Args, session: &TopicsSession) -> anyhow::Result<Vec<Value>> {
    let topic = full_name(&args.topic, &session.kafka)?;
    if let Some(partition) = args.partition {
        let there = Admin::connect(&session.kafka)?.partitions(&topic).await?;
        ensure!(
            there.contains(&partition),
            "{topic} has no partition {partition}; it has {}",
            numbers(&there)
        );
    }
    let from = where_to_begin(args, session, &topic).await?;
    let mut reader =
        TopicReader::open(&session.kafka, &topic, &from, ReadUntil::PresentEnd).await?;
    let mut records = Vec::new();
    while records.len() < args.count {
        let Some(record) = reader.next().await else {
            break;
        };
        let record = record?;
        if args
            .partition
            .is_none_or(|partition| partition == record.partition)
        {
            records.push(describe(&record));
        }
    }
    Ok(records)
}

fn numbers(partitions: &[i32]) -> String {
    let numbers: Vec<String> = partitions.iter().map(ToString::to_string).collect();
    numbers.join(", ")
}

async fn where_to_begin(
    args: &Args,
    session: &TopicsSession,
    topic: &str,
) -> anyhow::Result<ReadFrom> {
    Ok(match args.from.as_str() {
        "beginning" => ReadFrom::Beginning,
        "end" => ReadFrom::Latest(args.count as u64),
        from => {
            match from.parse::<i64>() {
                Ok(offset) if offset >= 0 => {
                    let admin = Admin::connect(&session.kafka)?;
                    let partitions = match args.partition {
                        Some(partition) => vec![partition],
                        None => admin.partitions(topic).await?,
                    };
                    ReadFrom::Offsets(partitions.into_iter().map(|p| (p, offset)).collect())
                }
                Ok(offset) => bail!("offset {offset} is negative"),
                Err(_) => {
                    let time: jiff::Timestamp = from.parse().with_context(|| {
                    format!("--from {from:?} is neither beginning, end, an offset nor an RFC 3339 time")
                })?;
                    ReadFrom::Timestamp(time.as_millisecond())
                }
            }
        }
    })
}

/// A record with its value decoded where its framing and schema are known.
pub fn describe(record: &Record) -> Value {
    let headers: Vec<Value> = record
        .headers
        .iter()
        .map(|(name, value)| {
            json!([
                name,
                value
                    .as_deref()
                    .map(|value| String::from_utf8_lossy(value).into_owned())
            ])
        })
        .collect();
    json!({
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        "key": record.key_text(),
        "headers": headers,
        "value": record.value.as_deref().map(decoded),
    })
}

/// Key, value and headers byte for byte, in base64; null where there is none.
pub fn raw(record: &Record) -> Value {
    let encode = |bytes: Option<&[u8]>| bytes.map(|bytes| STANDARD.encode(bytes));
    let headers: Vec<Value> = record
        .headers
        .iter()
        .map(|(name, value)| json!([name, encode(value.as_deref())]))
        .collect();
    json!({
        "key": encode(record.key.as_deref()),
        "value": encode(record.value.as_deref()),
        "headers": headers,
    })
}

/// The value as JSON: decoded, or as text, or as hex with the reason.
fn decoded(value: &[u8]) -> Value {
    match millrace_schemas::to_json(value) {
        Ok(json) => json,
        Err(error) => match std::str::from_utf8(value) {
            Ok(text) => Value::String(text.to_owned()),
            Err(_) => json!({ "undecoded": error.to_string(), "bytes": value.len() }),
        },
    }
}

fn text(record: &Value) -> String {
    let mut value = record["value"].clone();
    shorten(&mut value);
    format!(
        "{}/{} @ {}  key {}\n  {}",
        record["topic"].as_str().unwrap_or_default(),
        record["partition"],
        record["offset"],
        printable(record["key"].as_str().unwrap_or("–")),
        printable(&value.to_string()),
    )
}

/// People read neither 384 numbers nor a megabyte of text; `--json` has all.
fn shorten(value: &mut Value) {
    match value {
        Value::Array(items) if items.len() > 8 && items.iter().all(Value::is_number) => {
            *value = Value::String(format!("[{} numbers]", items.len()));
        }
        Value::Array(items) => items.iter_mut().for_each(shorten),
        Value::Object(fields) => fields.values_mut().for_each(shorten),
        Value::String(text) if text.chars().count() > 120 => {
            let start: String = text.chars().take(120).collect();
            *text = format!("{start}…");
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
