//! Publication times as people write them in front matter and meta elements.

use jiff::civil::{Date, DateTime};
use jiff::{Timestamp, tz::TimeZone};

/// RFC 3339 with an offset, else a civil date-time or date (taken as UTC), else RFC 2822; `None`
/// for anything else. Milliseconds since the epoch.
pub(crate) fn parse_published(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Some(timestamp.as_millisecond());
    }
    let civil = text.parse::<DateTime>().or_else(|_| {
        text.parse::<Date>()
            .map(|date| date.to_datetime(jiff::civil::Time::midnight()))
    });
    if let Ok(civil) = civil {
        return civil
            .to_zoned(TimeZone::UTC)
            .ok()
            .map(|zoned| zoned.timestamp().as_millisecond());
    }
    jiff::fmt::rfc2822::parse(text)
        .ok()
        .map(|zoned| zoned.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_spellings_agree() {
        let expected = Some(1_714_564_800_000);
        for text in [
            "2024-05-01T12:00:00Z",
            "2024-05-01T14:00:00+02:00",
            "2024-05-01 12:00:00",
            "2024-05-01T12:00",
            "Wed, 1 May 2024 12:00:00 +0000",
        ] {
            assert_eq!(parse_published(text), expected, "{text}");
        }
        assert_eq!(parse_published("2024-05-01"), Some(1_714_521_600_000));
        assert_eq!(parse_published("last Tuesday"), None);
    }
}
