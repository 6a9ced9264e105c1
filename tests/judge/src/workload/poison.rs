//! Records that can never be indexed, each with the stage and the reason that must be told of it.

use bytes::Bytes;
use millrace_schemas::{DocumentEvent, DocumentNotice, Layout};

use crate::object_server::BUCKET;

const ENCRYPTED_PDF: &[u8] =
    include_bytes!("../../../../consumers/vectorizer/tests/fixtures/encrypted.pdf");
const BROKEN_PDF: &[u8] =
    include_bytes!("../../../../consumers/vectorizer/tests/fixtures/broken.pdf");
const ZIP_BOMB: &[u8] = include_bytes!("../../../../consumers/vectorizer/tests/fixtures/bomb.docx");
const DOCX: &str = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
const DAY_MS: i64 = 86_400_000;

/// One poison record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poison {
    /// Names it: part of its key and of what is posted.
    pub number: u64,
    /// What is wrong with it.
    pub kind: PoisonKind,
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoisonKind {
    /// A value that begins like no framing.
    UnknownFraming,
    /// Avro of a schema that nobody knows.
    UnknownFingerprint,
    /// JSON that ends early.
    BrokenJson,
    /// No value at all.
    NoValue,
    /// A notice from tomorrow, of a document that is there.
    FromTheFuture,
    /// A PDF that wants a password.
    EncryptedPdf,
    /// A PDF that is none.
    BrokenPdf,
    /// A DOCX of a few bytes that unpacks to gigabytes.
    ZipBomb,
    /// No bytes.
    Empty,
    /// Bytes that are no text of any kind.
    Picture,
    /// As `BrokenPdf`, as an object of the bucket.
    BrokenObject,
    /// A posted entry that is no notice.
    MalformedEntry,
    /// A posted notice of a bucket that may not be read.
    ForeignBucket,
    /// A posted body of no known shape.
    UnknownBody,
}

/// How a poison record reaches the pipeline.
#[derive(Clone, Debug, PartialEq)]
pub enum PoisonForm {
    /// As bytes on the topic.
    Raw {
        /// The key.
        key: String,
        /// The value.
        value: Option<Bytes>,
    },
    /// As a notice on the topic.
    Notice(Box<DocumentNotice>),
    /// As an object of the bucket and a posted notice.
    Object {
        /// The object's key.
        key: String,
        /// Its content.
        content: &'static [u8],
    },
    /// As a body that is posted.
    Posted {
        /// The body.
        body: String,
        /// Of it, what the dead letter must hold byte for byte; none where the endpoint keeps the
        /// notice as it understood it.
        kept: Option<String>,
        /// What only this dead letter holds.
        mark: String,
        /// The answer.
        status: u16,
    },
}

impl Poison {
    pub(super) fn draw(rng: &mut fastrand::Rng, number: u64) -> Self {
        use PoisonKind as K;
        // Those that start a child process are rarer.
        const KINDS: &[PoisonKind] = &[
            K::UnknownFraming,
            K::UnknownFraming,
            K::UnknownFingerprint,
            K::UnknownFingerprint,
            K::BrokenJson,
            K::BrokenJson,
            K::NoValue,
            K::NoValue,
            K::FromTheFuture,
            K::FromTheFuture,
            K::Empty,
            K::Empty,
            K::Picture,
            K::Picture,
            K::EncryptedPdf,
            K::BrokenPdf,
            K::ZipBomb,
            K::BrokenObject,
            K::MalformedEntry,
            K::MalformedEntry,
            K::ForeignBucket,
            K::UnknownBody,
        ];
        Self {
            number,
            kind: KINDS[rng.usize(..KINDS.len())],
        }
    }

