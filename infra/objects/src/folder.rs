//! Local folders: reading a file as one version of it, and walking a tree.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::allow::AllowList;
use crate::error::ReadError;
use crate::stores::{ListError, Object, ObjectEntry, ObjectMeta};
use crate::uri::ObjectUri;

/// Reads a file whose content stayed the same from before the first byte until after the last.
///
/// "The same" is (size, mtime in nanoseconds, inode). A write that keeps the size and falls into
/// the same tick of the kernel's clock (1 to 10 ms) is not seen here; it raises its own notice.
pub(crate) fn read(
    allow: &AllowList,
    path: &Path,
    if_match: Option<&str>,
    max_bytes: u64,
) -> Result<Object, ReadError> {
    let real = allow.resolve(path)?;
    let explain = |error| allow.explain(path, error);
    let file = open_regular(&real, &explain)?;
    let before = file.metadata().map_err(explain)?;
    let tag = tag(&before);
    if if_match.is_some_and(|expected| expected != tag) {
        return Err(ReadError::Changed);
    }
    if before.len() > max_bytes {
        return Err(ReadError::TooLarge {
            size_bytes: before.len(),
            limit_bytes: max_bytes,
        });
    }
    let bytes = read_capped(&file, before.len(), max_bytes).map_err(explain)?;
    if bytes.len() as u64 > max_bytes {
        return Err(ReadError::TooLarge {
            size_bytes: bytes.len() as u64,
            limit_bytes: max_bytes,
        });
    }
    let after = file.metadata().map_err(explain)?;
    // Also by name: a writer may have renamed another file into place, or put a link where a
    // folder was between resolving the path and opening it.
    let named = fs::symlink_metadata(&real).map_err(explain)?;
    let still_there = real.canonicalize().map_err(explain)? == real;
    let unchanged =
        tag == self::tag(&after) && tag == self::tag(&named) && before.dev() == named.dev();
    if !unchanged || !still_there || bytes.len() as u64 != before.len() {
        return Err(ReadError::Changed);
    }
    Ok(Object {
        bytes: bytes.into(),
        meta: meta(&before),
    })
}

/// What is known of a file without reading it.
pub(crate) fn head(allow: &AllowList, path: &Path) -> Result<ObjectMeta, ReadError> {
    let real = allow.resolve(path)?;
    let metadata = fs::metadata(real).map_err(|error| allow.explain(path, error))?;
    if !metadata.is_file() {
        return Err(not_regular());
    }
    Ok(meta(&metadata))
}

fn open_regular(real: &Path, explain: &dyn Fn(io::Error) -> ReadError) -> Result<File, ReadError> {
    // A pipe without a writer would block the open for ever, hence O_NONBLOCK; it has no effect on
    // a regular file, and nothing else is read.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(real)
        .map_err(|error| match error.raw_os_error() {
            // A socket.
            Some(libc::ENXIO) => not_regular(),
            // A link took the place of the resolved file.
            Some(libc::ELOOP) => ReadError::Changed,
            _ => explain(error),
        })?;
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(file),
        Ok(_) => Err(not_regular()),
        Err(error) => Err(explain(error)),
    }
}

fn not_regular() -> ReadError {
    ReadError::not_allowed("it is not a regular file")
}

