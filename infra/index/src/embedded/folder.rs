//! The folder of an embedded index: who has it, what each generation is, which one is read.
//!
//! ```text
//! lock                        held by the process that has the folder
//! {name}.alias.json           which generation serves
//! {name}-000001/index.json    what this generation is
//! {name}-000001/…             tantivy's files
//! {name}-000001.removed/      what a removal that was cut off has left
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::storage_error;
use crate::generations::generation_number;
use crate::{FORMAT_VERSION, IndexError, IndexSpec, generation_name};

/// Extension of a generation on its way out.
const REMOVED: &str = "removed";

/// The folder, held for this process alone until dropped.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

/// What a generation is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GenerationMeta {
    pub(super) format_version: u32,
    pub(super) dimension: usize,
    pub(super) model_version: String,
    pub(super) model_fingerprint: String,
}

#[derive(Serialize, Deserialize)]
struct Alias {
    generation: u32,
}

impl Folder {
    /// Creates the folder where needed, and takes it.
    pub(super) fn take(path: PathBuf) -> Result<Self, IndexError> {
        let create = |error| storage_error(&path, "the folder cannot be created", error);
        fs::create_dir_all(&path).map_err(create)?;
        let lock_path = path.join("lock");
        let open = |error| storage_error(&lock_path, "the lock file cannot be opened", error);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(open)?;
        match lock.try_lock() {
            Ok(()) => {
                remove_leftovers(&path)?;
                Ok(Self { path, _lock: lock })
            }
            Err(TryLockError::WouldBlock) => Err(IndexError::Locked { path }),
            Err(TryLockError::Error(error)) => Err(storage_error(
                &lock_path,
                "the folder cannot be locked",
                error,
            )),
        }
    }

    /// Where a generation lies.
    pub(super) fn generation(&self, name: &str, generation: u32) -> PathBuf {
        self.path.join(generation_name(name, generation))
    }

    /// Numbers of the generations of `name` that are there, in order.
    pub(super) fn generations(&self, name: &str) -> Result<Vec<u32>, IndexError> {
        let entries = entries(&self.path)?.into_iter();
        let mut found: Vec<u32> = entries
            .filter_map(|entry| generation_number(name, entry.file_name()?.to_str()?))
            .collect();
        found.sort_unstable();
        Ok(found)
    }

    /// Removes a generation; `false` where there is none. It is out of the way by one rename, so that
    /// a crash leaves it whole or gone.
    pub(super) fn remove_generation(
        &self,
        name: &str,
        generation: u32,
    ) -> Result<bool, IndexError> {
        let path = self.generation(name, generation);
        let removed = self
            .path
            .join(format!("{}.{REMOVED}", generation_name(name, generation)));
        match fs::rename(&path, &removed) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => {
                return Err(storage_error(&path, "the folder cannot be removed", error));
            }
        }
        // Readers may hold files of it open; what can't be removed now is by the next process.
        if let Err(error) = fs::remove_dir_all(&removed) {
            tracing::warn!(path = %removed.display(), %error, "a removed generation still has files");
        }
        Ok(true)
    }

    /// Creates the generation of `spec`, or verifies that the one there fits.
    pub(super) fn ensure_generation(&self, spec: &IndexSpec) -> Result<GenerationMeta, IndexError> {
        if let Some(stored) = self.fitting(spec)? {
            return Ok(stored);
        }
        let path = self.generation(&spec.name, spec.generation);
        let create = |error| storage_error(&path, "the folder cannot be created", error);
        fs::create_dir_all(&path).map_err(create)?;
        let wanted = GenerationMeta {
            format_version: FORMAT_VERSION,
            dimension: spec.dimension,
            model_version: spec.model_version.clone(),
            model_fingerprint: spec.model_fingerprint.clone(),
        };
        write_json(&path.join("index.json"), &wanted)?;
        Ok(wanted)
    }

    /// The generation of `spec`, verified to fit; `None` where there is none.
    pub(super) fn fitting(&self, spec: &IndexSpec) -> Result<Option<GenerationMeta>, IndexError> {
        let stored = self.meta(&spec.name, spec.generation)?;
        if let Some(stored) = &stored {
            verify(stored, spec)?;
        }
        Ok(stored)
    }

    /// What a generation is; `None` where there is none.
    pub(super) fn meta(
        &self,
        name: &str,
        generation: u32,
    ) -> Result<Option<GenerationMeta>, IndexError> {
        read_json(&self.generation(name, generation).join("index.json"))
    }

    /// Which generation serves; `None` before the first.
    pub(super) fn read_alias(&self, name: &str) -> Result<Option<u32>, IndexError> {
        let alias: Option<Alias> = read_json(&self.alias_path(name))?;
        Ok(alias.map(|alias| alias.generation))
    }

    /// Has a generation serve, atomically.
    pub(super) fn write_alias(&self, name: &str, generation: u32) -> Result<(), IndexError> {
        write_json(&self.alias_path(name), &Alias { generation })
    }

    fn alias_path(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.alias.json"))
    }
}

fn entries(path: &Path) -> Result<Vec<PathBuf>, IndexError> {
    let failed = |error| storage_error(path, "the folder cannot be listed", error);
    fs::read_dir(path)
        .map_err(failed)?
        .map(|entry| entry.map(|entry| entry.path()).map_err(failed))
        .collect()
}

/// Removes what removals that were cut off have left.
fn remove_leftovers(path: &Path) -> Result<(), IndexError> {
    for entry in entries(path)? {
        if entry
            .extension()
            .is_some_and(|extension| extension == REMOVED)
            && entry.is_dir()
        {
            let failed = |error| storage_error(&entry, "the folder cannot be removed", error);
            fs::remove_dir_all(&entry).map_err(failed)?;
        }
    }
    Ok(())
}

fn verify(stored: &GenerationMeta, spec: &IndexSpec) -> Result<(), IndexError> {
    if stored.format_version != FORMAT_VERSION {
        return Err(IndexError::FormatMismatch {
            index: spec.index_name(),
            stored: stored.format_version.to_string(),
            wanted: FORMAT_VERSION,
        });
    }
    spec.accepts(stored.dimension, &stored.model_fingerprint)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, IndexError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(storage_error(path, "the file cannot be read", error)),
    };
    let value = serde_json::from_slice(&bytes)
        .map_err(|error| storage_error(path, "the file is not what was written", error))?;
    Ok(Some(value))
}

/// Replaces the file by way of a rename, so that a crash leaves the old one or the new one.
fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), IndexError> {
    let failed = |error: std::io::Error| storage_error(path, "the file cannot be written", error);
    let bytes = serde_json::to_vec_pretty(value)
        .map_err(|error| storage_error(path, "the file cannot be written", error))?;
    let beside = path.with_extension("json.new");
    let mut file = File::create(&beside).map_err(failed)?;
    file.write_all(&bytes).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    fs::rename(&beside, path).map_err(failed)?;
    if let Some(parent) = path.parent() {
        File::open(parent)
            .and_then(|folder| folder.sync_all())
            .map_err(failed)?;
    }
    Ok(())
}
