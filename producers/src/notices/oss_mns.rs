//! OSS's own notification: `{"events":[…]}`.

use millrace_objects::BucketService;
use millrace_schemas::DocumentEvent;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::object::NoticedObject;
use super::{Entry, EntryError, Meaning, NoticeFormat, Noticed, Recognised, each, notice, time};

/// One event of OSS. `region`, `requestParameters` and the like stand beside `oss` or inside it,
/// depending on the sender's version; nothing here needs them.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OssEvent {
    event_name: String,
    event_time: Option<String>,
    oss: NoticedObject,
}

pub(super) fn read(events: &[&RawValue]) -> Recognised {
    let entries = each(events, |raw| {
        let event: OssEvent = serde_json::from_str(raw.get()).map_err(EntryError::Shape)?;
        entry(event, None)
    });
    Recognised {
        format: NoticeFormat::OssMns,
        entries,
    }
}

/// Reads an event; `other_time` is the time of its envelope, used where its own cannot be read.
pub(super) fn entry(event: OssEvent, other_time: Option<&str>) -> Result<Entry, EntryError> {
    let event_type = event.event_name.trim_start_matches("oss:").to_owned();
    let kind = match meaning(&event_type) {
        Meaning::Is(kind) => kind,
        Meaning::Ignored => return Ok(Entry::Ignored { event_type }),
        Meaning::Unknown => return Err(EntryError::EventType(event_type)),
    };
    let own_time = event.event_time.as_deref().map(time::parse_ms);
    let event_time_ms = match (own_time, other_time) {
        (Some(Ok(ms)), _) => ms,
        (_, Some(other)) => time::parse_ms(other)?,
        (Some(Err(error)), None) => return Err(error),
        (None, None) => return Err(EntryError::Time(String::new())),
    };
    notice(
        &event_type,
        Noticed {
            service: BucketService::Oss,
            bucket: &event.oss.bucket.name,
            key: &event.oss.object.key,
            event: kind,
            event_time_ms,
            etag: event.oss.object.e_tag,
            size_bytes: event.oss.object.size,
            media_type: event.oss.object.content_type,
        },
    )
}

fn meaning(event_type: &str) -> Meaning {
    match event_type {
        "ObjectCreated:PutObject"
        | "ObjectCreated:PostObject"
        | "ObjectCreated:CopyObject"
        | "ObjectCreated:AppendObject"
        | "ObjectCreated:CompleteMultipartUpload" => Meaning::Is(DocumentEvent::Created),
        "ObjectRemoved:DeleteObject" | "ObjectRemoved:DeleteObjects" => {
            Meaning::Is(DocumentEvent::Removed)
        }
        // Parts are no objects yet, and a link has no content of its own.
        "ObjectCreated:InitiateMultipartUpload"
        | "ObjectCreated:UploadPart"
        | "ObjectCreated:UploadPartCopy"
        | "ObjectCreated:PutSymlink"
        | "ObjectRemoved:AbortMultipartUpload" => Meaning::Ignored,
        _ => Meaning::Unknown,
    }
}
