//! A delivery to a piece of work: the notice, its version, its trace.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millrace_kafka::Record;
use millrace_schemas::{
    DocumentNotice, DocumentVersion, SchemaError, SchemaRegistry, TraceParent, VersionError,
    decode_with,
};
use sha2::{Digest, Sha256};

use crate::document::Interrupted;
use crate::failure::{Refusal, Stage};
use millrace_retry::{Patience, error_chain};

const SCHEMA_ERROR: &str = "millrace_schemas::SchemaError";
const VERSION_ERROR: &str = "millrace_schemas::VersionError";

/// A notice that can be worked on.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub notice: DocumentNotice,
    pub version: DocumentVersion,
    pub trace: TraceParent,
}

/// Reads a record of `documents`. An unreachable schema registry makes this wait, and with it the
/// intake of all records: nothing is wrong with them.
pub(crate) async fn decode(
    record: &Record,
    registry: Option<&dyn SchemaRegistry>,
    patience: &Patience,
) -> Result<Decoded, Interrupted> {
    let Some(value) = record.value.as_deref() else {
        let message = "the record has no value; send a removal as a notice with event `removed`";
        return Err(Refusal::new(Stage::Decode, "no_value", SCHEMA_ERROR, message).into());
    };
    let read = patience.until_done("reading the schema of a notice", || async {
        match decode_with::<DocumentNotice>(value, registry).await {
            Err(error) if error.is_retryable() => Err(error_chain(&error)),
            done => Ok(done),
        }
    });
    let notice = read.await?.map_err(|error: SchemaError| {
        // Without its source, which may quote the value.
        Refusal::new(
            Stage::Decode,
            error.error_type(),
            SCHEMA_ERROR,
            error.to_string(),
        )
    })?;
    if notice.uri.is_empty() {
        return Err(Refusal::new(
            Stage::Decode,
            "invalid_uri",
            SCHEMA_ERROR,
            "the notice has an empty uri",
        )
        .into());
    }
    let version = version(&notice, record.offset, now_ms()).map_err(|error| {
        Refusal::new(
            Stage::Decode,
            error.error_type(),
            VERSION_ERROR,
            error.to_string(),
        )
    })?;
    Ok(Decoded {
        notice,
        version,
        trace: trace(record),
    })
}

/// The version that this notice writes: its event's, or what a repair asks for where that is more.
fn version(
    notice: &DocumentNotice,
    offset: i64,
    now_ms: i64,
) -> Result<DocumentVersion, VersionError> {
    let version = DocumentVersion::checked(notice.event_time_ms, offset, now_ms)?;
    let Some(min_version) = notice.min_version.map(DocumentVersion::from) else {
        return Ok(version);
    };
    // A repair may not pin a document either.
    DocumentVersion::checked(min_version.event_time_ms(), offset, now_ms)?;
    Ok(version.max(min_version))
}

/// The notice's trace, or one made from its origin, so that a notice delivered twice is one trace.
fn trace(record: &Record) -> TraceParent {
    let digest = Sha256::digest(record.origin().to_string().as_bytes());
    let mut trace_id = [0; 16];
    let mut span_id = [0; 8];
    trace_id.copy_from_slice(&digest[..16]);
    span_id.copy_from_slice(&digest[16..24]);
    // Ids of zeros are forbidden.
    trace_id[0] |= 1;
    span_id[0] |= 1;
    record
        .header("traceparent")
        .and_then(|value| std::str::from_utf8(value).ok()?.parse::<TraceParent>().ok())
        .and_then(|parent| parent.with_parent(span_id).ok())
        .or_else(|| TraceParent::new(trace_id, span_id, false).ok())
        .unwrap_or_else(|| unreachable!("neither id is zero"))
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(event_time_ms: i64, min_version: Option<i64>) -> DocumentNotice {
        let json = format!(
            r#"{{"uri":"file:///a","event":"created","event_time_ms":{event_time_ms},"min_version":{}}}"#,
            min_version.map_or("null".to_owned(), |version| version.to_string())
        );
        millrace_schemas::decode(json.as_bytes()).unwrap()
    }

    #[test]
    fn a_repair_raises_the_version_and_no_clock_pins_a_document() {
        let now = 1_700_000_000_000;
        let plain = DocumentVersion::new(now, 7);
        assert_eq!(version(&notice(now, None), 7, now), Ok(plain));
        assert_eq!(version(&notice(now, Some(5)), 7, now), Ok(plain));
        assert_eq!(
            version(&notice(now, Some(plain.get() + 9)), 7, now),
            Ok(DocumentVersion::from(plain.get() + 9))
        );
        let error = version(&notice(now + 600_000, None), 7, now).unwrap_err();
        assert_eq!(error.error_type(), "version_in_future");
        let error = version(&notice(now, Some(i64::MAX)), 7, now).unwrap_err();
        assert_eq!(error.error_type(), "version_in_future");
    }
}
