//! Lines of JSON from files, plain or gzip.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use serde::de::DeserializeOwned;

use crate::error::DatasetError;

/// The longest line that is read: beyond this it is no passage, and tokenizing it would take minutes.
pub(crate) const MAX_LINE_BYTES: usize = 4 << 20;

/// Calls `take` with each line's number and value; blank lines are passed over.
pub(crate) fn each<T: DeserializeOwned>(
    path: &Path,
    expected: &'static str,
    mut take: impl FnMut(usize, T) -> Result<(), DatasetError>,
) -> Result<(), DatasetError> {
    let failed = |source| DatasetError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let zipped = path.extension().is_some_and(|extension| extension == "gz");
    let mut reader: Box<dyn BufRead> = if zipped {
        Box::new(BufReader::new(MultiGzDecoder::new(BufReader::new(file))))
    } else {
        Box::new(BufReader::new(file))
    };
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let limited = &mut reader.by_ref().take(MAX_LINE_BYTES as u64 + 1);
        let bytes = limited.read_until(b'\n', &mut line).map_err(failed)?;
        if bytes == 0 {
            break;
        }
        if bytes > MAX_LINE_BYTES {
            return Err(DatasetError::GiantText {
                path: path.to_owned(),
                line: number,
                limit: MAX_LINE_BYTES,
            });
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let value = serde_json::from_slice(&line).map_err(|source| DatasetError::Line {
            path: path.to_owned(),
            line: number,
            expected,
            source,
        })?;
        take(number, value)?;
    }
    Ok(())
}
