//! Upload notices as the object stores send them, recognised by their shape.
//!
//! | sender | shape |
//! |---|---|
//! | OSS through MNS | `{"events":[…]}`, base64 of it, or MNS's JSON envelope with it in `Message` |
//! | OSS through EventBridge | a CloudEvent 1.0, or an array of them |
//! | S3 (also through SNS) | `{"Records":[…]}` |
//! | MinIO | the same, with `EventName` and `Key` beside it |
//!
//! Each entry is judged alone: one that is malformed costs none of its neighbours, and keeps its
//! exact bytes for the dead-letter topic.

mod minio;
mod object;
mod oss_eventbridge;
mod oss_mns;
mod s3;
mod time;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use millrace_objects::{BucketService, ObjectUri, UriError};
use millrace_schemas::{DocumentEvent, DocumentNotice, Layout};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Who sent the notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeFormat {
    /// OSS's own notification, through a queue or topic of MNS.
    OssMns,
    /// OSS through EventBridge.
    OssEventBridge,
    /// S3, straight or through SNS.
    S3,
    /// MinIO.
    MinIo,
}

/// A body that was recognised.
#[derive(Debug)]
pub struct Recognised {
    /// Who sent it.
    pub format: NoticeFormat,
    /// Its entries, in their order.
    pub entries: Vec<Entry>,
}

/// One entry of a body.
#[derive(Debug)]
pub enum Entry {
    /// An object was created or removed.
    Notice(Box<DocumentNotice>),
    /// Something that changes no object's content.
    Ignored {
        /// For example `ObjectCreated:UploadPart`.
        event_type: String,
    },
    /// Not to be understood.
    Malformed(MalformedEntry),
}

/// An entry that could not be understood.
#[derive(Debug)]
pub struct MalformedEntry {
    /// Its place among the entries, from 0.
    pub index: usize,
    /// Why.
    pub reason: EntryError,
    /// The entry's own bytes.
    pub raw: Vec<u8>,
}

/// Why an entry could not be understood.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// Fields are missing or of another type.
    #[error("the entry has not the shape of its format")]
    Shape(#[source] serde_json::Error),
    /// An event type that nobody here knows.
    #[error("unknown event type `{0}`; subscribe to object creation and removal only")]
    EventType(String),
    /// No time that can be read.
    #[error("the event time `{0}` cannot be read")]
    Time(String),
    /// S3's encoding of the key is broken.
    #[error("the key is not URL-encoded UTF-8")]
    KeyEncoding,
    /// The bucket and key name no object.
    #[error("the entry names no object")]
    Name(#[source] UriError),
    /// A CloudEvent of something else.
    #[error("the CloudEvent carries no data of an OSS object")]
    NoData,
}

impl EntryError {
    /// A stable name for metrics and dead letters.
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::Shape(_) | Self::NoData => "malformed_notice",
            Self::EventType(_) => "unknown_event_type",
            Self::Time(_) => "invalid_event_time",
            Self::KeyEncoding | Self::Name(_) => "invalid_object_name",
        }
    }
}

/// Why a body as a whole could not be understood.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Neither JSON nor base64 of it.
    #[error("the body is neither JSON nor base64 of JSON")]
    NotJson(#[source] serde_json::Error),
    /// MNS's XML envelope.
    #[error("the body is XML; set the subscription's format to SIMPLIFIED or JSON")]
    Xml,
    /// JSON, but none of the known shapes.
    #[error(
        "the body is no notice of OSS (`events`, or CloudEvents with `specversion`), S3 or MinIO (`Records`)"
    )]
    Unknown,
}

/// Recognises a body and reads its entries.
///
/// # Errors
/// The body as a whole is not of a known shape; then nothing of it was understood.
pub fn recognise(body: &[u8]) -> Result<Recognised, BodyError> {
    recognise_within(body, ENVELOPES)
}

/// An MNS or SNS envelope may hold base64, which holds the notices.
const ENVELOPES: u8 = 2;

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    events: Option<Vec<&'a RawValue>>,
    #[serde(borrow, rename = "Records")]
    records: Option<Vec<&'a RawValue>>,
    #[serde(rename = "EventName")]
    event_name: Option<String>,
    specversion: Option<String>,
    /// In the envelopes of MNS topics and of SNS.
    #[serde(rename = "Message")]
    message: Option<String>,
    /// S3 sends `s3:TestEvent` when a notification is set up.
    #[serde(rename = "Event")]
    test_event: Option<String>,
}

