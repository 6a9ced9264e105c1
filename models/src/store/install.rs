//! Checks a model folder and puts a new one in its place by one rename.

use std::path::Path;

use tempfile::TempDir;

use crate::error::ModelError;
use crate::fingerprint::sha256_of;
use crate::store::catalog::{Catalogued, PinnedFile};
use crate::store::error::StoreError;

/// What lies in a model's place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Installed {
    Whole,
    Absent,
    /// This file is missing or not the pinned one.
    Damaged(&'static str),
}

/// A folder being filled beside the place of its model, on the same file system. Removed when
/// dropped before it is installed.
pub(super) struct Staging {
    folder: TempDir,
}

/// Compares a folder with the pinned checksums.
pub(super) async fn inspect(folder: &Path, model: &Catalogued) -> Result<Installed, StoreError> {
    if !folder.exists() {
        return Ok(Installed::Absent);
    }
    let (folder, model) = (folder.to_owned(), *model);
    let work = move || {
        let wrong = model
            .files
            .iter()
            .find(|file| verify(&folder.join(file.path), file).is_err());
        wrong.map_or(Installed::Whole, |file| Installed::Damaged(file.path))
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(found) => Ok(found),
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Compares one file with its pin.
pub(super) fn verify(path: &Path, file: &PinnedFile) -> Result<(), StoreError> {
    let found = sha256_of(path).map_err(|error| match error {
        ModelError::Read { path, source } => StoreError::Io {
            action: "read",
            path,
            source,
        },
        other => StoreError::Model(other),
    })?;
    if found == file.sha256 {
        Ok(())
    } else {
        Err(StoreError::Checksum {
            file: file.path,
            expected: file.sha256,
            found,
        })
    }
}

impl Staging {
    /// An empty folder next to `folder`.
    pub async fn beside(folder: &Path) -> Result<Self, StoreError> {
        let parent = folder.parent().unwrap_or(Path::new("."));
        let failed = |source| StoreError::Io {
            action: "create a folder in",
            path: parent.to_owned(),
            source,
        };
        tokio::fs::create_dir_all(parent).await.map_err(failed)?;
        // The dot keeps it out of `list`; a crash leaves it there and harms nothing.
        let folder = tempfile::Builder::new()
            .prefix(".pull-")
            .tempdir_in(parent)
            .map_err(failed)?;
        Ok(Self { folder })
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Throws away what a source left half done.
    pub async fn empty(&self) -> Result<&Path, StoreError> {
        let path = self.path();
        let failed = |source| StoreError::Io {
            action: "empty",
            path: path.to_owned(),
            source,
        };
        tokio::fs::remove_dir_all(path).await.map_err(failed)?;
        tokio::fs::create_dir(path).await.map_err(failed)?;
        Ok(path)
    }

    /// Moves the folder to its place.
    pub async fn install(self, place: &Path, model: &Catalogued) -> Result<(), StoreError> {
        let moved = |source| StoreError::Io {
            action: "install the model as",
            path: place.to_owned(),
            source,
        };
        allow_others_to_read(self.path()).map_err(moved)?;
        if inspect(place, model).await? == Installed::Whole {
            // Another process was faster; its copy may be in use already.
            return Ok(());
        }
        let aside = match self.move_aside(place) {
            Ok(aside) => aside,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(moved(error)),
        };
        match std::fs::rename(self.path(), place) {
            Ok(()) => {
                let _gone = self.folder.keep();
            }
            // Lost the race after all: the winner's folder is whole or the next pull mends it.
            Err(_) if inspect(place, model).await? == Installed::Whole => {}
            Err(error) => return Err(moved(error)),
        }
        drop(aside);
        Ok(())
    }

    /// Moves a damaged folder out of the way; it is removed when the guard is dropped.
    fn move_aside(&self, place: &Path) -> std::io::Result<Option<TempDir>> {
        let parent = self.path().parent().unwrap_or(Path::new("."));
        let aside = tempfile::Builder::new()
            .prefix(".old-")
            .tempdir_in(parent)?;
        std::fs::rename(place, aside.path().join("model"))?;
        Ok(Some(aside))
    }
}

/// Temporary folders are private; a store may be shared (`MILLRACE_MODELS` on a common disk).
#[cfg(unix)]
fn allow_others_to_read(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn allow_others_to_read(_: &Path) -> std::io::Result<()> {
    Ok(())
}

/// Where a test looks for leftovers.
#[cfg(test)]
pub(super) fn leftovers(root: &Path) -> std::io::Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            found.push(entry.path());
        }
    }
    Ok(found)
}
