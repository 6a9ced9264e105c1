//! Publishing a test record, audited.

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Redirect;
use bytes::Bytes;
use maud::{Markup, html};
use millrace_kafka::{RawRecord, topics};
use millrace_retry::error_chain;

use super::Console;
use super::error::PageError;
use super::form::Posted;
use super::layout::csrf;
use super::records::named;
use super::session::Visitor;
use crate::audit::{self, Audit};

/// The header that tells test records from others; its value is who published it.
const TEST_HEADER: &str = "millrace.test";
/// Topics whose records say what was done, or what serves: nobody writes there by hand.
const CLOSED: [&str; 3] = [topics::AUDIT, topics::DLQ_RESOLVED, topics::ROLLOUTS];

/// The form for a topic that takes test records.
pub fn form(console: &Console, visitor: &Visitor, topic: &str) -> Markup {
    html! {
        @if is_closed(console, topic) {
            p.hint { "This topic says what operators did; nobody publishes to it by hand." }
        } @else {
            details {
                summary { "Publish a test record" }
                form method="post" action={ "/console/topics/" (topic) "/produce" } {
                    (csrf(visitor))
                    p.hint { "It is a record as any other: consumers read it. The header " code { (TEST_HEADER) } " tells it from others." }
                    div.field {
                        label for="produce-key" { "Key" }
                        input id="produce-key" name="record-key" autocomplete="off";
                    }
                    div.field {
                        label for="produce-headers" { "Headers" }
                        textarea id="produce-headers" name="headers" rows="2" aria-describedby="produce-headers-hint" {}
                        p.hint id="produce-headers-hint" { "One a line: name: value" }
                    }
                    div.field {
                        label for="produce-value" { "Value" }
                        textarea id="produce-value" name="value" rows="6" aria-describedby="produce-value-hint" {}
                        p.hint id="produce-value-hint" { "Text, byte for byte. A notice may be JSON." }
                    }
                    div.buttons { button type="submit" { "Publish" } }
                }
            }
        }
    }
}

/// `POST /console/topics/{topic}/produce`.
pub async fn produce(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Path(topic): Path<String>,
    Posted(fields): Posted,
) -> Result<Redirect, PageError> {
    let topic = named(&console, &topic)?;
    if is_closed(&console, &topic) {
        return Err(PageError::invalid(format!(
            "{topic} says what operators did; nobody publishes to it by hand."
        )));
    }
    // Browsers send CR and LF for each line's end.
    let value = fields.raw("value").replace("\r\n", "\n");
    let mut headers = headers(fields.raw("headers")).map_err(PageError::invalid)?;
    headers.push((
        TEST_HEADER.to_owned(),
        Some(Bytes::from(visitor.who.clone())),
    ));
    let key = fields.text("record-key").map(str::to_owned);
    console.admin.partitions(&topic).await?;
    console.admin.create_named(&[topics::AUDIT]).await?;
    let arguments = audit::arguments([
        ("topic", Some(topic.clone())),
        ("key", key.clone()),
        ("value_bytes", Some(value.len().to_string())),
    ]);
    let audit = Audit::begin(
        &console.producer,
        visitor.who.clone(),
        "topics.produce",
        arguments,
    )
    .await?;
    let record = RawRecord {
        topic: topic.clone(),
        key: key.map(Bytes::from),
        value: Some(Bytes::from(value)),
        headers,
        timestamp_ms: None,
        partition_key: None,
    };
    match console.producer.send_raw(record).await {
        Ok(stands) => {
            audit.done(audit::counts([("records", 1)])).await?;
            let (partition, offset) = (stands.partition, stands.offset);
            Ok(Redirect::to(&format!(
                "/console/topics/{topic}/{partition}/{offset}?produced=yes"
            )))
        }
        Err(error) => {
            let error = anyhow::Error::new(error).context("the record was not published");
            audit
                .failed(audit::Counts::new(), &error_chain(error.as_ref()))
                .await?;
            Err(PageError::conflict(&error))
        }
    }
}

fn is_closed(console: &Console, topic: &str) -> bool {
    CLOSED
        .iter()
        .any(|closed| console.kafka.topic(closed) == topic)
}

fn headers(text: &str) -> Result<Vec<(String, Option<Bytes>)>, String> {
    let header = |line: &str| {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        if name.trim().is_empty() {
            return Err(format!("Headers: {line:?} has no name; write name: value."));
        }
        Ok((
            name.trim().to_owned(),
            Some(Bytes::from(value.trim().to_owned())),
        ))
    };
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(header).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_a_line_each() {
        let read = headers("a: 1\r\n\n b :x:y\nc").unwrap();
        let read: Vec<(&str, &[u8])> = read
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref().unwrap_or_default()))
            .collect();
        assert_eq!(read, [("a", &b"1"[..]), ("b", b"x:y"), ("c", b"")]);
        assert!(headers(": x").is_err());
        assert!(headers("").unwrap().is_empty());
    }
}