fn recognise_within(body: &[u8], envelopes: u8) -> Result<Recognised, BodyError> {
    let body = body.trim_ascii();
    match body.first() {
        Some(b'{') => {}
        Some(b'[') => {
            let entries: Vec<&RawValue> =
                serde_json::from_slice(body).map_err(BodyError::NotJson)?;
            return Ok(oss_eventbridge::read(&entries));
        }
        Some(b'<') => return Err(BodyError::Xml),
        _ => {
            if envelopes > 0
                && let Some(inner) = decode_base64(body)
            {
                return recognise_within(&inner, envelopes - 1);
            }
        }
    }
    let envelope: Envelope<'_> = serde_json::from_slice(body).map_err(BodyError::NotJson)?;
    if let Some(events) = envelope.events {
        return Ok(oss_mns::read(&events));
    }
    if envelope.specversion.is_some() {
        let event: &RawValue = serde_json::from_slice(body).map_err(BodyError::NotJson)?;
        return Ok(oss_eventbridge::read(&[event]));
    }
    if let Some(records) = envelope.records {
        return Ok(match envelope.event_name {
            Some(_) => minio::read(&records),
            None => s3::read(&records),
        });
    }
    if let Some(event_type) = envelope.test_event.filter(|event| event == "s3:TestEvent") {
        return Ok(Recognised {
            format: NoticeFormat::S3,
            entries: vec![Entry::Ignored { event_type }],
        });
    }
    match envelope.message {
        Some(message) if envelopes > 0 => recognise_within(message.as_bytes(), envelopes - 1),
        _ => Err(BodyError::Unknown),
    }
}

/// Senders wrap base64 in lines, or leave the padding away, or neither.
fn decode_base64(body: &[u8]) -> Option<Vec<u8>> {
    let mut text: Vec<u8> = body
        .iter()
        .copied()
        .filter(|b| !b.is_ascii_whitespace())
        .collect();
    while !text.len().is_multiple_of(4) {
        text.push(b'=');
    }
    STANDARD.decode(text).ok()
}

/// Reads each entry alone.
fn each(
    entries: &[&RawValue],
    read: impl Fn(&RawValue) -> Result<Entry, EntryError>,
) -> Vec<Entry> {
    let entry = |(index, raw): (usize, &&RawValue)| {
        read(raw).unwrap_or_else(|reason| {
            let raw = raw.get().as_bytes().to_vec();
            Entry::Malformed(MalformedEntry { index, reason, raw })
        })
    };
    entries.iter().enumerate().map(entry).collect()
}

/// What an event type means.
enum Meaning {
    Is(DocumentEvent),
    Ignored,
    Unknown,
}

/// What the formats have in common, once read.
struct Noticed<'a> {
    service: BucketService,
    bucket: &'a str,
    /// As the service knows it.
    key: &'a str,
    event: DocumentEvent,
    event_time_ms: i64,
    etag: Option<String>,
    size_bytes: Option<i64>,
    media_type: Option<String>,
}

fn notice(event_type: &str, noticed: Noticed<'_>) -> Result<Entry, EntryError> {
    let uri = ObjectUri::bucket(noticed.service, noticed.bucket, noticed.key)
        .map_err(EntryError::Name)?;
    // Consoles make empty objects named `folder/` to show a folder.
    if noticed.key.ends_with('/') {
        return Ok(Entry::Ignored {
            event_type: event_type.to_owned(),
        });
    }
    if noticed.key.is_empty() {
        return Err(EntryError::Name(UriError::Empty));
    }
    let created = noticed.event == DocumentEvent::Created;
    Ok(Entry::Notice(Box::new(DocumentNotice {
        uri: uri.to_string(),
        event: noticed.event,
        event_time_ms: noticed.event_time_ms,
        // Of a removed object they would be those of its last version.
        etag: noticed
            .etag
            .filter(|e| created && !e.is_empty())
            .map(|e| e.trim_matches('"').to_owned()),
        size_bytes: noticed.size_bytes.filter(|_| created),
        media_type: noticed.media_type.filter(|_| created),
        content: None,
        title: None,
        layout: Layout::Document,
        metadata: std::collections::BTreeMap::new(),
        min_version: None,
        source: "http".to_owned(),
    })))
}

#[cfg(test)]
mod tests;
