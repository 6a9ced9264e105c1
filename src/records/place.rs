//! Where to begin and to stop, as a flag says it.

use std::str::FromStr;

use millrace_kafka::{ReadFrom, Record};

use crate::when::parse_when;

/// A place of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The oldest record.
    Beginning,
    /// The end, or so many records before it in each partition.
    End(Option<u64>),
    /// This offset of each partition.
    Offset(i64),
    /// This time, ms since 1970.
    Time(i64),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "beginning" => return Ok(Self::Beginning),
            "end" => return Ok(Self::End(None)),
            _ => {}
        }
        if let Some(before) = text.strip_prefix('-')
            && let Ok(before) = before.parse()
        {
            return Ok(Self::End(Some(before)));
        }
        if let Ok(offset) = text.parse::<i64>() {
            return Ok(Self::Offset(offset));
        }
        parse_when(text).map(Self::Time).map_err(|_| {
            "expected beginning, end, an offset, -N for N records before the end, an RFC 3339 time such as \
             2026-11-29T14:00:00Z, a day such as 2026-11-29, or how long ago, such as 90s, 30m, 2h or 7d"
                .to_owned()
        })
    }
}

impl Place {
    /// Where to begin; `shown` records of each partition at its end.
    pub fn begin(&self, partitions: &[i32], shown: usize) -> ReadFrom {
        match self {
            Self::Beginning => ReadFrom::Beginning,
            Self::End(before) => ReadFrom::Latest(before.unwrap_or(shown as u64)),
            Self::Offset(offset) => {
                ReadFrom::Offsets(partitions.iter().map(|&number| (number, *offset)).collect())
            }
            Self::Time(time_ms) => ReadFrom::Timestamp(*time_ms),
        }
    }

    /// Whether a record comes before this place.
    pub fn is_before(&self, record: &Record) -> bool {
        match self {
            Self::Beginning => false,
            // The present end is where reading stops anyway.
            Self::End(_) => true,
            Self::Offset(offset) => record.offset < *offset,
            Self::Time(time_ms) => record.timestamp_ms.is_none_or(|at| at < *time_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_kcat_reads_them() {
        let read = |text: &str| text.parse::<Place>();
        assert_eq!(read("beginning"), Ok(Place::Beginning));
        assert_eq!(read("end"), Ok(Place::End(None)));
        assert_eq!(read("-5"), Ok(Place::End(Some(5))));
        assert_eq!(read("17"), Ok(Place::Offset(17)));
        assert_eq!(read("1970-01-01T00:00:01Z"), Ok(Place::Time(1_000)));
        for wrong in ["", "-", "--5", "soon", "1.5", "NaN", "99999999999999999999"] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
