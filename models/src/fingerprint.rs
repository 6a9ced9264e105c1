//! Who made a vector: two models are the same only if everything that shapes a vector is.

use std::fmt;
use std::path::Path;

use millrace_downloads::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::ModelError;

/// The files that shape a vector. A file that the folder lacks does not enter the hash.
const FILES: [&str; 6] = [
    "model.safetensors",
    "tokenizer.json",
    "config.json",
    "modules.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
];

/// SHA-256, in lower-case hex, over the checksums of weights, tokenizer and configuration.
///
/// It is what an index remembers of the model that filled it: an equal dimension is not
/// compatibility, an equal fingerprint is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ModelFingerprint(String);

impl ModelFingerprint {
    /// Reads and hashes the files of a model folder.
    ///
    /// # Errors
    /// [`ModelError::Read`] when a file is there and can't be read.
    pub fn of_folder(folder: &Path) -> Result<Self, ModelError> {
        let mut checksums = Vec::new();
        for file in FILES {
            let path = folder.join(file);
            if path.is_file() {
                checksums.push((file, sha256_of(&path)?));
            }
        }
        Ok(Self::of_checksums(&checksums))
    }

    /// The fingerprint of files whose SHA-256 checksums (lower-case hex) are known.
    ///
    /// Files that do not shape a vector (a vocabulary list beside `tokenizer.json`, a README) are
    /// left out, and order plays no part.
    #[must_use]
    pub fn of_checksums<S: AsRef<str>>(checksums: &[(&str, S)]) -> Self {
        let mut hash = Sha256::new();
        for file in FILES {
            if let Some((_, checksum)) = checksums.iter().find(|(name, _)| *name == file) {
                hash.update(format!("{file} {}\n", checksum.as_ref()));
            }
        }
        Self(hex(&hash.finalize()))
    }

    /// The whole fingerprint: 64 hex digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The model's version as records and indexes carry it: `name@` and the first 12 hex digits.
    #[must_use]
    pub fn version(&self, name: &str) -> String {
        format!("{name}@{}", &self.0[..12])
    }
}

impl fmt::Display for ModelFingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// SHA-256 of a file in lower-case hex.
pub(crate) fn sha256_of(path: &Path) -> Result<String, ModelError> {
    millrace_downloads::sha256_of(path).map_err(|source| ModelError::Read {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_bystanders_do_not_matter() {
        let one =
            ModelFingerprint::of_checksums(&[("config.json", "aa"), ("tokenizer.json", "bb")]);
        let two = ModelFingerprint::of_checksums(&[
            ("README.md", "cc"),
            ("tokenizer.json", "bb"),
            ("config.json", "aa"),
        ]);
        assert_eq!(one, two);
        assert_eq!(one.as_str().len(), 64);
        assert_eq!(one.version("m"), format!("m@{}", &one.as_str()[..12]));
    }

    #[test]
    fn every_shaping_file_matters() {
        let all = FILES.map(|file| (file, "aa"));
        let base = ModelFingerprint::of_checksums(&all);
        for position in 0..FILES.len() {
            let mut changed = all;
            changed[position].1 = "ab";
            assert_ne!(
                base,
                ModelFingerprint::of_checksums(&changed),
                "{}",
                FILES[position]
            );
        }
    }

    #[test]
    fn a_folder_has_the_fingerprint_of_its_files() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("config.json"), "abc")?;
        // The SHA-256 of "abc" is FIPS 180-2's first example.
        let checksum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(
            ModelFingerprint::of_folder(folder.path())?,
            ModelFingerprint::of_checksums(&[("config.json", checksum)])
        );
        Ok(())
    }
}
