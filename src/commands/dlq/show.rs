//! `millrace dlq show`: letters one by one.

use std::ops::ControlFlow;
use std::process::ExitCode;

use millrace_kafka::{KafkaConfig, ResolvedLetters};
use serde_json::{Value, json};

use crate::dead_letters::{Filter, FilterArgs, describe, visit};
use crate::output::{Output, counted, printable, time};

/// Show dead letters: reason, origin, history and the original record, decoded and raw.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    /// At most so many.
    #[arg(short = 'n', long, default_value_t = 10, value_name = "N")]
    count: usize,
    /// Also those that were replayed or discarded.
    #[arg(long)]
    all: bool,
    /// Key, value and headers also byte for byte, in base64; `--json` always has them.
    #[arg(long)]
    raw: bool,
}

pub async fn run(args: &Args, kafka: &KafkaConfig, output: Output) -> anyhow::Result<ExitCode> {
    let filter = Filter::new(&args.filter, kafka)?;
    let resolved = ResolvedLetters::read(kafka).await?;
    let mut records = Vec::new();
    if args.count > 0 {
        visit(kafka, &filter, &resolved, |scanned| {
            if args.all || scanned.resolved.is_none() {
                records.push(describe(&scanned));
            }
            Ok(match records.len() < args.count {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            })
        })
        .await?;
    }
    output.result(&json!({ "records": records }), || {
        if records.is_empty() {
            return "no dead letters there".to_owned();
        }
        let shown: Vec<String> = records
            .iter()
            .map(|record| text(record, args.raw))
            .collect();
        shown.join("\n")
    })?;
    Ok(ExitCode::SUCCESS)
}

fn text(record: &Value, raw: bool) -> String {
    let of = |name: &str| printable(record[name].as_str().unwrap_or("–")).into_owned();
    let place = |place: &Value| {
        let topic = place["topic"].as_str().unwrap_or("–");
        format!(
            "{}/{}/{}",
            printable(topic),
            place["partition"],
            place["offset"]
        )
    };
    let count = |name: &str, noun| counted(record[name].as_u64().unwrap_or_default(), noun);
    let mut lines = vec![
        format!(
            "{}  {}: {}",
            place(&record["origin"]),
            of("stage"),
            of("error_type")
        ),
        format!("  {}", of("message")),
        format!(
            "  first failed {} · {} · replayed {} · letter {}",
            time(record["first_failed_at_ms"].as_i64()),
            count("attempts", "attempt"),
            count("replay_count", "time"),
            place(&record["position"]),
        ),
    ];
    if record["replay_count"] != 0 {
        let times = record["history"]["replayed_at_ms"].as_array();
        let times = times.into_iter().flatten().map(|at| time(at.as_i64()));
        lines.push(format!(
            "  first at {}, replayed {}",
            place(&record["history"]["first_origin"]),
            times.collect::<Vec<_>>().join(", "),
        ));
    }
    if let Value::Object(resolved) = &record["resolved"] {
        let text = |name: &str| resolved.get(name).and_then(Value::as_str).unwrap_or("–");
        lines.push(format!(
            "  {} {} by {}",
            text("resolution"),
            time(resolved.get("at_ms").and_then(Value::as_i64)),
            printable(text("who")),
        ));
    }
    lines.push(format!("  key {}", of("key")));
    for header in record["headers"].as_array().into_iter().flatten() {
        let part = |n: usize| printable(header[n].as_str().unwrap_or("–")).into_owned();
        lines.push(format!("  {} = {}", part(0), part(1)));
    }
    lines.push(format!("  {}", printable(&record["value"].to_string())));
    if raw {
        lines.push(format!("  raw {}", printable(&record["raw"].to_string())));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_bytes_are_shown_and_not_obeyed() {
        let record = json!({
            "origin": {"topic": "millrace.documents", "partition": 0, "offset": 3},
            "position": {"topic": "millrace.documents.dlq", "partition": 0, "offset": 1},
            "stage": "decode\u{1b}]0;owned\u{7}", "error_type": "x", "message": "line\r\nforged: line",
            "first_failed_at_ms": 0, "attempts": 1, "replay_count": 0,
            "key": "\u{9b}31m", "headers": [["\u{202e}txt", "\u{1b}[2J"]],
            "value": "\u{7f}", "raw": {"value": "fw=="}, "resolved": null,
        });
        let shown = text(&record, true);
        assert!(
            shown.chars().all(|c| c == '\n' || !c.is_control()),
            "{shown:?}"
        );
        assert!(
            !shown.contains('\u{202e}') && shown.contains("fw=="),
            "{shown:?}"
        );
        assert_eq!(shown.lines().count(), 7, "{shown}");
    }
}
