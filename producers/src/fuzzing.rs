//! What fuzzing asks of notices. Compiled for fuzzing and for the tests that replay the corpus.

use bytes::Bytes;
use millrace_objects::ObjectUri;
use millrace_schemas::{DocumentNotice, Framing};
use serde_json::Value;

use crate::body;
use crate::notices::{Entry, NoticeFormat, recognise};

const MAX_BODY_BYTES: usize = 1 << 20;
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];

/// Any body of `POST /v1/notices`, gzip by its first bytes: each entry is a notice of an object that
/// has one name, ignored, or malformed with its own bytes; none is lost and none harms another.
pub fn notices(sent: &[u8]) {
    let plain = match sent.starts_with(GZIP_MAGIC) {
        true => match body::gunzip(sent, MAX_BODY_BYTES) {
            Ok(plain) => plain,
            Err(_) => return,
        },
        false => Bytes::copy_from_slice(sent),
    };
    let Ok(recognised) = recognise(&plain) else {
        return;
    };
    if let Some(sent) = entries_of_json(&plain) {
        assert_eq!(
            recognised.entries.len(),
            sent,
            "an entry was lost or made up"
        );
    }
    for (at, entry) in recognised.entries.iter().enumerate() {
        match entry {
            Entry::Notice(notice) => is_publishable(notice),
            Entry::Ignored { .. } => {}
            Entry::Malformed(entry) => {
                assert_eq!(entry.index, at);
                is_malformed_alone(recognised.format, &entry.raw);
            }
        }
    }
}

/// How many entries the outermost JSON holds, counted by another reader.
fn entries_of_json(body: &[u8]) -> Option<usize> {
    match serde_json::from_slice(body).ok()? {
        Value::Array(events) => Some(events.len()),
        Value::Object(envelope) => match (envelope.get("events"), envelope.get("Records")) {
            (Some(Value::Array(events)), _) => Some(events.len()),
            (None | Some(Value::Null), Some(Value::Array(records)))
                if !envelope.contains_key("specversion") =>
            {
                Some(records.len())
            }
            _ => None,
        },
        _ => None,
    }
}

fn is_publishable(notice: &DocumentNotice) {
    let uri = match ObjectUri::parse(&notice.uri) {
        Ok(uri) => uri,
        Err(error) => panic!("{:?} names no object: {error}", notice.uri),
    };
    assert_eq!(uri.to_string(), notice.uri, "an object has one name");
    assert!(uri.path().is_none(), "a bucket's notice names a file");
    assert!(uri.fragment().is_none());
    let Ok(value) = millrace_schemas::encode(notice, &Framing::SingleObject) else {
        panic!("a notice cannot be published: {notice:?}");
    };
    assert_eq!(
        millrace_schemas::decode::<DocumentNotice>(&value)
            .ok()
            .as_ref(),
        Some(notice)
    );
}

/// The dead letter holds the entry: read again in its envelope, it is malformed again.
fn is_malformed_alone(format: NoticeFormat, raw: &[u8]) {
    let (before, after): (&[u8], &[u8]) = match format {
        NoticeFormat::OssMns => (br#"{"events":["#, b"]}"),
        NoticeFormat::OssEventBridge => (b"[", b"]"),
        NoticeFormat::S3 => (br#"{"Records":["#, b"]}"),
        NoticeFormat::MinIo => (br#"{"EventName":"s3:x","Records":["#, b"]}"),
    };
    let body = [before, raw, after].concat();
    let entries = match recognise(&body) {
        Ok(recognised) => recognised.entries,
        Err(error) => panic!("an entry's own bytes cannot be read: {error}"),
    };
    assert!(matches!(&entries[..], [Entry::Malformed(alone)] if alone.raw == raw));
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_of_notices() {
        millrace_fuzz::replay("notices", super::notices);
    }
}
