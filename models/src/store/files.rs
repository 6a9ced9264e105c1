//! Which files belong to a model, and how they are copied.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use millrace_downloads::DownloadError;

use crate::store::error::StoreError;

/// The weights' name.
pub(super) const WEIGHTS: &str = "model.safetensors";
/// Largest file that is taken from an archive: no bomb fills the disk.
pub(super) const MAX_FILE_BYTES: u64 = 16 << 30;
/// Folders inside a model's: `1_Pooling`, `2_Normalize`.
const MAX_DEPTH: usize = 2;

/// Whether a file, by its path inside the model's folder, is one of the model's.
pub(super) fn is_wanted(path: &Path) -> bool {
    let hidden = path
        .components()
        .any(|part| part.as_os_str().to_string_lossy().starts_with('.'));
    if hidden || path.components().count() > MAX_DEPTH {
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
        } else if metadata.is_file() && is_wanted(&path) {
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
        write(&mut file, &to.join(path))?;
    }
    progress(total, total);
    Ok(())
}

/// Writes a file with its folders, durably; the bytes written.
pub(super) fn write(from: &mut impl Read, to: &Path) -> Result<u64, StoreError> {
    let failed = |source| io("write", to, source);
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    let mut file = File::create(to).map_err(failed)?;
    let written = io::copy(from, &mut file).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    Ok(written)
}

pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::Download(DownloadError::Io {
        action,
        path: path.to_owned(),
        source,
    })
}
