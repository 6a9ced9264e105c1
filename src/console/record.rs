//! One record: key, headers and value decoded, however large and whatever it holds.

use std::borrow::Cow;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use maud::html;

use super::Console;
use super::error::PageError;
use super::form::Asked;
use super::layout::{self, Page, Section, beginning, lines, shown, table};
use super::records::{named, one};
use super::session::Visitor;
use crate::output::{bytes, time};
use crate::records::decoded;

/// Bytes of a value that a page shows.
const SHOWN_BYTES: usize = 64 << 10;
/// Larger values are shown as they are.
const MAX_DECODED_BYTES: usize = 4 << 20;
/// Characters of a key or a header that a page shows.
const TEXT_CHARS: usize = 4_096;

/// `GET /console/topics/{topic}/{partition}/{offset}`.
pub async fn page(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Path((topic, partition, offset)): Path<(String, i32, i64)>,
    Asked(fields): Asked,
) -> Result<Page, PageError> {
    let topic = named(&console, &topic)?;
    let record = one(&console, &topic, partition, offset).await?;
    let headers = html! {
        @for (name, value) in &record.headers {
            tr {
                th scope="row" { (beginning(name, TEXT_CHARS)) }
                td.wide {
                    @match value {
                        Some(value) => code { (beginning(&String::from_utf8_lossy(value), TEXT_CHARS)) },
                        None => "no value",
                    }
                }
            }
        }
    };
    let size = record.value.as_ref().map(Bytes::len);
    let content = html! {
        @if fields.text("produced").is_some() {
            p.done role="status" { "The record was published, and this is it." }
        }
        dl {
            dt { "Topic" } dd { a href={ "/console/topics/" (topic) } { (shown(&topic)) } }
            dt { "Partition, offset" } dd { (partition) "/" (offset) }
            dt { "Time" } dd { (time(record.timestamp_ms)) }
            dt { "Key" } dd { code { (record.key_text().map_or("none".to_owned(), |key| beginning(&key, TEXT_CHARS))) } }
            dt { "Value" } dd { (size.map_or("none: a tombstone".to_owned(), |size| bytes(size as u64))) }
        }
        @if !record.headers.is_empty() {
            h2 { "Headers" }
            (table("Headers", &["Name", "Value"], &headers))
        }
        @if let Some(value) = record.value.as_deref() {
            @let (text, is_whole) = readable(value);
            h2 { "Value" }
            pre tabindex="0" role="region" aria-label="Value" { (lines(&text, SHOWN_BYTES)) }
            @if !is_whole { p { "These are the first " (bytes(SHOWN_BYTES as u64)) " of it." } }
            p { a href={ "/console/topics/" (topic) "/" (partition) "/" (offset) "/value" } download { "Download the value as it is" } }
        }
    };
    let title = format!("Record {partition}/{offset}");
    Ok(layout::page(
        Some(&visitor),
        Some(Section::Topics),
        &title,
        &content,
    ))
}

/// `GET /console/topics/{topic}/{partition}/{offset}/value`: the bytes, never to be shown by a browser.
pub async fn download(
    State(console): State<Console>,
    Path((topic, partition, offset)): Path<(String, i32, i64)>,
) -> Result<Response, PageError> {
    let topic = named(&console, &topic)?;
    let record = one(&console, &topic, partition, offset).await?;
    let value = record
        .value
        .ok_or_else(|| PageError::not_found("The record has no value: it is a tombstone."))?;
    // The topic is there, so its name is letters, digits, dots, dashes and underscores.
    let file = format!("attachment; filename=\"{topic}-{partition}-{offset}.bin\"");
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_DISPOSITION, file),
    ];
    Ok((headers, value).into_response())
}

/// The beginning of a value for people, decoded where it is small enough, and whether that is all.
fn readable(value: &[u8]) -> (String, bool) {
    let text: Cow<'_, str> = if value.len() <= MAX_DECODED_BYTES {
        match decoded(value) {
            serde_json::Value::String(text) => text.into(),
            // It was made of JSON and can be written as such.
            json => serde_json::to_string_pretty(&json)
                .unwrap_or_default()
                .into(),
        }
    } else {
        let cut = &value[..SHOWN_BYTES];
        return (String::from_utf8_lossy(cut).into_owned(), false);
    };
    let end = text.floor_char_boundary(SHOWN_BYTES);
    (text[..end].to_owned(), end == text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_shows_the_beginning_of_what_is_large() {
        let (text, is_whole) = readable(b"{\"a\": [1]}");
        assert!(text.contains("\"a\"") && is_whole);
        let (text, is_whole) = readable("ä".repeat(SHOWN_BYTES).as_bytes());
        assert!(text.len() <= SHOWN_BYTES && !is_whole);
        let (text, is_whole) = readable(&vec![b'x'; 10 << 20]);
        assert_eq!((text.len(), is_whole), (SHOWN_BYTES, false));
    }
}
