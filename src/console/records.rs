//! A topic: its configuration, its records by page and filter, and a form for a test record.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::{Path, State};
use maud::{Markup, html};
use millrace_kafka::{Record, TopicReader};
use millrace_retry::error_chain;

use super::error::PageError;
use super::form::{Asked, Fields};
use super::layout::{self, Page, Section, beginning, choice, field, grouped, shown, table};
use super::session::{Role, Visitor};
use super::{Console, produce, topics};
use crate::keys::KeyPrefixes;
use crate::output::{bytes, time};
use crate::records::paging::{self, Cursor, RecordPage, Turn};
use crate::records::{Place, decoded};
use crate::topic_name::full_name;
use crate::when::parse_when;

/// Larger values are not decoded for a list.
const MAX_DECODED_BYTES: usize = 256 << 10;
/// Characters of a key and of a value that a list shows.
const KEY_CHARS: usize = 120;
const VALUE_CHARS: usize = 240;

/// `GET /console/topics/{topic}`.
pub async fn page(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Path(topic): Path<String>,
    Asked(fields): Asked,
) -> Result<Page, PageError> {
    let topic = named(&console, &topic)?;
    let described = console.admin.describe(&topic).await?;
    let mut ends: BTreeMap<i32, (i64, i64)> = described
        .partitions
        .iter()
        .filter_map(|it| Some((it.partition, it.ends.map(|ends| (ends.oldest, ends.next))?)))
        .collect();
    let chosen = Chosen::read(&fields)?;
    if let Some(partition) = chosen.partition {
        ends.retain(|number, _| *number == partition);
        if ends.is_empty() {
            let message = format!("{topic} has no partition {partition}, or nobody leads it now.");
            return Err(PageError::not_found(message));
        }
    }
    let turn = turn(&console, &topic, &fields, &ends, chosen.to_ms).await?;
    let found = paging::read(&console.kafka, &topic, &ends, &turn, |it| chosen.takes(it)).await?;
    let partitions: Vec<String> = described
        .partitions
        .iter()
        .map(|it| it.partition.to_string())
        .collect();
    let content = html! {
        (topics::described(&described))
        (filter(&topic, &fields, &partitions))
        (list(&topic, &fields, &found))
        @if visitor.role == Role::Operator {
            (produce::form(&console, &visitor, &topic))
        }
    };
    let page = layout::page(
        Some(&visitor),
        Some(Section::Topics),
        &shown(&topic),
        &content,
    );
    Ok(page)
}

/// The full name of a topic that an address names.
///
/// # Errors
/// No such topic is declared.
pub fn named(console: &Console, topic: &str) -> Result<String, PageError> {
    full_name(topic, &console.kafka)
        .map_err(|error| PageError::not_found(error_chain(error.as_ref())))
}

/// What a person wants to see of a topic.
struct Chosen {
    partition: Option<i32>,
    key_prefixes: KeyPrefixes,
    text: Option<String>,
    to_ms: Option<i64>,
}

impl Chosen {
    fn read(fields: &Fields) -> Result<Self, PageError> {
        Ok(Self {
            partition: fields.read("partition", "Partition")?,
            key_prefixes: KeyPrefixes::of(fields.text("key")),
            text: fields.text("text").map(str::to_lowercase),
            to_ms: fields.read_by("to", "Before", parse_when)?,
        })
    }

    fn takes(&self, record: &Record) -> bool {
        self.key_prefixes.begin(record.key.as_deref())
            && self
                .to_ms
                .is_none_or(|to| record.timestamp_ms.is_none_or(|at| at < to))
            && self.text.as_ref().is_none_or(|text| holds(record, text))
    }
}

/// Whether a record has this text, lower-case, in its key, a header or its value as it is shown.
fn holds(record: &Record, text: &str) -> bool {
    let has = |bytes: Option<&[u8]>| {
        bytes.is_some_and(|bytes| String::from_utf8_lossy(bytes).to_lowercase().contains(text))
    };
    has(record.key.as_deref())
        || record
            .headers
            .iter()
            .any(|(name, value)| name.to_lowercase().contains(text) || has(value.as_deref()))
        || record
            .value
            .as_deref()
            .is_some_and(|value| match value.len() <= MAX_DECODED_BYTES {
                true => decoded(value).to_string().to_lowercase().contains(text),
                false => has(Some(value)),
            })
}