/// At most one byte more than the cap, so that a file that grows while it is read is noticed.
fn read_capped(file: &File, expected_bytes: u64, max_bytes: u64) -> io::Result<Vec<u8>> {
    let expected = usize::try_from(expected_bytes).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(expected.saturating_add(1));
    file.take(max_bytes.saturating_add(1))
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn tag(metadata: &Metadata) -> String {
    let mtime_ns = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    format!("{}-{mtime_ns}-{}", metadata.len(), metadata.ino())
}

fn meta(metadata: &Metadata) -> ObjectMeta {
    ObjectMeta {
        etag: Some(tag(metadata)),
        size_bytes: metadata.len(),
        last_modified_ms: Some(metadata.mtime() * 1000 + metadata.mtime_nsec() / 1_000_000),
        media_type: None,
    }
}

/// Walks a tree depth first, each folder in byte order of its names, and hands every regular file
/// to `emit` until that returns false. See [`crate::ObjectStores::list`] for what is left out.
pub(crate) fn walk(
    allow: &AllowList,
    top: &Path,
    emit: &mut dyn FnMut(Result<ObjectEntry, ListError>) -> bool,
) {
    let visited = match allow
        .resolve(top)
        .and_then(|real| fs::metadata(real).map_err(|e| allow.explain(top, e)))
    {
        Ok(metadata) if metadata.is_dir() => children(top),
        Ok(metadata) => {
            if metadata.is_file() {
                emit(entry(top, &metadata));
            } else {
                emit(Err(failed(top, not_regular())));
            }
            return;
        }
        Err(error) => {
            emit(Err(failed(top, error)));
            return;
        }
    };
    // Folders that are being walked, outermost first; so memory is the names along one branch.
    let mut branch = vec![];
    match visited {
        Ok(names) => branch.push(names.into_iter()),
        Err(error) => {
            emit(Err(failed(top, allow.explain(top, error))));
        }
    }
    while let Some(folder) = branch.last_mut() {
        let Some(path) = folder.next() else {
            branch.pop();
            continue;
        };
        let result = match visit(allow, &path) {
            Ok(Visit::File(metadata)) => entry(&path, &metadata),
            Ok(Visit::Folder) => match children(&path) {
                Ok(names) => {
                    branch.push(names.into_iter());
                    continue;
                }
                Err(error) => Err(failed(&path, allow.explain(&path, error))),
            },
            Ok(Visit::Skip) => continue,
            Err(error) => Err(failed(&path, error)),
        };
        // What vanished between the listing of its folder and now was never there.
        if matches!(
            &result,
            Err(ListError {
                source: ReadError::NotFound,
                ..
            })
        ) {
            continue;
        }
        if !emit(result) {
            return;
        }
    }
}

enum Visit {
    File(Metadata),
    Folder,
    Skip,
}

fn visit(allow: &AllowList, path: &Path) -> Result<Visit, ReadError> {
    let explain = |error| allow.explain(path, error);
    let metadata = fs::symlink_metadata(path).map_err(explain)?;
    if metadata.is_file() {
        return Ok(Visit::File(metadata));
    }
    if metadata.is_dir() {
        return Ok(Visit::Folder);
    }
    if !metadata.is_symlink() {
        return Ok(Visit::Skip);
    }
    match allow.resolve(path) {
        Ok(real) => {
            let target = fs::metadata(real).map_err(explain)?;
            Ok(if target.is_file() {
                Visit::File(target)
            } else {
                Visit::Skip
            })
        }
        Err(ReadError::NotAllowed { reason }) => {
            tracing::debug!(path = %path.display(), reason, "left a link out of the listing");
            Ok(Visit::Skip)
        }
        Err(error) => Err(error),
    }
}

/// The visible entries of a folder, in byte order of their names.
fn children(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)?
        .filter(|entry| {
            !entry
                .as_ref()
                .is_ok_and(|e| e.file_name().as_encoded_bytes().starts_with(b"."))
        })
        .map(|entry| entry.map(|e| e.path()))
        .collect::<io::Result<Vec<_>>>()?;
    paths.sort_unstable();
    Ok(paths)
}

fn entry(path: &Path, metadata: &Metadata) -> Result<ObjectEntry, ListError> {
    match ObjectUri::file(path) {
        Ok(uri) => Ok(ObjectEntry {
            uri,
            meta: meta(metadata),
        }),
        Err(error) => Err(failed(path, ReadError::not_allowed(error.to_string()))),
    }
}

fn failed(path: &Path, source: ReadError) -> ListError {
    ListError {
        name: path.display().to_string(),
        source,
    }
}
