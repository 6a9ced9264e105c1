//! Moments and durations as people write them.

use std::str::FromStr;

/// A moment, and how it was written: `2h` ago is another moment each time it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// As it was written.
    pub text: String,
    /// ms since 1970.
    pub ms: i64,
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self {
            text: text.to_owned(),
            ms: parse_when(text)?,
        })
    }
}

/// A moment, in ms since 1970: `2026-11-29T14:00:00Z`, `2026-11-29` for the begin of that day in UTC, or
/// `2h` for two hours ago.
pub fn parse_when(text: &str) -> Result<i64, String> {
    if let Some(ago_ms) = parse_duration_ms(text) {
        return Ok(jiff::Timestamp::now()
            .as_millisecond()
            .saturating_sub(ago_ms));
    }
    parse_day(text)
        .map_or_else(|| text.parse::<jiff::Timestamp>(), Ok)
        .map(jiff::Timestamp::as_millisecond)
        .map_err(|_| "expected an RFC 3339 time such as 2026-11-29T14:00:00Z, a day such as 2026-11-29 (its begin in UTC), or how long ago, such as 90s, 30m, 2h or 7d".to_owned())
}

fn parse_day(text: &str) -> Option<jiff::Timestamp> {
    let day = jiff::civil::Date::strptime("%Y-%m-%d", text).ok()?;
    let day = day.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(day.timestamp())
}

/// `90s`, `30m`, `2h` or `7d` in ms; `None` where it is none of these, or too long.
pub fn parse_duration_ms(text: &str) -> Option<i64> {
    let (number, unit_ms) = [
        ("s", 1_000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
    ]
    .into_iter()
    .find_map(|(unit, ms)| Some((text.strip_suffix(unit)?, ms)))?;
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    digits
        .then(|| number.parse::<i64>().ok()?.checked_mul(unit_ms))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_moment_is_refused() {
        for wrong in [
            "",
            "h",
            "-2h",
            "2w",
            "yesterday",
            "NaN",
            "99999999999999999d",
            "2026-13-01",
            "2026-02-30",
            "20261130",
        ] {
            assert!(parse_when(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(parse_when("1970-01-01T00:00:01Z"), Ok(1_000));
        assert_eq!(parse_when("1970-01-02"), Ok(86_400_000));
        assert_eq!(parse_duration_ms("7d"), Some(604_800_000));
    }
}
