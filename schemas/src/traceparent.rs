//! W3C Trace Context, `traceparent` (level 1, version 00).

use std::fmt;
use std::str::FromStr;

/// A trace and the span in it that caused what follows:
/// `00-<trace id, 32 hex>-<parent id, 16 hex>-<flags, 2 hex>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceParent {
    trace_id: [u8; 16],
    parent_id: [u8; 8],
    flags: u8,
}

/// Not a `traceparent`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid traceparent: {0}")]
pub struct InvalidTraceParent(&'static str);

impl TraceParent {
    /// A trace and a span of it.
    ///
    /// # Errors
    /// Either id is all zeros, which the specification forbids.
    pub fn new(
        trace_id: [u8; 16],
        parent_id: [u8; 8],
        sampled: bool,
    ) -> Result<Self, InvalidTraceParent> {
        if trace_id == [0; 16] {
            return Err(InvalidTraceParent("the trace id must not be zero"));
        }
        if parent_id == [0; 8] {
            return Err(InvalidTraceParent("the parent id must not be zero"));
        }
        Ok(Self {
            trace_id,
            parent_id,
            flags: u8::from(sampled),
        })
    }

    /// The trace.
    #[must_use]
    pub fn trace_id(&self) -> [u8; 16] {
        self.trace_id
    }

    /// The span.
    #[must_use]
    pub fn parent_id(&self) -> [u8; 8] {
        self.parent_id
    }

    /// Whether the caller records this trace.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }

    /// The same trace, with another span as the cause.
    ///
    /// # Errors
    /// The id is all zeros.
    pub fn with_parent(self, parent_id: [u8; 8]) -> Result<Self, InvalidTraceParent> {
        Self::new(self.trace_id, parent_id, self.is_sampled())
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, parent) = (hex::encode(self.trace_id), hex::encode(self.parent_id));
        write!(f, "00-{trace}-{parent}-{:02x}", self.flags)
    }
}

impl FromStr for TraceParent {
    type Err = InvalidTraceParent;

    /// Accepts higher versions too, reading of them what version 00 defines, as the specification
    /// asks.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const LENGTH: usize = 55;
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(InvalidTraceParent("hex digits must be lower case"));
        }
        let mut parts = text.split('-');
        let mut part = |what| parts.next().ok_or(InvalidTraceParent(what));
        let [version] = bytes(part("version is missing")?, "version must be 2 hex digits")?;
        let trace_id = bytes(
            part("trace id is missing")?,
            "trace id must be 32 hex digits",
        )?;
        let parent_id = bytes(
            part("parent id is missing")?,
            "parent id must be 16 hex digits",
        )?;
        let [flags] = bytes(part("flags are missing")?, "flags must be 2 hex digits")?;
        match version {
            0xFF => return Err(InvalidTraceParent("version ff is forbidden")),
            0 if text.len() != LENGTH => {
                return Err(InvalidTraceParent("version 00 has four parts"));
            }
            _ => {}
        }
        Self::new(trace_id, parent_id, flags & 1 == 1)
    }
}

fn bytes<const N: usize>(text: &str, rule: &'static str) -> Result<[u8; N], InvalidTraceParent> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| InvalidTraceParent(rule))?;
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_specifications_example_round_trips() {
        let parsed: TraceParent = EXAMPLE.parse().unwrap();
        assert!(parsed.is_sampled());
        assert_eq!(parsed.to_string(), EXAMPLE);
    }

    #[test]
    fn what_the_specification_forbids_is_refused() {
        for text in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
        ] {
            assert!(text.parse::<TraceParent>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_later_version_may_say_more() {
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra";
        assert_eq!(later.parse::<TraceParent>().unwrap().to_string(), EXAMPLE);
    }
}
