//! Times, lengths and places as flags say them.

use std::fmt;
use std::str::FromStr;

use millrace_kafka::DeadLetter;

/// Records of a partition, all or these offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    partition: i32,
    offsets: Option<(i64, i64)>,
}

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str =
            "expected a partition, as 0, with an offset, as 0/17, or offsets, as 0/17-23";
        let whole = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits
                .then(|| text.parse::<i64>().ok())
                .flatten()
                .ok_or(EXPECTED)
        };
        let (partition, offsets) = match text.split_once('/') {
            None => (text, None),
            Some((partition, offsets)) => {
                let (first, last) = offsets.split_once('-').unwrap_or((offsets, offsets));
                (partition, Some((whole(first)?, whole(last)?)))
            }
        };
        if offsets.is_some_and(|(first, last)| first > last) {
            return Err("the first offset is after the last");
        }
        Ok(Self {
            partition: whole(partition)?.try_into().map_err(|_| EXPECTED)?,
            offsets,
        })
    }
}

/// A moment, in ms since 1970: `2026-11-29T14:00:00Z`, or `2h` for two hours ago.
pub fn parse_when(text: &str) -> Result<i64, String> {
    if let Some(ago_ms) = parse_duration_ms(text) {
        return Ok(jiff::Timestamp::now()
            .as_millisecond()
            .saturating_sub(ago_ms));
    }
    text.parse::<jiff::Timestamp>()
        .map(jiff::Timestamp::as_millisecond)
        .map_err(|_| "expected an RFC 3339 time such as 2026-11-29T14:00:00Z, or how long ago, such as 90s, 30m, 2h or 7d".to_owned())
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

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.offsets {
            None => write!(f, "{}", self.partition),
            Some((first, last)) => write!(f, "{}/{first}-{last}", self.partition),
        }
    }
}

impl Place {
    /// Whether this letter's record was there.
    pub fn holds(self, letter: &DeadLetter) -> bool {
        letter.origin.partition == self.partition
            && self
                .offsets
                .is_none_or(|(first, last)| (first..=last).contains(&letter.origin.offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_never_be_is_refused() {
        for wrong in [
            "",
            "a",
            "-1",
            "1/",
            "1/-2",
            "1/x",
            "1/3-2",
            "99999999999",
            "1/2/3",
        ] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong:?}");
        }
        for wrong in [
            "",
            "h",
            "-2h",
            "2w",
            "yesterday",
            "NaN",
            "99999999999999999d",
        ] {
            assert!(parse_when(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(parse_when("1970-01-01T00:00:01Z"), Ok(1_000));
        assert_eq!(parse_duration_ms("7d"), Some(604_800_000));
    }

    #[test]
    fn a_place_is_told_as_it_is_read() {
        for text in ["0", "3/17-17", "3/17-23"] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
    }
}
