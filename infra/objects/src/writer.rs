//! Writing: what a canary and a shared model store need, and nothing else here does.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::bucket::Bucket;
use crate::error::ReadError;
use crate::stores::{ObjectStores, blocking};
use crate::uri::{Location, ObjectUri};

/// Writes one object, which its [`ObjectStores`] must be allowed to read, and no other.
#[derive(Clone, Debug)]
pub struct ObjectWriter {
    stores: ObjectStores,
    uri: ObjectUri,
}

/// An object could not be written or removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {uri}")]
pub struct WriteError {
    what: &'static str,
    uri: ObjectUri,
    #[source]
    source: ReadError,
}

impl ObjectWriter {
    /// Writes the object `uri`.
    #[must_use]
    pub fn of(stores: ObjectStores, uri: ObjectUri) -> Self {
        Self { stores, uri }
    }

    /// Writes the object, or all of it anew. A reader sees the old content or the new, never a part.
    ///
    /// # Errors
    /// The object is not allowed, or its store refuses or is away.
    pub async fn put(&self, content: impl Into<Bytes>) -> Result<(), WriteError> {
        let content = content.into();
        let written = match self.target() {
            Err(error) => Err(error),
            Ok(Target::File(path)) => {
                let write = move || replace(&path, |file| file.write_all(&content));
                blocking(move || write().map_err(ReadError::from_io)).await
            }
            Ok(Target::Object(bucket, key)) => bucket.write(key, content).await,
        };
        written.map_err(|source| self.failed("write", source))
    }

    /// Writes the content of a file, part by part, as [`Self::put`] does: it may be larger than what
    /// should be held, or than what a store takes in one request.
    ///
    /// # Errors
    /// As [`Self::put`]; the file can't be read.
    pub async fn put_file(&self, from: &Path) -> Result<(), WriteError> {
        let written = match self.target() {
            Err(error) => Err(error),
            Ok(Target::File(path)) => {
                let from = from.to_owned();
                let copy = move || {
                    let mut from = File::open(from)?;
                    replace(&path, |file| io::copy(&mut from, file).map(drop))
                };
                blocking(move || copy().map_err(ReadError::from_io)).await
            }
            Ok(Target::Object(bucket, key)) => bucket.write_file(key, from).await,
        };
        written.map_err(|source| self.failed("write", source))
    }

    /// Removes the object; one that is not there is no error.
    ///
    /// # Errors
    /// The object is not allowed, or its store refuses or is away.
    pub async fn remove(&self) -> Result<(), WriteError> {
        let removed = match self.target() {
            Err(error) => Err(error),
            Ok(Target::File(path)) => {
                blocking(move || match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        Err(ReadError::from_io(error))
                    }
                    Ok(()) | Err(_) => Ok(()),
                })
                .await
            }
            Ok(Target::Object(bucket, key)) => bucket.remove(key).await,
        };
        removed.map_err(|source| self.failed("remove", source))
    }

    /// The file itself need not be there yet: its folder is what is resolved.
    fn target(&self) -> Result<Target<'_>, ReadError> {
        self.stores.allow_list().permits(&self.uri)?;
        match self.uri.location() {
            Location::File(path) => {
                let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
                    return Err(ReadError::not_allowed("it names a folder, not a file"));
                };
                let folder = self.stores.allow_list().resolve(folder)?;
                Ok(Target::File(folder.join(name)))
            }
            Location::Bucket {
                service,
                bucket,
                key,
            } => Ok(Target::Object(self.stores.bucket(*service, bucket)?, key)),
        }
    }

    fn failed(&self, what: &'static str, source: ReadError) -> WriteError {
        WriteError {
            what,
            uri: self.uri.clone(),
            source,
        }
    }
}

enum Target<'a> {
    File(PathBuf),
    Object(&'a Bucket, &'a str),
}

/// Listings leave names out that begin with a dot, so the part that is written is never seen.
fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.new"));
    // What a crash has left, or somebody put there: opened, a link would be followed.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = File::create_new(&beside)?;
    write(&mut file)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}
