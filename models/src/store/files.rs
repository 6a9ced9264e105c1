//! Which files belong to a model, and how they are copied.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use millrace_downloads::DownloadError;

use crate::store::error::StoreError;

/// The weights' name.
pub(super) const WEIGHTS: &str = "model.safetensors";
/// Folders inside a model's: `1_Pooling`, `2_Normalize`.
const MAX_DEPTH: usize = 2;
/// Copied at a time.
const BUFFER_BYTES: usize = 1 << 18;

/// Whether a file, by its path inside the model's folder, is one of the model's. What leads out of the
/// folder is none.
#[must_use]
pub fn is_model_file(path: &Path) -> bool {
    let plain = path.components().all(|part| {
        let name = part.as_os_str().to_string_lossy();
        matches!(part, Component::Normal(_)) && !name.starts_with('.')
    });
    if !plain || path.components().count() > MAX_DEPTH {
        return false;
    }
    let weights = path == Path::new(WEIGHTS);
    let extension = path.extension().and_then(OsStr::to_str);
    weights || matches!(extension, Some("json" | "txt" | "md"))
}

/// The model's files in a folder, by their paths inside it, sorted. What else lies there (optimizer
/// states, checkpoints, pickled weights, code, hidden files) is no part of a version.
///
/// # Errors
/// [`StoreError::Download`] when the folder can't be listed.
pub fn model_files(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut found = Vec::new();
    collect(folder, Path::new(""), &mut found)?;
    found.sort();
    Ok(found)
}

fn collect(root: &Path, inside: &Path, found: &mut Vec<PathBuf>) -> Result<(), StoreError> {
    let folder = root.join(inside);
    let failed = |source| io("list", &folder, source);
    for entry in std::fs::read_dir(&folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = inside.join(entry.file_name());
        let metadata = std::fs::metadata(entry.path()).map_err(failed)?;
        if metadata.is_dir() && path.components().count() < MAX_DEPTH {
            collect(root, &path, found)?;
        } else if metadata.is_file() && is_model_file(&path) {
            found.push(path);
        }
    }
    Ok(())
}

/// Copies these files of one folder into another.
pub(super) fn copy(
    from: &Path,
    paths: &[PathBuf],
    to: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), StoreError> {
    let total = paths.len() as u64;
    for (number, path) in paths.iter().enumerate() {
        progress(number as u64, total);
        let source = from.join(path);
        let mut file = File::open(&source).map_err(|error| io("open", &source, error))?;
        write(&mut file, &source, &to.join(path))?;
    }
    progress(total, total);
    Ok(())
}

/// Writes what is read of `source` to a file with its folders, durably; the bytes written.
pub(super) fn write(from: &mut impl Read, source: &Path, to: &Path) -> Result<u64, StoreError> {
    let failed = |error| io("write", to, error);
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    let mut file = File::create(to).map_err(failed)?;
    let written = transfer(from, source, &mut file, to)?;
    file.sync_all().map_err(failed)?;
    Ok(written)
}

/// Copies to the end; the bytes copied. Not [`io::copy`]: its error does not say whether `source`
/// could not be read or `target` not be written.
pub(super) fn transfer(
    from: &mut impl Read,
    source: &Path,
    to: &mut impl Write,
    target: &Path,
) -> Result<u64, StoreError> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut copied = 0;
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(copied),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(io("read", source, error)),
        };
        to.write_all(&buffer[..count])
            .map_err(|error| io("write", target, error))?;
        copied += count as u64;
    }
}

pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::Download(DownloadError::Io {
        action,
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_out_of_the_folder_is_no_part_of_a_model() {
        for (path, is_one) in [
            ("config.json", true),
            ("1_Pooling/config.json", true),
            ("a/b/config.json", false),
            ("/config.json", false),
            ("../config.json", false),
            ("a/../config.json", false),
            (".hidden.json", false),
            ("model.safetensors", true),
            ("other.safetensors", false),
        ] {
            assert_eq!(is_model_file(Path::new(path)), is_one, "{path}");
        }
    }

    struct Broken;

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("worn out"))
        }
    }

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::other("worn out"))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_copy_that_fails_names_the_file_on_whose_side_it_did() {
        let (source, target) = (Path::new("from"), Path::new("to"));
        let unread = transfer(&mut Broken, source, &mut Vec::new(), target);
        assert_eq!(unread.unwrap_err().to_string(), "failed to read `from`");
        let unwritten = transfer(&mut b"abc".as_slice(), source, &mut Broken, target);
        assert_eq!(unwritten.unwrap_err().to_string(), "failed to write `to`");
        let mut copy = Vec::new();
        let copied = transfer(&mut b"abc".as_slice(), source, &mut copy, target);
        assert_eq!((copied.unwrap(), copy.as_slice()), (3, b"abc".as_slice()));
    }
}
