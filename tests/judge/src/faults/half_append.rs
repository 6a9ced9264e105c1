//! What an append of the embedded broker leaves where a crash cuts it off.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Offset and length of a record batch; the length counts what follows it
/// (<https://kafka.apache.org/documentation/#recordbatch>).
const PREFIX_BYTES: usize = 12;

/// Leaves half a record batch behind the last one of each partition that holds any. The broker must not
/// run.
///
/// # Errors
/// Its files can't be read or written.
pub fn leave(topics: &Path) -> io::Result<()> {
    for topic in folder(topics)? {
        for partition in folder(&topic)? {
            let is_segment = |path: &PathBuf| path.extension().is_some_and(|end| end == "log");
            let newest = folder(&partition)?.into_iter().filter(is_segment).max();
            let Some(segment) = newest else { continue };
            if let Some(half) = half_of_the_first(&File::open(&segment)?)? {
                File::options()
                    .append(true)
                    .open(&segment)?
                    .write_all(&half)?;
            }
        }
    }
    Ok(())
}

/// Half of a segment's first batch; none where it is empty.
fn half_of_the_first(segment: &File) -> io::Result<Option<Vec<u8>>> {
    let mut prefix = [0; PREFIX_BYTES];
    if segment.metadata()?.len() <= PREFIX_BYTES as u64 {
        return Ok(None);
    }
    segment.read_exact_at(&mut prefix, 0)?;
    let [.., a, b, c, d] = prefix;
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(0);
    let mut half = vec![0; (PREFIX_BYTES + length) / 2];
    segment.read_exact_at(&mut half, 0)?;
    Ok(Some(half))
}

fn folder(path: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect()
}
