//! Vectors of texts that were encoded before, kept in a file: a recording that is evaluated again
//! encodes nothing.
//!
//! A key is the SHA-256 of what the encoder reads, and each model has a file of its own. The file is
//! a line `millrace-vectors 1 dimension=… sha256=<of all that follows>` and then keys and vectors
//! (`f32`, little endian) one after the other. One that is damaged is made anew.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use millrace_models::{Encoder, ModelError};
use sha2::{Digest, Sha256};

const MAGIC: &str = "millrace-vectors 1";
const KEY_BYTES: usize = 32;
/// Texts that are encoded at a time.
const BATCH: usize = 64;

type Key = [u8; KEY_BYTES];

/// Vectors by token ids.
#[derive(Debug)]
pub struct Vectors {
    path: PathBuf,
    dimension: usize,
    vectors: BTreeMap<Key, Vec<f32>>,
}

/// Why there are no vectors.
#[derive(Debug, thiserror::Error)]
pub enum VectorsError {
    /// The file cannot be read or written.
    #[error("failed to {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The encoder refuses a text.
    #[error("an item's text can't be encoded")]
    Encode(#[from] ModelError),
}

impl Vectors {
    /// What `folder` keeps of this encoder's vectors.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn open(folder: &Path, encoder: &Encoder) -> Result<Self, VectorsError> {
        let path = folder.join(format!("{}.vectors", encoder.version()));
        let mut vectors = Self {
            path,
            dimension: encoder.dimension(),
            vectors: BTreeMap::new(),
        };
        match std::fs::read(&vectors.path) {
            Ok(bytes) => match parse(&bytes, vectors.dimension) {
                Some(kept) => vectors.vectors = kept,
                None => tracing::warn!(
                    file = %vectors.path.display(),
                    "the kept vectors are damaged; encoding the texts again"
                ),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(vectors.failed("read", error)),
        }
        Ok(vectors)
    }

    /// Encodes the texts that are not there yet and keeps them, telling `progress` how many of those
    /// are done and how many there are. Blocking.
    ///
    /// # Errors
    /// The encoder refuses a text, or the file cannot be written.
    pub fn add(
        &mut self,
        encoder: &Encoder,
        texts: &[Vec<u32>],
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), VectorsError> {
        let mut missing: BTreeMap<Key, &[u32]> = texts
            .iter()
            .map(|text| (key(text), text.as_slice()))
            .filter(|(key, _)| !self.vectors.contains_key(key))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let (total, mut done) = (missing.len() as u64, 0);
        while !missing.is_empty() {
            let batch: Vec<(Key, &[u32])> = std::iter::from_fn(|| missing.pop_first())
                .take(BATCH)
                .collect();
            let sequences: Vec<&[u32]> = batch.iter().map(|(_, text)| *text).collect();
            let encoded = encoder.encode_tokens(&sequences)?;
            done += batch.len() as u64;
            let keys = batch.into_iter().map(|(key, _)| key);
            self.vectors.extend(keys.zip(encoded));
            progress(done, total);
        }
        self.save()
    }

    /// The vector of what the encoder reads as `token_ids`.
    #[must_use]
    pub fn get(&self, token_ids: &[u32]) -> Option<&[f32]> {
        self.vectors.get(&key(token_ids)).map(Vec::as_slice)
    }

    /// A reader sees the old file or the whole new one.
    fn save(&self) -> Result<(), VectorsError> {
        let failed = |source| self.failed("write", source);
        let folder = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(failed)?;
        let mut body = Vec::with_capacity(self.vectors.len() * (KEY_BYTES + 4 * self.dimension));
        for (key, vector) in &self.vectors {
            body.extend(key);
            body.extend(vector.iter().flat_map(|value| value.to_le_bytes()));
        }
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        writeln!(file, "{}", head(self.dimension, &body)).map_err(failed)?;
        file.write_all(&body).map_err(failed)?;
        file.persist(&self.path)
            .map_err(|error| failed(error.error))?;
        Ok(())
    }

    fn failed(&self, action: &'static str, source: std::io::Error) -> VectorsError {
        VectorsError::Io {
            action,
            path: self.path.clone(),
            source,
        }
    }
}

fn head(dimension: usize, body: &[u8]) -> String {
    let digest = millrace_downloads::hex(&Sha256::digest(body));
    format!("{MAGIC} dimension={dimension} sha256={digest}")
}

fn parse(bytes: &[u8], dimension: usize) -> Option<BTreeMap<Key, Vec<f32>>> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let body = &bytes[end + 1..];
    if bytes[..end] != *head(dimension, body).as_bytes() {
        return None;
    }
    let entries = body.chunks_exact(KEY_BYTES + 4 * dimension);
    let entry = |entry: &[u8]| {
        let (key, vector) = entry.split_first_chunk::<KEY_BYTES>()?;
        let (values, _) = vector.as_chunks::<4>();
        let vector = values.iter().map(|value| f32::from_le_bytes(*value));
        Some((*key, vector.collect()))
    };
    entries.map(entry).collect()
}

fn key(token_ids: &[u32]) -> Key {
    let mut digest = Sha256::new();
    for id in token_ids {
        digest.update(id.to_le_bytes());
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_again_and_damage_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let vectors = Vectors {
            path: folder.path().join("new").join("m.vectors"),
            dimension: 2,
            vectors: BTreeMap::from([(key(&[1, 2]), vec![0.6, 0.8]), (key(&[3]), vec![1.0, 0.0])]),
        };
        vectors.save().unwrap();
        let mut bytes = std::fs::read(&vectors.path).unwrap();
        assert_eq!(parse(&bytes, 2).as_ref(), Some(&vectors.vectors));
        assert_eq!(parse(&bytes, 3), None);
        assert_eq!(vectors.get(&[1, 2]), Some(&[0.6, 0.8][..]));
        assert_eq!(vectors.get(&[2, 1]), None);
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        assert_eq!(parse(&bytes, 2), None);
        assert_eq!(parse(&bytes[..bytes.len() - 1], 2), None);
    }
}
