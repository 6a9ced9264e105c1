//! The 61-byte header of a RecordBatch v2, read in place.
//!
//! A batch is stored as the client sent it. Only the base offset and the leader epoch are patched:
//! both lie before the checksummed part, so the client's own CRC stays valid to the last reader.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

/// Bytes before the first record.
pub const HEADER_BYTES: usize = 61;
/// Bytes that the length field does not count: base offset and the length itself.
const PREFIX_BYTES: usize = 12;
/// The checksum covers everything from the attributes on.
const CHECKSUMMED_FROM: usize = 21;
const MAGIC_V2: i8 = 2;
const COMPRESSION_MASK: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// What one batch says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: i64,
    /// The whole batch, header included.
    pub bytes: usize,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp_ms: i64,
    pub max_timestamp_ms: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}

/// Why bytes are not a batch.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BatchError {
    #[error("the batch is cut short")]
    Truncated,
    #[error("message format {0} is not supported, only 2")]
    Magic(i8),
    #[error("the checksum does not match")]
    Checksum,
    #[error("a header field is out of range")]
    Malformed,
}

impl BatchHeader {
    /// Reads the header alone; [`BatchHeader::verify`] looks at the rest.
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        let header: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(BatchError::Truncated)?;
        let magic = i8::from_be_bytes([header[16]]);
        if magic != MAGIC_V2 {
            return Err(BatchError::Magic(magic));
        }
        let length = i32_at(header, 8);
        let parsed = BatchHeader {
            base_offset: i64_at(header, 0),
            bytes: usize::try_from(length).map_err(|_| BatchError::Malformed)? + PREFIX_BYTES,
            crc: u32::from_be_bytes([header[17], header[18], header[19], header[20]]),
            attributes: i16_at(header, 21),
            last_offset_delta: i32_at(header, 23),
            base_timestamp_ms: i64_at(header, 27),
            max_timestamp_ms: i64_at(header, 35),
            producer_id: i64_at(header, 43),
            producer_epoch: i16_at(header, 51),
            base_sequence: i32_at(header, 53),
            record_count: i32_at(header, 57),
        };
        // The checksum does not cover the first offset; the last one and its successor must exist.
        let next = i64::from(parsed.last_offset_delta) + 1;
        if parsed.bytes < HEADER_BYTES
            || parsed.last_offset_delta < 0
            || parsed.record_count < 0
            || parsed.base_offset.checked_add(next).is_none()
        {
            return Err(BatchError::Malformed);
        }
        Ok(parsed)
    }

    /// Checks the checksum over a batch that may have other bytes after it.
    pub fn verify(&self, batch: &[u8]) -> Result<(), BatchError> {
        let body = batch
            .get(CHECKSUMMED_FROM..self.bytes)
            .ok_or(BatchError::Truncated)?;
        if crc32c::crc32c(body) == self.crc {
            Ok(())
        } else {
            Err(BatchError::Checksum)
        }
    }

    pub fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    pub fn last_sequence(&self) -> i32 {
        sequence_after(self.base_sequence, self.last_offset_delta)
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    pub fn has_producer(&self) -> bool {
        self.producer_id >= 0
    }

    /// The codec's number in the format: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    pub fn compression(&self) -> i16 {
        self.attributes & COMPRESSION_MASK
    }

    pub fn uses_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }
}

/// Sequence numbers run from 0 to `i32::MAX` and start over at 0.
pub fn sequence_after(sequence: i32, steps: i32) -> i32 {
    let next = (i64::from(sequence) + i64::from(steps)) % (i64::from(i32::MAX) + 1);
    i32::try_from(next).unwrap_or(0)
}

/// Gives a batch its place in the log. The checksum does not cover either field.
pub fn place(batch: &mut [u8], base_offset: i64) {
    batch[0..8].copy_from_slice(&base_offset.to_be_bytes());
    // One broker leads from the first day: the epoch never moves.
    batch[12..16].copy_from_slice(&0i32.to_be_bytes());
}

/// A batch with some of another's records: everything that names the batch (offsets, sequence,
/// producer, times, codec) is kept, so readers and duplicate detection see no difference.
pub fn with_records(original: &[u8], records: &[u8], count: i32) -> Vec<u8> {
    let mut batch = Vec::with_capacity(HEADER_BYTES + records.len());
    batch.extend_from_slice(&original[..HEADER_BYTES]);
    batch.extend_from_slice(records);
    let length = i32::try_from(batch.len() - PREFIX_BYTES).unwrap_or(i32::MAX);
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[57..61].copy_from_slice(&count.to_be_bytes());
    let crc = crc32c::crc32c(&batch[CHECKSUMMED_FROM..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

/// The control batch that ends a transaction in one partition.
pub fn transaction_marker(
    base_offset: i64,
    producer_id: i64,
    epoch: i16,
    committed: bool,
    now_ms: i64,
) -> Bytes {
    // One record: no headers, key = (version 0, 1 for commit), value = (version 0, coordinator epoch 0).
    let mut record = vec![
        0u8,
        0,
        0,
        8,
        0,
        0,
        0,
        u8::from(committed),
        12,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ];
    record.insert(0, u8::try_from(record.len() << 1).unwrap_or(0));
    let mut body = BytesMut::new();
    body.put_i16(TRANSACTIONAL | CONTROL);
    body.put_i32(0);
    body.put_i64(now_ms);
    body.put_i64(now_ms);
    body.put_i64(producer_id);
    body.put_i16(epoch);
    body.put_i32(-1);
    body.put_i32(1);
    body.put_slice(&record);
    let mut batch = BytesMut::with_capacity(CHECKSUMMED_FROM + body.len());
    batch.put_i64(base_offset);
    batch.put_i32(i32::try_from(body.len() + CHECKSUMMED_FROM - PREFIX_BYTES).unwrap_or(0));
    batch.put_i32(0);
    batch.put_i8(MAGIC_V2);
    batch.put_u32(crc32c::crc32c(&body));
    batch.put_slice(&body);
    batch.freeze()
}

/// Whether a control batch commits; anything else that it may be aborts.
pub fn marker_commits(batch: &[u8]) -> bool {
    // record: length, attributes, time delta, offset delta, key length, key version (2), key type (2)
    batch.get(HEADER_BYTES + 7..HEADER_BYTES + 9) == Some(&[0, 1])
}

fn i16_at(bytes: &[u8; HEADER_BYTES], at: usize) -> i16 {
    i16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn i32_at(bytes: &[u8; HEADER_BYTES], at: usize) -> i32 {
    i32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn i64_at(bytes: &[u8; HEADER_BYTES], at: usize) -> i64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    i64::from_be_bytes(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_valid_batches() {
        for committed in [true, false] {
            let marker = transaction_marker(41, 7, 3, committed, 1_000);
            let header = BatchHeader::parse(&marker).expect("header");
            header.verify(&marker).expect("checksum");
            assert_eq!(
                (header.base_offset, header.last_offset(), header.bytes),
                (41, 41, marker.len())
            );
            assert!(header.is_control() && header.is_transactional());
            assert_eq!(marker_commits(&marker), committed);
        }
    }

    #[test]
    fn placing_a_batch_keeps_its_checksum() {
        let mut marker = transaction_marker(0, 7, 3, true, 1_000).to_vec();
        place(&mut marker, 1 << 40);
        let header = BatchHeader::parse(&marker).expect("header");
        header.verify(&marker).expect("checksum");
        assert_eq!(header.base_offset, 1 << 40);
    }

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 1, 1), i32::MAX);
    }
}
