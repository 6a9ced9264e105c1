//! Files that are whole and on the disk, or as they were.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

/// Replaces a file by what `content` writes, or leaves it as it is.
pub(crate) fn replace(
    path: &Path,
    content: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let partial = partial(path);
    let written = File::create(&partial)
        .and_then(|file| {
            let mut out = BufWriter::with_capacity(1 << 20, file);
            content(&mut out)?;
            out.into_inner()?.sync_all()
        })
        .and_then(|()| rename(&partial, path));
    if written.is_err() {
        // Half a file is of no use to anybody, and may be what fills the disk.
        let _ = std::fs::remove_file(&partial);
    }
    written
}

/// Renames a file or a folder, and has its new name on the disk.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)?;
    File::open(parent(to))?.sync_all()
}

/// The folder that a path lies in, also where the path is one name.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn partial(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    path.with_file_name(name)
}
