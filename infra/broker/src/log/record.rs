//! Looking into a batch without re-encoding it.
//!
//! `kafka-protocol` decodes a record's headers into a map and would lose duplicate keys, so this
//! walks the records as slices and hands each one's raw bytes on. Compression is that crate's; its
//! variable-length integers are private.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use kafka_protocol::compression::{Compressor, Decompressor, Gzip, Lz4, Snappy, Zstd};
use thiserror::Error;

use super::batch::{BatchHeader, HEADER_BYTES};

/// The records of a batch could not be read.
#[derive(Debug, Error)]
pub enum RecordError {
    #[error("compression codec {0} is unknown")]
    Codec(i16),
    #[error("the codec failed: {0}")]
    CodecFailed(String),
    #[error("a record is malformed")]
    Malformed,
}

/// One record in place.
#[derive(Clone, Copy, Debug)]
pub struct RawRecord<'a> {
    /// All of it, length prefix included.
    pub bytes: &'a [u8],
    pub offset_delta: i32,
    pub timestamp_delta_ms: i64,
    pub key: Option<&'a [u8]>,
    /// `None` is a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
}

/// The records of a batch, decompressed when they need to be.
pub fn payload<'a>(header: &BatchHeader, batch: &'a [u8]) -> Result<Cow<'a, [u8]>, RecordError> {
    let body = batch
        .get(HEADER_BYTES..header.bytes)
        .ok_or(RecordError::Malformed)?;
    let mut compressed = Bytes::new();
    if header.compression() != 0 {
        compressed = Bytes::copy_from_slice(body);
    }
    let whole = |decompressed: &mut Bytes| Ok(decompressed.clone());
    let decompressed = match header.compression() {
        0 => return Ok(Cow::Borrowed(body)),
        1 => Gzip::decompress(&mut compressed, whole),
        2 => Snappy::decompress(&mut compressed, whole),
        3 => Lz4::decompress(&mut compressed, whole),
        4 => Zstd::decompress(&mut compressed, whole),
        other => return Err(RecordError::Codec(other)),
    };
    decompressed
        .map(|bytes| Cow::Owned(bytes.to_vec()))
        .map_err(|error| RecordError::CodecFailed(format!("{error:#}")))
}

/// Puts records under a codec again, after compaction left some out.
pub fn compress(codec: i16, records: &[u8]) -> Result<Vec<u8>, RecordError> {
    let mut compressed = BytesMut::new();
    let whole = |plain: &mut BytesMut| {
        plain.extend_from_slice(records);
        Ok(())
    };
    let done = match codec {
        0 => return Ok(records.to_vec()),
        1 => Gzip::compress(&mut compressed, whole),
        2 => Snappy::compress(&mut compressed, whole),
        3 => Lz4::compress(&mut compressed, whole),
        4 => Zstd::compress(&mut compressed, whole),
        other => return Err(RecordError::Codec(other)),
    };
    done.map(|()| compressed.to_vec())
        .map_err(|error| RecordError::CodecFailed(format!("{error:#}")))
}

/// Walks the records of a batch's decompressed payload; fails unless there are as many as the header
/// says, with offsets that rise and stay within the batch. A producer writes them and nobody checks
/// them for it: compaction would drop later records for one that claims an offset beyond theirs.
pub fn records<'a>(
    header: &BatchHeader,
    payload: &'a [u8],
) -> Result<Vec<RawRecord<'a>>, RecordError> {
    let count = header.record_count;
    let mut rest = payload;
    let mut after = -1;
    let mut found = Vec::with_capacity(usize::try_from(count).unwrap_or(0).min(payload.len()));
    for _ in 0..count {
        let start = rest;
        let length = varint(&mut rest)?;
        let mut body = take(&mut rest, length)?;
        let bytes = &start[..start.len() - rest.len()];
        take(&mut body, 1)?; // attributes, unused
        let timestamp_delta_ms = varlong(&mut body)?;
        let offset_delta = varint(&mut body)?;
        if offset_delta <= after || offset_delta > header.last_offset_delta {
            return Err(RecordError::Malformed);
        }
        after = offset_delta;
        let key = nullable(&mut body)?;
        let value = nullable(&mut body)?;
        found.push(RawRecord {
            bytes,
            offset_delta,
            timestamp_delta_ms,
            key,
            value,
        });
    }
    if rest.is_empty() {
        Ok(found)
    } else {
        Err(RecordError::Malformed)
    }
}

fn varint(from: &mut &[u8]) -> Result<i32, RecordError> {
    i32::try_from(varlong(from)?).map_err(|_| RecordError::Malformed)
}

/// Base 128, least significant group first, sign in the lowest bit.
fn varlong(from: &mut &[u8]) -> Result<i64, RecordError> {
    let mut groups = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first().ok_or(RecordError::Malformed)?;
        *from = rest;
        groups |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((groups >> 1).cast_signed() ^ -(groups & 1).cast_signed());
        }
    }
    Err(RecordError::Malformed)
}

fn take<'a>(from: &mut &'a [u8], length: i32) -> Result<&'a [u8], RecordError> {
    let length = usize::try_from(length).map_err(|_| RecordError::Malformed)?;
    let (head, tail) = from
        .split_at_checked(length)
        .ok_or(RecordError::Malformed)?;
    *from = tail;
    Ok(head)
}

fn nullable<'a>(from: &mut &'a [u8]) -> Result<Option<&'a [u8]>, RecordError> {
    match varint(from)? {
        -1 => Ok(None),
        length => take(from, length).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch of empty records at these offsets.
    fn at_offsets(deltas: &[u8], last_offset_delta: i32) -> (BatchHeader, Vec<u8>) {
        let payload = deltas
            .iter()
            .flat_map(|delta| [12, 0, 0, delta << 1, 1, 1, 0])
            .collect();
        let marker = super::super::batch::transaction_marker(0, -1, -1, false, 0);
        let header = BatchHeader {
            last_offset_delta,
            record_count: i32::try_from(deltas.len()).unwrap_or(0),
            ..BatchHeader::parse(&marker).expect("a header")
        };
        (header, payload)
    }

    #[test]
    fn offsets_rise_and_stay_within_the_batch() {
        for (deltas, last, is_sound) in [
            (&[0, 1, 2][..], 2, true),
            (&[1, 5], 6, true), // compaction took the others
            (&[0, 7], 1, false),
            (&[1, 1], 1, false),
            (&[1, 0], 1, false),
        ] {
            let (header, payload) = at_offsets(deltas, last);
            assert_eq!(records(&header, &payload).is_ok(), is_sound, "{deltas:?}");
        }
    }
}
