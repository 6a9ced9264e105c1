//! A dataset's folder: `train.jsonl.gz`, `dev.jsonl.gz` and the manifest that has their checksums.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use flate2::{Compression, GzBuilder};

use super::manifest::{FileSum, MANIFEST, Manifest};
use super::{Triple, lines};
use crate::error::DatasetError;

pub(crate) const TRAIN: &str = "train.jsonl.gz";
pub(crate) const DEV: &str = "dev.jsonl.gz";

/// A dataset in memory.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// What to learn from.
    pub train: Vec<Triple>,
    /// What to judge by; may be empty.
    pub dev: Vec<Triple>,
    /// What it is.
    pub manifest: Manifest,
    /// SHA-256 of the manifest's file: it names the data, as it names each file's checksum.
    pub sha256: String,
}

impl Dataset {
    /// Reads a dataset's folder, whose files must be those that the manifest names.
    ///
    /// # Errors
    /// [`DatasetError::Changed`] where they are not, [`DatasetError::NoPairs`] where there is nothing
    /// to learn from.
    pub fn read(folder: &Path) -> Result<Self, DatasetError> {
        let path = folder.join(MANIFEST);
        let bytes = std::fs::read(&path).map_err(|source| DatasetError::Read {
            path: path.clone(),
            source,
        })?;
        let manifest: Manifest =
            serde_json::from_slice(&bytes).map_err(|source| DatasetError::Line {
                path: path.clone(),
                line: source.line(),
                expected: "the manifest of a dataset",
                source,
            })?;
        for file in &manifest.files {
            let path = folder.join(&file.path);
            let found = FileSum::of(&path)?;
            if found.sha256 != file.sha256 {
                return Err(DatasetError::Changed {
                    path,
                    expected: file.sha256.clone(),
                    found: found.sha256,
                });
            }
        }
        let train = read(&folder.join(TRAIN))?;
        if train.is_empty() {
            return Err(DatasetError::NoPairs {
                why: format!("the training split in `{}` is empty", folder.display()),
            });
        }
        Ok(Self {
            train,
            dev: read(&folder.join(DEV))?,
            manifest,
            sha256: FileSum::of(&path)?.sha256,
        })
    }
}

fn read(path: &Path) -> Result<Vec<Triple>, DatasetError> {
    let mut triples = Vec::new();
    let expected = "an object with `query`, `positive` and `negatives`";
    lines::each(path, expected, |_, triple| {
        triples.push(triple);
        Ok(())
    })?;
    Ok(triples)
}

/// Writes a split, the same bytes for the same triples.
pub(crate) fn write(path: &Path, triples: &[Triple]) -> Result<(), DatasetError> {
    let written = || -> std::io::Result<()> {
        let file = BufWriter::new(File::create(path)?);
        // Neither name nor time: the checksum is of the content.
        let mut writer = GzBuilder::new().write(file, Compression::default());
        for triple in triples {
            serde_json::to_writer(&mut writer, triple)?;
            writer.write_all(b"\n")?;
        }
        let file = writer.finish()?.into_inner()?;
        file.sync_all()
    };
    written().map_err(|source| DatasetError::Write {
        path: path.to_owned(),
        source,
    })
}
