//! Any bytes as the journal that a broker finds when it starts.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::{FILE_NAME, Journal, JournalError, parse};
use crate::metadata::{Fact, Metadata};
use crate::storage::{FlushPolicy, StorageQuota};

/// The first byte says for how many lines the checksum is put right, so that what it protects is
/// reached. What the lines before the damage tell is the state; a hole is reported and nothing is
/// touched; opening again changes nothing.
pub fn journal(input: &[u8], dir: &Path) {
    let Some((&checksummed, lines)) = input.split_first() else {
        return;
    };
    let content = with_checksums(lines, usize::from(checksummed));
    let path = dir.join(FILE_NAME);
    write(&path, &content);
    match open(dir) {
        Ok(journal) => {
            let facts = journal.read(Metadata::facts);
            assert_eq!(facts, before_the_damage(&content));
            drop(journal);
            match open(dir) {
                Ok(again) => assert_eq!(again.read(Metadata::facts), facts),
                Err(error) => panic!("the broker cannot read what it wrote: {error}"),
            }
        }
        Err(JournalError::Corrupt { .. }) => {
            assert_eq!(
                fs::read(&path).ok(),
                Some(content),
                "a damaged file is evidence"
            );
        }
        Err(error) => panic!("{error}"),
    }
}

fn open(dir: &Path) -> Result<Journal, JournalError> {
    let quota = Arc::new(StorageQuota::new(None));
    Journal::open(dir, false, FlushPolicy::Never, quota)
}

fn with_checksums(lines: &[u8], count: usize) -> Vec<u8> {
    let mut content = Vec::new();
    for (at, line) in lines.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let json = line.strip_suffix(b"\n").unwrap_or(line);
        if at < count {
            let mut checksum = String::new();
            let _to_a_string = write!(checksum, "{:08x} ", crc32c::crc32c(json));
            content.extend_from_slice(checksum.as_bytes());
        }
        content.extend_from_slice(line);
    }
    content
}

fn before_the_damage(content: &[u8]) -> Vec<Fact> {
    let mut metadata = Metadata::default();
    content
        .split_inclusive(|byte| *byte == b'\n')
        .map_while(|line| parse(line.strip_suffix(b"\n")?))
        .flatten()
        .for_each(|fact| metadata.apply(fact));
    metadata.facts()
}

fn write(path: &Path, content: &[u8]) {
    if let Err(error) = fs::write(path, content) {
        panic!("{}: {error}", path.display());
    }
}
