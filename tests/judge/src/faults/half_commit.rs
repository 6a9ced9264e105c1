//! What a commit of the embedded index leaves where a crash cuts it off.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// A commit writes which records of a segment are gone into a file named after the segment and the
/// number of operations so far, and its meta file after that. How many operations the next commit will
/// have is not known here: a file is left for each number up to this one.
const OPERATIONS: u64 = 1_000;

/// All files that tantivy has written or was about to write, whether its meta file names them or not.
const MANAGED: &str = ".managed.json";

/// The part of tantivy's `meta.json` that file names are made of.
#[derive(Deserialize)]
struct Meta {
    segments: Vec<Segment>,
    opstamp: u64,
}

#[derive(Deserialize)]
struct Segment {
    segment_id: String,
}

/// Leaves the files of commits that were cut off in each generation of the index. It must not run.
///
/// # Errors
/// Its files can't be read or written.
pub fn leave(index: &Path) -> io::Result<()> {
    for entry in fs::read_dir(index)? {
        let generation = entry?.path();
        // The lock, the aliases, and a generation that is just being made have none.
        if generation.join(MANAGED).is_file() && generation.join("meta.json").is_file() {
            leave_in(&generation)?;
        }
    }
    Ok(())
}

fn leave_in(generation: &Path) -> io::Result<()> {
    let meta: Meta = serde_json::from_slice(&fs::read(generation.join("meta.json"))?)?;
    let mut managed: Vec<PathBuf> = serde_json::from_slice(&fs::read(generation.join(MANAGED))?)?;
    for Segment { segment_id } in &meta.segments {
        let segment = segment_id.replace('-', "");
        for operations in 1..=OPERATIONS {
            let name = format!("{segment}.{}.del", meta.opstamp + operations);
            File::create(generation.join(&name))?;
            managed.push(name.into());
        }
    }
    fs::write(generation.join(MANAGED), serde_json::to_vec(&managed)?)
}
