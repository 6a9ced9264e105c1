//! MinIO: S3's records with event types of its own.

use millrace_schemas::DocumentEvent;
use serde_json::value::RawValue;

use super::{Meaning, NoticeFormat, Recognised, each, s3};

pub(super) fn read(records: &[&RawValue]) -> Recognised {
    let entries = each(records, |raw| s3::entry(raw, meaning));
    Recognised {
        format: NoticeFormat::MinIo,
        entries,
    }
}

fn meaning(event_type: &str) -> Meaning {
    match event_type {
        "ObjectRemoved:DeleteAllVersions" | "LifecycleExpiration:DeleteAllVersions" => {
            Meaning::Is(DocumentEvent::Removed)
        }
        // They change what is known of an object, not its content; NoOP removed nothing.
        "ObjectCreated:PutRetention"
        | "ObjectCreated:PutLegalHold"
        | "ObjectCreated:PutTagging"
        | "ObjectCreated:DeleteTagging"
        | "ObjectRemoved:NoOP" => Meaning::Ignored,
        _ => s3::meaning(event_type),
    }
}