    /// The record itself.
    #[must_use]
    pub fn form(&self, now_ms: i64) -> PoisonForm {
        let number = self.number;
        let raw = |value: Option<Vec<u8>>| PoisonForm::Raw {
            key: format!("poison://{number}"),
            value: value.map(Bytes::from),
        };
        let inline = |media_type: &str, content: &[u8]| {
            PoisonForm::Notice(Box::new(DocumentNotice {
                media_type: Some(media_type.to_owned()),
                ..notice(
                    format!("s3://{BUCKET}/poison.jsonl#{number}"),
                    now_ms,
                    Some(content.to_vec()),
                )
            }))
        };
        match self.kind {
            PoisonKind::UnknownFraming => raw(Some(format!("\u{7f}poison {number}").into_bytes())),
            PoisonKind::UnknownFingerprint => {
                let mut value = vec![0xc3, 0x01, 1, 2, 3, 4, 5, 6, 7, 8];
                value.extend_from_slice(&number.to_be_bytes());
                raw(Some(value))
            }
            PoisonKind::BrokenJson => raw(Some(format!("{{\"uri\":\"{number}").into_bytes())),
            PoisonKind::NoValue => raw(None),
            PoisonKind::FromTheFuture => PoisonForm::Notice(Box::new(notice(
                super::inline_uri(u32::try_from(number % 24).unwrap_or(0)),
                now_ms + DAY_MS,
                Some(format!("tomorrow {number}").into_bytes()),
            ))),
            PoisonKind::EncryptedPdf => inline("application/pdf", ENCRYPTED_PDF),
            PoisonKind::BrokenPdf => inline("application/pdf", BROKEN_PDF),
            PoisonKind::ZipBomb => inline(DOCX, ZIP_BOMB),
            PoisonKind::Empty => inline("text/plain", b""),
            PoisonKind::Picture => inline("image/png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
            PoisonKind::BrokenObject => PoisonForm::Object {
                key: format!("poison/{number}.pdf"),
                content: BROKEN_PDF,
            },
            PoisonKind::MalformedEntry => {
                let entry = format!("{{\"eventName\": 7, \"poison\": \"entry-{number}-\"}}");
                PoisonForm::Posted {
                    body: format!("{{\"Records\":[{entry}]}}"),
                    mark: format!("entry-{number}-"),
                    kept: Some(entry),
                    status: 200,
                }
            }
            PoisonKind::ForeignBucket => PoisonForm::Posted {
                body: super::delivery::s3_notice(
                    "elsewhere",
                    &format!("foreign-{number}.txt"),
                    Some("ab"),
                    now_ms,
                ),
                mark: format!("foreign-{number}.txt"),
                kept: None,
                status: 200,
            },
            PoisonKind::UnknownBody => {
                let body = format!("no notice body-{number}-");
                PoisonForm::Posted {
                    mark: format!("body-{number}-"),
                    kept: Some(body.clone()),
                    body,
                    status: 400,
                }
            }
        }
    }

    /// The stage and machine-readable reason of its dead letter.
    #[must_use]
    pub fn expected(&self) -> (&'static str, &'static str) {
        match self.kind {
            PoisonKind::UnknownFraming => ("decode", "unknown_framing"),
            PoisonKind::UnknownFingerprint => ("decode", "unknown_fingerprint"),
            PoisonKind::BrokenJson => ("decode", "malformed_value"),
            PoisonKind::NoValue => ("decode", "no_value"),
            PoisonKind::FromTheFuture => ("decode", "version_in_future"),
            PoisonKind::EncryptedPdf => ("extract", "encrypted"),
            PoisonKind::BrokenPdf | PoisonKind::BrokenObject => ("extract", "malformed_document"),
            PoisonKind::ZipBomb => ("extract", "expands_too_far"),
            PoisonKind::Empty => ("fetch", "empty_object"),
            PoisonKind::Picture => ("extract", "unsupported_media_type"),
            PoisonKind::MalformedEntry => ("notice", "malformed_notice"),
            PoisonKind::ForeignBucket => ("notice", "not_allowed"),
            PoisonKind::UnknownBody => ("notice", "unknown_notice"),
        }
    }
}

/// A notice of plain text.
pub(super) fn notice(uri: String, event_time_ms: i64, content: Option<Vec<u8>>) -> DocumentNotice {
    DocumentNotice {
        uri,
        event: match content {
            Some(_) => DocumentEvent::Created,
            None => DocumentEvent::Removed,
        },
        event_time_ms,
        etag: None,
        size_bytes: None,
        media_type: content.as_ref().map(|_| "text/plain".to_owned()),
        content,
        title: None,
        layout: Layout::Document,
        metadata: std::collections::BTreeMap::new(),
        min_version: None,
        source: "judge".to_owned(),
    }
}
