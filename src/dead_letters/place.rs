//! Records of a topic, as a flag names them.

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
    }

    #[test]
    fn a_place_is_told_as_it_is_read() {
        for text in ["0", "3/17-17", "3/17-23"] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
    }
}
