//! CloudEvents 1.0 in Kafka's binary mode: the attributes as record headers `ce_*`.

use jiff::Timestamp;

use crate::TraceParent;

const SPEC_VERSION: &str = "1.0";

/// The attributes of an event. They identify and trace it; the value holds what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventHeaders {
    /// `ce_id`: unique within `source`.
    pub id: String,
    /// `ce_source`: a URI reference of what produced it, e.g. `millrace/producers/folder`.
    pub source: String,
    /// `ce_type`, e.g. `millrace.documents.created`.
    pub type_: String,
    /// `ce_time`, ms since 1970; absent where the producer does not know.
    pub time_ms: Option<i64>,
    /// `traceparent`: the trace it belongs to.
    pub traceparent: Option<TraceParent>,
}

/// Why headers are not those of a CloudEvent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// A required attribute is absent or empty.
    #[error("the header `{name}` is missing")]
    Missing {
        /// The header.
        name: &'static str,
    },
    /// An attribute has a value that its type does not allow.
    #[error("the header `{name}` is not {expected}")]
    Invalid {
        /// The header.
        name: &'static str,
        /// What it should be.
        expected: &'static str,
    },
}

impl EventHeaders {
    /// The record headers.
    #[must_use]
    pub fn to_headers(&self) -> Vec<(String, Vec<u8>)> {
        let mut headers = vec![
            ("ce_specversion".to_owned(), SPEC_VERSION.into()),
            ("ce_id".to_owned(), self.id.clone().into_bytes()),
            ("ce_source".to_owned(), self.source.clone().into_bytes()),
            ("ce_type".to_owned(), self.type_.clone().into_bytes()),
        ];
        if let Some(time) = self
            .time_ms
            .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        {
            headers.push(("ce_time".to_owned(), time.to_string().into_bytes()));
        }
        if let Some(traceparent) = &self.traceparent {
            headers.push((
                "traceparent".to_owned(),
                traceparent.to_string().into_bytes(),
            ));
        }
        headers
    }

    /// Reads the attributes out of a record's headers; others are ignored, and of a header that
    /// stands there twice the last counts. A broken `traceparent` is dropped, as its specification
    /// asks, and does not cost the event.
    ///
    /// # Errors
    /// A required attribute is missing or malformed. Records of producers that know nothing of
    /// CloudEvents have none, so this is no reason to refuse a record.
    pub fn from_headers<'a>(
        headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Self, HeaderError> {
        let (mut id, mut source, mut type_, mut version) = (None, None, None, None);
        let (mut time_ms, mut traceparent) = (None, None);
        for (name, value) in headers {
            match name {
                "ce_id" => id = Some(text("ce_id", value)?),
                "ce_source" => source = Some(text("ce_source", value)?),
                "ce_type" => type_ = Some(text("ce_type", value)?),
                "ce_specversion" => version = Some(text("ce_specversion", value)?),
                "ce_time" => time_ms = Some(time(value)?),
                "traceparent" => {
                    traceparent = std::str::from_utf8(value)
                        .ok()
                        .and_then(|text| text.parse().ok());
                }
                _ => {}
            }
        }
        if version.is_none() {
            return Err(HeaderError::Missing {
                name: "ce_specversion",
            });
        }
        Ok(Self {
            id: id.ok_or(HeaderError::Missing { name: "ce_id" })?,
            source: source.ok_or(HeaderError::Missing { name: "ce_source" })?,
            type_: type_.ok_or(HeaderError::Missing { name: "ce_type" })?,
            time_ms,
            traceparent,
        })
    }
}

fn text(name: &'static str, value: &[u8]) -> Result<String, HeaderError> {
    match std::str::from_utf8(value) {
        Ok("") => Err(HeaderError::Missing { name }),
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(HeaderError::Invalid {
            name,
            expected: "UTF-8 text",
        }),
    }
}

fn time(value: &[u8]) -> Result<i64, HeaderError> {
    std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse::<Timestamp>().ok())
        .map(Timestamp::as_millisecond)
        .ok_or(HeaderError::Invalid {
            name: "ce_time",
            expected: "an RFC 3339 time",
        })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn borrowed(headers: &[(String, Vec<u8>)]) -> impl Iterator<Item = (&str, &[u8])> {
        headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    #[test]
    fn headers_round_trip() {
        let event = EventHeaders {
            id: "a-1".into(),
            source: "millrace/producers/folder".into(),
            type_: "millrace.documents.created".into(),
            time_ms: Some(1_700_000_000_123),
            traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
                .parse()
                .ok(),
        };
        let headers = event.to_headers();
        assert!(
            borrowed(&headers).any(|(n, v)| n == "ce_time" && v == b"2023-11-14T22:13:20.123Z")
        );
        assert_eq!(EventHeaders::from_headers(borrowed(&headers)), Ok(event));
    }

    #[test]
    fn a_missing_attribute_is_named_and_a_broken_traceparent_is_dropped() {
        let headers: Vec<(&str, &[u8])> = vec![
            ("ce_specversion", b"1.0"),
            ("ce_id", b"1"),
            ("ce_source", b"s"),
            ("traceparent", b"x"),
        ];
        assert_eq!(
            EventHeaders::from_headers(headers.iter().copied()),
            Err(HeaderError::Missing { name: "ce_type" })
        );
        let complete = headers.into_iter().chain([("ce_type", b"t".as_slice())]);
        assert_eq!(
            EventHeaders::from_headers(complete).unwrap().traceparent,
            None
        );
    }
}
