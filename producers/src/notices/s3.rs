//! S3: `{"Records":[…]}`, with URL-encoded keys.

use millrace_objects::BucketService;
use millrace_schemas::DocumentEvent;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::object::NoticedObject;
use super::{Entry, EntryError, Meaning, NoticeFormat, Noticed, Recognised, each, notice, time};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct S3Record {
    event_name: String,
    event_time: String,
    s3: NoticedObject,
}

pub(super) fn read(records: &[&RawValue]) -> Recognised {
    Recognised {
        format: NoticeFormat::S3,
        entries: each(records, |raw| entry(raw, meaning)),
    }
}

pub(super) fn entry(
    raw: &RawValue,
    meaning: impl Fn(&str) -> Meaning,
) -> Result<Entry, EntryError> {
    let record: S3Record = serde_json::from_str(raw.get()).map_err(EntryError::Shape)?;
    let event_type = record.event_name.trim_start_matches("s3:").to_owned();
    let event = match meaning(&event_type) {
        Meaning::Is(event) => event,
        Meaning::Ignored => return Ok(Entry::Ignored { event_type }),
        Meaning::Unknown => return Err(EntryError::EventType(event_type)),
    };
    let key = decode_key(&record.s3.object.key)?;
    notice(
        &event_type,
        Noticed {
            service: BucketService::S3,
            bucket: &record.s3.bucket.name,
            key: &key,
            event,
            event_time_ms: time::parse_ms(&record.event_time)?,
            etag: record.s3.object.e_tag,
            size_bytes: record.s3.object.size,
            media_type: record.s3.object.content_type,
        },
    )
}

pub(super) fn meaning(event_type: &str) -> Meaning {
    match event_type {
        "ObjectCreated:Put"
        | "ObjectCreated:Post"
        | "ObjectCreated:Copy"
        | "ObjectCreated:CompleteMultipartUpload" => Meaning::Is(DocumentEvent::Created),
        // A marker hides the object as a removal does.
        "ObjectRemoved:Delete"
        | "ObjectRemoved:DeleteMarkerCreated"
        | "LifecycleExpiration:Delete"
        | "LifecycleExpiration:DeleteMarkerCreated" => Meaning::Is(DocumentEvent::Removed),
        "TestEvent" => Meaning::Ignored,
        _ => Meaning::Unknown,
    }
}

/// As HTML forms encode: `+` is a space, `%2B` a plus.
fn decode_key(encoded: &str) -> Result<String, EntryError> {
    let spaced = encoded.replace('+', " ");
    let mut escapes = spaced.match_indices('%');
    let broken = escapes.any(|(at, _)| {
        let digits = spaced.as_bytes().get(at + 1..at + 3);
        !digits.is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit))
    });
    if broken {
        return Err(EntryError::KeyEncoding);
    }
    let decoded = percent_decode_str(&spaced)
        .decode_utf8()
        .map_err(|_| EntryError::KeyEncoding)?;
    Ok(decoded.into_owned())
}
