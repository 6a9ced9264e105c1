//! Event times, also as EventBridge has written them.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::EntryError;

/// Milliseconds since 1970 of an RFC 3339 time, or of a local time followed by the name of its zone
/// without brackets, as in `2020-08-17T16:04:46.149Asia/Shanghai`.
pub(super) fn parse_ms(text: &str) -> Result<i64, EntryError> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time.as_millisecond());
    }
    local_with_zone(text).ok_or_else(|| EntryError::Time(text.chars().take(64).collect()))
}

fn local_with_zone(text: &str) -> Option<i64> {
    let after_date = text.find('T')? + 1;
    let zone = after_date
        + text
            .get(after_date..)?
            .find(|c: char| c.is_ascii_alphabetic())?;
    let local: DateTime = text.get(..zone)?.parse().ok()?;
    let zoned = local
        .to_zoned(TimeZone::get(text.get(zone..)?).ok()?)
        .ok()?;
    Some(zoned.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_by_name_is_understood() {
        let shanghai = parse_ms("2020-08-17T16:04:46.149Asia/Shanghai").unwrap();
        assert_eq!(shanghai, parse_ms("2020-08-17T08:04:46.149Z").unwrap());
        assert_eq!(shanghai, parse_ms("2020-08-17T16:04:46.149+08:00").unwrap());
        for text in [
            "",
            "T",
            "2020-08-17",
            "2020-08-17T16:04:46.149Nowhere/At_all",
            "2020-13-01T00:00:00Z",
            "ÄTÄ",
        ] {
            assert!(parse_ms(text).is_err(), "{text}");
        }
    }
}
