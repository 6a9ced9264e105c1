//! Checks an installed folder and puts a new one in its place by one rename.

use std::path::Path;

use tempfile::TempDir;

use crate::checksum::PinnedFile;
use crate::error::DownloadError;

/// What lies in a folder's place.
#[derive(Debug, PartialEq, Eq)]
pub enum Installed {
    /// Every pinned file with its pinned bytes.
    Whole,
    /// Nothing.
    Absent,
    /// This file is missing or not the pinned one.
    Damaged(&'static str),
}

/// A folder being filled beside its place, on the same file system. Removed when dropped before it
/// is installed.
#[derive(Debug)]
pub struct Staging {
    folder: TempDir,
}

/// Compares a folder with the pinned checksums. A file that can't be read counts as damaged.
pub async fn inspect(folder: &Path, files: &'static [PinnedFile]) -> Installed {
    if !folder.exists() {
        return Installed::Absent;
    }
    let folder = folder.to_owned();
    let work = move || {
        let wrong = files.iter().find(|file| file.verify(&folder).is_err());
        wrong.map_or(Installed::Whole, |file| Installed::Damaged(file.path))
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(found) => found,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

impl Staging {
    /// An empty folder next to `folder`.
    ///
    /// # Errors
    /// The parent of `folder` can't be made or written.
    pub async fn beside(folder: &Path) -> Result<Self, DownloadError> {
        let parent = folder.parent().unwrap_or(Path::new("."));
        let failed = |source| DownloadError::Io {
            action: "create a folder in",
            path: parent.to_owned(),
            source,
        };
        tokio::fs::create_dir_all(parent).await.map_err(failed)?;
        // The dot keeps it out of listings; a crash leaves it there and harms nothing.
        let folder = tempfile::Builder::new()
            .prefix(".pull-")
            .tempdir_in(parent)
            .map_err(failed)?;
        Ok(Self { folder })
    }

    /// The folder to fill.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Throws away what a source left half done.
    ///
    /// # Errors
    /// The folder can't be removed or made again.
    pub async fn empty(&self) -> Result<&Path, DownloadError> {
        let path = self.path();
        let failed = |source| DownloadError::Io {
            action: "empty",
            path: path.to_owned(),
            source,
        };
        tokio::fs::remove_dir_all(path).await.map_err(failed)?;
        tokio::fs::create_dir(path).await.map_err(failed)?;
        Ok(path)
    }

    /// Moves the folder to its place, unless a whole one is there already.
    ///
    /// # Errors
    /// The place can't be written.
    pub async fn install(
        self,
        place: &Path,
        files: &'static [PinnedFile],
    ) -> Result<(), DownloadError> {
        let moved = |source| DownloadError::Io {
            action: "install",
            path: place.to_owned(),
            source,
        };
        allow_others_to_read(self.path()).map_err(moved)?;
        if inspect(place, files).await == Installed::Whole {
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
            // Lost the race after all: the winner's folder is whole or the next installation mends it.
            Err(_) if inspect(place, files).await == Installed::Whole => {}
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
        std::fs::rename(place, aside.path().join("old"))?;
        Ok(Some(aside))
    }
}

/// Lets other users read a folder: temporary ones are private, and what they become may be shared (on
/// a common disk).
///
/// # Errors
/// The folder is not there or another user's.
#[cfg(unix)]
pub fn allow_others_to_read(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))
}

/// Lets other users read a folder, as they may.
///
/// # Errors
/// None.
#[cfg(not(unix))]
pub fn allow_others_to_read(_: &Path) -> std::io::Result<()> {
    Ok(())
}
