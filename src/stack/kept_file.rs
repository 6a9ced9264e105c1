//! Small JSON files of the data folder, read whole and replaced whole.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What the file holds; `None` where there is none. `what` says what it should be.
///
/// # Errors
/// The file is there but can't be read or understood.
pub fn read<T: DeserializeOwned>(path: &Path, what: &str) -> anyhow::Result<Option<T>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context(format!("can't read {}", path.display())),
    };
    serde_json::from_slice(&text)
        .map(Some)
        .with_context(|| format!("{} is not {what}; remove it", path.display()))
}

/// Replaces the file at once, readable by its owner alone.
///
/// # Errors
/// The file can't be written.
pub fn replace<T: Serialize>(path: &Path, value: &T) -> anyhow::Result<()> {
    let written = || {
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer_pretty(&mut file, value)?;
        file.persist(path)?;
        Ok::<_, std::io::Error>(())
    };
    written().with_context(|| format!("can't write {}", path.display()))
}
