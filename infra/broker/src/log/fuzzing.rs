//! Any bytes as the segment, and the checkpoint, that a broker finds when it starts.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::PartitionLog;
use super::batch::{self, BatchHeader};
use super::recovery::RecoveryError;
use super::segment::Segment;
use crate::storage::StorageQuota;
use crate::topic_config::TopicConfig;

const NOW_MS: i64 = 1_700_000_000_000;
/// Beyond this a log has no room for another record, and nothing ever reaches it.
const MAX_OFFSET: i64 = i64::MAX - 1_000_000;

/// The first byte says for how many batches the checksum is put right, so that what it protects is
/// reached; a line that begins with `{` is the checkpoint; the rest is the segment.
///
/// Every batch before the damage is there and is served byte for byte; a torn tail is cut and
/// appending goes on after it; a hole is reported and the file is not touched.
pub fn segment(input: &[u8], dir: &Path) {
    let Some((&checksummed, mut content)) = input.split_first() else {
        return;
    };
    let mut has_checkpoint = false;
    if content.starts_with(b"{")
        && let Some(end) = content.iter().position(|byte| *byte == b'\n')
    {
        has_checkpoint = true;
        write(&dir.join("checkpoint.json"), &content[..end]);
        content = &content[end + 1..];
    }
    let content = with_checksums(content, usize::from(checksummed));
    let (valid, next_offset) = valid_part(&content);
    let path = Segment::path_of(dir, 0);
    write(&path, &content);
    let mut log = match open(dir) {
        Ok(log) => log,
        Err(RecoveryError::Corrupt { position, .. }) => {
            assert_eq!(position, valid as u64, "the damage is where it begins");
            assert_eq!(
                fs::read(&path).ok(),
                Some(content),
                "a damaged file is evidence"
            );
            return;
        }
        Err(RecoveryError::Io { source, .. }) if has_checkpoint => {
            assert_eq!(source.kind(), std::io::ErrorKind::InvalidData, "{source}");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    if log.start_offset() > next_offset {
        assert!(has_checkpoint, "nothing says that anything was deleted");
        assert_eq!((log.bytes(), log.end_offset()), (0, log.start_offset()));
        goes_on(&mut log, dir);
        return;
    }
    assert_eq!(
        log.bytes(),
        valid as u64,
        "a batch before the damage is lost"
    );
    assert_eq!(log.end_offset(), next_offset);
    assert!(has_checkpoint || log.start_offset() == 0);
    assert!(log.stable_offset() <= log.end_offset());
    assert!(
        serves(&log, &content[..valid]),
        "a batch is not served as it was sent"
    );
    for time in [i64::MIN, 0, NOW_MS, i64::MAX] {
        assert!(log.offset_for_time(time).is_ok());
    }
    assert!(log.latest_time().is_ok());
    goes_on(&mut log, dir);
}

fn open(dir: &Path) -> Result<PartitionLog, RecoveryError> {
    PartitionLog::open(dir, Arc::new(StorageQuota::new(None)))
}

/// Whether reading from the first offset on gives the rest of `content`, batch after batch.
fn serves(log: &PartitionLog, content: &[u8]) -> bool {
    let mut offset = log.start_offset();
    let mut served = Vec::new();
    loop {
        let located = match log.read_from(offset, false) {
            Ok(Some(located)) => located,
            Ok(None) => break,
            Err(error) => panic!("{error}"),
        };
        let batches = match located.slice.read(4096, true) {
            Ok(batches) => batches,
            Err(error) => panic!("{error}"),
        };
        let mut rest = &batches[..];
        while !rest.is_empty() {
            let Ok(header) = BatchHeader::parse(rest) else {
                return false;
            };
            offset = header.last_offset() + 1;
            rest = &rest[header.bytes..];
        }
        if batches.is_empty() {
            return false;
        }
        served.extend_from_slice(&batches);
    }
    content.ends_with(&served) && (log.start_offset() > 0 || served.len() == content.len())
}

/// Appends, and opens again: nothing else has changed.
fn goes_on(log: &mut PartitionLog, dir: &Path) {
    let end = log.end_offset();
    if end > MAX_OFFSET {
        return;
    }
    let config = match TopicConfig::new(BTreeMap::new(), 1 << 20) {
        Ok(config) => config,
        Err(error) => panic!("{error}"),
    };
    match log.append(&one_record(), &config, NOW_MS) {
        Ok(appended) => assert_eq!(appended.base_offset, end),
        Err(error) => panic!("a valid batch is refused: {error}"),
    }
    let bytes = log.bytes();
    match open(dir) {
        Ok(again) => assert_eq!(
            (again.start_offset(), again.end_offset(), again.bytes()),
            (log.start_offset(), end + 1, bytes)
        ),
        Err(error) => panic!("the broker cannot read what it wrote: {error}"),
    }
}

/// A batch of one record without producer, key, value or headers.
fn one_record() -> Bytes {
    let marker = batch::transaction_marker(0, -1, -1, false, NOW_MS);
    let mut plain = batch::with_records(&marker, &[12, 0, 0, 0, 1, 1, 0], 1);
    // Neither transactional nor a control batch.
    plain[21..23].fill(0);
    let crc = crc32c::crc32c(&plain[21..]);
    plain[17..21].copy_from_slice(&crc.to_be_bytes());
    plain.into()
}

fn with_checksums(content: &[u8], count: usize) -> Vec<u8> {
    let mut content = content.to_vec();
    let mut position = 0;
    for _ in 0..count {
        let Some(rest) = content.get_mut(position..) else {
            break;
        };
        let Ok(header) = BatchHeader::parse(rest) else {
            break;
        };
        let Some(body) = rest.get(21..header.bytes) else {
            break;
        };
        let crc = crc32c::crc32c(body);
        rest[17..21].copy_from_slice(&crc.to_be_bytes());
        position += header.bytes;
    }
    content
}

/// How many bytes are valid batches in ascending order, and the offset after them.
fn valid_part(content: &[u8]) -> (usize, i64) {
    let (mut position, mut last_offset) = (0, -1);
    while let Some(header) = content
        .get(position..)
        .and_then(|rest| BatchHeader::parse(rest).ok())
    {
        let rest = &content[position..];
        if header.verify(rest).is_err() || header.base_offset <= last_offset {
            break;
        }
        last_offset = header.last_offset();
        position += header.bytes;
    }
    (position, last_offset + 1)
}

fn write(path: &Path, content: &[u8]) {
    if let Err(error) = fs::write(path, content) {
        panic!("{}: {error}", path.display());
    }
}
