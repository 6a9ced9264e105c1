//! What a partition must remember beside its batches, in one small file replaced as a whole.
//!
//! - the first offset, which DeleteRecords and retention move;
//! - producers' last sequences, as retention and compaction take away the batches that tell them;
//! - when each part was first compacted, so that tombstones outlive `delete.retention.ms`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::producers::Producers;

const FILE_NAME: &str = "checkpoint.json";

/// Records before `until_offset` have been through compaction since `at_ms` or earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleaning {
    pub until_offset: i64,
    pub at_ms: i64,
}

/// The file's content.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    pub start_offset: i64,
    /// The state of producers as of the batches before this offset.
    pub producers_until: i64,
    pub producers: Producers,
    /// Ascending in both fields.
    pub cleanings: Vec<Cleaning>,
    /// Tombstones before this offset that had waited long enough are gone.
    pub tombstones_dropped_until: i64,
}

impl Checkpoint {
    /// Reads it; a partition without one starts at the default.
    pub fn load(dir: &Path) -> io::Result<Checkpoint> {
        match fs::read(dir.join(FILE_NAME)) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                let path = dir.join(FILE_NAME);
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{}: {error}", path.display()),
                )
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Checkpoint::default()),
            Err(error) => Err(error),
        }
    }

    /// Replaces the file atomically and durably: what it says about producers outlives the batches
    /// that said it.
    pub fn store(&self, dir: &Path) -> io::Result<()> {
        let fresh = dir.join("checkpoint.json.new");
        let mut file = File::create(&fresh)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_data()?;
        fs::rename(&fresh, dir.join(FILE_NAME))?;
        File::open(dir)?.sync_all()
    }

    /// When the record at `offset` was first seen by a compaction.
    pub fn first_cleaned_ms(&self, offset: i64) -> Option<i64> {
        self.cleanings
            .iter()
            .find(|cleaning| cleaning.until_offset > offset)
            .map(|cleaning| cleaning.at_ms)
    }

    /// The end of what was first cleaned at `horizon_ms` or before.
    pub fn ripe_until(&self, horizon_ms: i64) -> i64 {
        let ripe = self
            .cleanings
            .iter()
            .rfind(|cleaning| cleaning.at_ms <= horizon_ms);
        ripe.map_or(0, |cleaning| cleaning.until_offset)
    }

    /// Notes a compaction. Entries older than `horizon_ms` say no more than the last of them.
    pub fn note_cleaning(&mut self, until_offset: i64, at_ms: i64, horizon_ms: i64) {
        let reached = self
            .cleanings
            .last()
            .map_or(0, |cleaning| cleaning.until_offset);
        if until_offset > reached {
            self.cleanings.push(Cleaning {
                until_offset,
                at_ms,
            });
        }
        let ripe = self
            .cleanings
            .partition_point(|cleaning| cleaning.at_ms <= horizon_ms);
        if ripe > 1 {
            self.cleanings.drain(..ripe - 1);
        }
    }
}
