//! Whether the lengths in a request can be true, asked before the codec believes them.
//!
//! `kafka-protocol` 0.18 reserves memory for as many elements as an array's length says before it
//! reads the first: twenty bytes can ask for hundreds of gigabytes, and an allocation that fails ends
//! the process, not the connection (its pull requests 152, 161 and 200 are open). Every element takes
//! a byte at least, so a length beyond what is left of the request is a lie. To find the lengths,
//! this walks over the request by the table below; what else is wrong with it, the codec says.

use kafka_protocol::messages::ApiKey;
use thiserror::Error;

/// An array that is longer than the request has room for.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("an array of {elements} elements in {left} bytes")]
pub struct ImpossibleLength {
    elements: u64,
    left: usize,
}

/// The fields of each request in the versions that the broker takes.
///
/// `b`, `h`, `i`, `l`: integers of 1, 2, 4, 8 bytes; `s`: string; `y`: bytes; `[x]`: array of a plain
/// type; `{…}`: array of a structure. Before a field stand the versions that have it, where not all
/// do: `3+`, `0-2`. Flexible versions have compact lengths, and tagged fields after each structure.
/// Taken from the codec's own readers.
const LAYOUTS: &[(ApiKey, &str)] = &[
    (ApiKey::Produce, "s h i {s {i y}}"),
    (
        ApiKey::Fetch,
        "i i i i b 7+i 7+i {s {i 9+i l 12+i 5+l i}} 7+{7+s 7+[i]} 11+s",
    ),
    (ApiKey::ListOffsets, "i 2+b {s {i 4+i l}}"),
    (ApiKey::Metadata, "{s} 4+b 8+b 8+b"),
    (ApiKey::OffsetCommit, "s i s 7+s 2-4l {s {i l 6+i s}}"),
    (ApiKey::OffsetFetch, "s {s [i]} 7+b"),
    (ApiKey::FindCoordinator, "0-3s 1+b 4+[s]"),
    (ApiKey::JoinGroup, "s i 1+i s 5+s s {s y}"),
    (ApiKey::Heartbeat, "s i s 3+s"),
    (ApiKey::LeaveGroup, "s 0-2s 3+{3+s 3+s}"),
    (ApiKey::SyncGroup, "s i s 3+s 5+s 5+s {s y}"),
    (ApiKey::DescribeGroups, "[s] 3+b"),
    (ApiKey::ListGroups, "4+[s]"),
    (ApiKey::ApiVersions, "3+s 3+s"),
    (ApiKey::CreateTopics, "{s i h {i [i]} {s s}} i b"),
    (ApiKey::DeleteTopics, "[s] i"),
    (ApiKey::DeleteRecords, "{s {i l}} i"),
    (ApiKey::InitProducerId, "s i 3+l 3+h"),
    (ApiKey::AddPartitionsToTxn, "s l h {s [i]}"),
    (ApiKey::AddOffsetsToTxn, "s l h s"),
    (ApiKey::EndTxn, "s l h b"),
    (
        ApiKey::TxnOffsetCommit,
        "s s l h 3+i 3+s 3+s {s {i l 2+i s}}",
    ),
    (ApiKey::DescribeConfigs, "{b s [s]} b 3+b"),
    (ApiKey::AlterConfigs, "{b s {s s}} b"),
    (ApiKey::IncrementalAlterConfigs, "{b s {s b s}} b"),
    (ApiKey::CreatePartitions, "{s i {[i]}} i b"),
    (ApiKey::DeleteGroups, "[s]"),
    (ApiKey::OffsetDelete, "s {s {i}}"),
    (ApiKey::DescribeCluster, "b 1+b"),
];

/// Checks every array length in the body of a request, up to where it ends or stops making sense.
///
/// # Errors
/// A length that the rest of the request cannot hold.
pub fn check(key: ApiKey, version: i16, body: &[u8]) -> Result<(), ImpossibleLength> {
    match walk(key, version, body) {
        Err(Stop::Impossible(length)) => Err(length),
        Ok(_) | Err(Stop::Ends) => Ok(()),
    }
}

/// How many bytes follow the request.
fn walk(key: ApiKey, version: i16, body: &[u8]) -> Result<usize, Stop> {
    let Some((_, layout)) = LAYOUTS.iter().find(|(of, _)| *of == key) else {
        return Ok(body.len());
    };
    let mut walk = Walk {
        rest: body,
        version,
        flexible: key.request_header_version(version) >= 2,
    };
    walk.structure(layout)?;
    Ok(walk.rest.len())
}

enum Stop {
    /// Cut short or malformed: the codec says how.
    Ends,
    Impossible(ImpossibleLength),
}

struct Walk<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
}

