//! What an append of the embedded broker leaves where a crash cuts it off.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Less than the header of a record batch, which has 61 bytes.
const HALF_BYTES: u64 = 40;

/// Leaves the beginning of a record batch behind the last one of each partition that holds any. The
/// broker must not run.
///
/// # Errors
/// Its files can't be read or written.
pub fn leave(topics: &Path) -> io::Result<()> {
    for topic in folder(topics)? {
        for partition in folder(&topic)? {
            let is_segment = |path: &PathBuf| path.extension().is_some_and(|end| end == "log");
            let newest = folder(&partition)?.into_iter().filter(is_segment).max();
            let Some(segment) = newest else { continue };
            let mut half = Vec::new();
            File::open(&segment)?
                .take(HALF_BYTES)
                .read_to_end(&mut half)?;
            File::options()
                .append(true)
                .open(&segment)?
                .write_all(&half)?;
        }
    }
    Ok(())
}

fn folder(path: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect()
}