/// Where the page begins: where the one before ended, at a place, or at the newest.
async fn turn(
    console: &Console,
    topic: &str,
    fields: &Fields,
    ends: &BTreeMap<i32, (i64, i64)>,
    before_ms: Option<i64>,
) -> Result<Turn, PageError> {
    if let Some(cursor) = fields.read::<Cursor>("older", "Older")? {
        return Ok(Turn::Older(cursor));
    }
    if let Some(cursor) = fields.read::<Cursor>("newer", "Newer")? {
        return Ok(Turn::Newer(cursor));
    }
    let next = || ends.iter().map(|(number, (_, end))| (*number, *end));
    let Some(place) = fields.read::<Place>("from", "From")? else {
        let Some(to_ms) = before_ms else {
            return Ok(Turn::Older(Cursor::default()));
        };
        // A broker's own meaning of a time; the filter takes out what is later all the same.
        let offsets = console
            .admin
            .offsets_at(topic, to_ms, &next().collect())
            .await?;
        return Ok(Turn::Older(Cursor(offsets)));
    };
    let offsets = match place {
        Place::Beginning => Default::default(),
        Place::End(None) => return Ok(Turn::Older(Cursor::default())),
        Place::End(Some(before)) => {
            let before = i64::try_from(before).unwrap_or(i64::MAX);
            next()
                .map(|(partition, end)| (partition, end.saturating_sub(before)))
                .collect()
        }
        Place::Offset(offset) => ends.keys().map(|partition| (*partition, offset)).collect(),
        Place::Time(time_ms) => {
            console
                .admin
                .offsets_at(topic, time_ms, &next().collect())
                .await?
        }
    };
    Ok(Turn::Newer(Cursor(offsets)))
}

fn filter(topic: &str, fields: &Fields, partitions: &[String]) -> Markup {
    let all = [("", "All")].into_iter();
    let partitions = all.chain(partitions.iter().map(|it| (it.as_str(), it.as_str())));
    html! {
        h2 { "Records" }
        form method="get" action={ "/console/topics/" (topic) } {
            div.fields {
                (field(fields, "key", "Key begins with", "A path stands for its URI"))
                (field(fields, "text", "Text", "In key, headers or decoded value"))
                (field(fields, "from", "From", "beginning, an offset, -N, a time, or 2h ago; empty: the newest"))
                (field(fields, "to", "Before", "A time, or how long ago, such as 30m"))
                (choice(fields, "partition", "Partition", partitions))
            }
            div.buttons {
                button type="submit" { "Show" }
                a href={ "/console/topics/" (topic) } { "Newest, without filter" }
            }
        }
    }
}

fn list(topic: &str, fields: &Fields, found: &RecordPage) -> Markup {
    let rows = html! {
        @for record in &found.records {
            tr {
                td.n {
                    a href={ "/console/topics/" (topic) "/" (record.partition) "/" (record.offset) } {
                        (record.partition) "/" (record.offset)
                    }
                }
                td.n { (time(record.timestamp_ms)) }
                td.wide { (record.key_text().map_or("–".to_owned(), |key| beginning(&key, KEY_CHARS))) }
                td.wide { code { (value(record)) } }
            }
        }
    };
    let to = |name: &str, cursor: &Cursor| {
        let other = if name == "older" { "newer" } else { "older" };
        let query = fields.with(&[(name, &cursor.to_string()), (other, ""), ("from", "")]);
        format!("/console/topics/{topic}?{query}")
    };
    html! {
        @if found.records.is_empty() && found.cut_short {
            p { "No record of the filter was among those that were read." }
        } @else if found.records.is_empty() {
            p { "No records there." }
        } @else {
            (table("Records", &["Record", "Time", "Key", "Value"], &rows))
        }
        @if found.left_out > 0 {
            p.hint {
                (grouped(found.left_out as i64)) " other records were read."
                @if found.cut_short { " That is enough for a page; go on with “Older” or “Newer”. Until then records between these may be missing." }
            }
        }
        div.buttons {
            @if let Some(cursor) = &found.newer { a rel="prev" href=(to("newer", cursor)) { "Newer" } }
            @if let Some(cursor) = &found.older { a rel="next" href=(to("older", cursor)) { "Older" } }
        }
    }
}

fn value(record: &Record) -> String {
    match record.value.as_deref() {
        None => "no value (tombstone)".to_owned(),
        Some(value) if value.len() > MAX_DECODED_BYTES => {
            format!("{}; see the record", bytes(value.len() as u64))
        }
        Some(value) => beginning(&decoded(value).to_string(), VALUE_CHARS),
    }
}

/// The record that stands there.
///
/// # Errors
/// There is none, or the brokers do not answer.
pub async fn one(
    console: &Console,
    topic: &str,
    partition: i32,
    offset: i64,
) -> Result<Record, PageError> {
    let gone = || {
        PageError::not_found(format!(
            "There is no record {partition}/{offset} of {topic}; it may be gone."
        ))
    };
    // Asked for a partition that is not there, the brokers are asked again for a minute.
    let there = console.admin.partitions(topic).await?;
    if !there.contains(&partition) {
        return Err(gone());
    }
    let (start, end) = console.admin.watermarks(topic, partition).await?;
    if !(start..end).contains(&offset) {
        return Err(gone());
    }
    let ranges = [(partition, (offset, offset + 1))].into();
    let mut reader = TopicReader::open_ranges(&console.kafka, topic, &ranges)?;
    let record = reader.next().await.transpose()?;
    record
        .filter(|record| record.offset == offset)
        .ok_or_else(gone)
}