impl Walk<'_> {
    fn structure(&mut self, layout: &str) -> Result<(), Stop> {
        let mut rest = layout;
        while !rest.is_empty() {
            let (is_there, field) = self.versions(rest);
            let (element, after) = match field.as_bytes()[0] {
                b'[' | b'{' => {
                    let end = closing(field);
                    (&field[1..end], &field[end + 1..])
                }
                _ => ("", &field[1..]),
            };
            if is_there {
                match field.as_bytes()[0] {
                    b'[' => {
                        for _ in 0..self.array()? {
                            self.plain(element.as_bytes()[0])?;
                        }
                    }
                    b'{' => {
                        for _ in 0..self.array()? {
                            self.structure(element)?;
                        }
                    }
                    kind => self.plain(kind)?,
                }
            }
            rest = after.trim_start();
        }
        if self.flexible {
            for _ in 0..self.varint()? {
                let _tag = self.varint()?;
                let bytes = self.varint()?;
                self.skip(bytes)?;
            }
        }
        Ok(())
    }

    /// Whether this version has the field, and the field without its versions.
    fn versions<'l>(&self, layout: &'l str) -> (bool, &'l str) {
        let digits = |text: &'l str| {
            let end = text
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(text.len());
            (text[..end].parse::<i16>().ok(), &text[end..])
        };
        let (Some(first), rest) = digits(layout) else {
            return (true, layout);
        };
        if let Some(field) = rest.strip_prefix('+') {
            return (self.version >= first, field);
        }
        let (last, field) = digits(&rest[1..]);
        (
            last.is_some_and(|last| (first..=last).contains(&self.version)),
            field,
        )
    }

    fn plain(&mut self, kind: u8) -> Result<(), Stop> {
        let bytes = match kind {
            b'b' => 1,
            b'h' => 2,
            b'i' => 4,
            b'l' => 8,
            // Null is −1, or 0 where lengths are one more than they say.
            _ if self.flexible => self.varint()?.saturating_sub(1),
            b's' => u64::try_from(i16::from_be_bytes(self.take()?)).unwrap_or(0),
            _ => u64::try_from(i32::from_be_bytes(self.take()?)).unwrap_or(0),
        };
        self.skip(bytes)
    }

    fn array(&mut self) -> Result<u64, Stop> {
        let elements = match self.flexible {
            true => self.varint()?.saturating_sub(1),
            false => u64::try_from(i32::from_be_bytes(self.take()?)).unwrap_or(0),
        };
        let left = self.rest.len();
        if elements > left as u64 {
            return Err(Stop::Impossible(ImpossibleLength { elements, left }));
        }
        Ok(elements)
    }

    /// As the codec reads it: 32 bits, and the fifth group is the last whatever it says.
    fn varint(&mut self) -> Result<u64, Stop> {
        let mut value = 0_u32;
        for shift in (0..35).step_by(7) {
            let [byte] = self.take()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        Ok(value.into())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Stop::Ends)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn skip(&mut self, bytes: u64) -> Result<(), Stop> {
        let bytes = usize::try_from(bytes).map_err(|_| Stop::Ends)?;
        self.rest = self.rest.get(bytes..).ok_or(Stop::Ends)?;
        Ok(())
    }
}

/// Where the bracket closes that the layout begins with.
fn closing(layout: &str) -> usize {
    let mut depth = 0;
    let closes = |&(_, byte): &(usize, u8)| {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            _ => {}
        }
        depth == 0
    };
    let found = layout.bytes().enumerate().find(closes);
    found.map_or(layout.len(), |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bytes::{Buf, Bytes};
    use kafka_protocol::messages::RequestHeader;
    use kafka_protocol::protocol::Decodable;

    use super::*;
    use crate::server::dispatch::SUPPORTED;

    /// Key, version and body of every request in the fuzzing corpus that has all its bytes.
    fn requests() -> Vec<(ApiKey, i16, Bytes)> {
        let mut requests = Vec::new();
        for name in ["groups", "records", "topics", "transaction"] {
            for age in ["old", "new"] {
                let file = millrace_fuzz::corpus("broker_request").join(format!("{name}_{age}"));
                let mut rest = Bytes::from(std::fs::read(file).expect("a seed"));
                while rest.has_remaining() {
                    let length = rest.get_i32();
                    let mut frame = rest.split_to(usize::try_from(length).expect("a length"));
                    let key = ApiKey::try_from(i16::from_be_bytes([frame[0], frame[1]]));
                    let key = key.expect("a known request");
                    let version = i16::from_be_bytes([frame[2], frame[3]]);
                    let header = key.request_header_version(version);
                    RequestHeader::decode(&mut frame, header).expect("a header");
                    requests.push((key, version, frame));
                }
            }
        }
        requests
    }

    #[test]
    fn the_table_fits_every_request_in_its_first_and_last_version() {
        let mut seen = BTreeSet::new();
        for (key, version, body) in requests() {
            assert_eq!(walk(key, version, &body).ok(), Some(0), "{key:?} {version}");
            seen.insert((key as i16, version));
        }
        for (key, first, last) in SUPPORTED {
            for version in [first, last] {
                assert!(
                    seen.contains(&(*key as i16, *version)),
                    "{key:?} {version} has no seed"
                );
            }
        }
    }

    #[test]
    fn a_length_beyond_the_request_is_impossible() {
        let plain = [0x7f, 0xff, 0xff, 0xff, 0, 0];
        let refused = check(ApiKey::Metadata, 0, &plain).expect_err("a lie");
        assert_eq!((refused.elements, refused.left), (0x7fff_ffff, 2));
        let compact = [0xff, 0xff, 0xff, 0xff, 0x0f, 0];
        assert!(check(ApiKey::Metadata, 9, &compact).is_err());
        // −1 is no array, and a string that is too long is the codec's to refuse.
        assert_eq!(check(ApiKey::Metadata, 1, &[0xff; 4]), Ok(()));
        assert_eq!(
            check(ApiKey::Metadata, 1, &[0, 0, 0, 1, 0x7f, 0xff]),
            Ok(())
        );
    }
}
