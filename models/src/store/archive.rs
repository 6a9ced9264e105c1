//! `.mar`, the model archives of TorchServe: a zip with `MAR-INF/MANIFEST.json`.
//!
//! Theirs hold a Python handler, as a rule, that says what the weights mean. It is not run here: an
//! archive is read only where it is a sentence-transformers or cross-encoder folder with safetensors
//! weights, whose meaning this crate knows.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::config::ModelKind;
use crate::store::error::StoreError;
use crate::store::files::{self, WEIGHTS};
use crate::store::reference::{ModelReference, UNVERSIONED};

const MANIFEST: &str = "MAR-INF/MANIFEST.json";
/// Most bytes that are taken from an archive, of all its files together: no bomb fills the disk.
pub(super) const MAX_BYTES: u64 = 16 << 30;
/// A manifest is some hundred bytes.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    #[serde(default)]
    created_on: String,
    #[serde(default)]
    runtime: String,
    model: ArchivedModel,
    #[serde(default)]
    archiver_version: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchivedModel {
    model_name: String,
    model_version: Option<String>,
    serialized_file: Option<String>,
    handler: Option<String>,
}

/// Writes the files of an archive, `most_bytes` at most, under `folder`, and says what it calls itself:
/// name and version, which need not be ones that the store can have.
pub(super) fn unpack(
    archive: &Path,
    folder: &Path,
    most_bytes: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(String, String), StoreError> {
    let broken = |source| StoreError::Archive {
        path: archive.to_owned(),
        source,
    };
    let refuse = |reason: String| StoreError::NotImportable {
        source_path: archive.to_owned(),
        reason,
    };
    let file = File::open(archive).map_err(|source| files::io("open", archive, source))?;
    let mut zip = ZipArchive::new(file).map_err(broken)?;
    let manifest = manifest(&mut zip, archive)?;
    let names: Vec<String> = zip.file_names().map(str::to_owned).collect();
    let is_python = |name: &str| name.split(':').next().unwrap_or(name).ends_with(".py");
    let handler = manifest.model.handler.as_deref();
    let python = handler.filter(|handler| is_python(handler)).or_else(|| {
        names
            .iter()
            .map(String::as_str)
            .find(|name| is_python(name))
    });
    if let Some(python) = python {
        return Err(refuse(format!(
            "its handler `{python}` is Python, which is not run here; archive the model without a \
             handler of its own, or import its sentence-transformers folder"
        )));
    }
    let weights = manifest
        .model
        .serialized_file
        .as_deref()
        .unwrap_or(WEIGHTS)
        .to_owned();
    if !weights.ends_with(".safetensors") {
        return Err(refuse(format!(
            "its weights `{weights}` are no safetensors; a pickle can run code when it is read. \
             Save the model with `save_pretrained(…, safe_serialization=True)`"
        )));
    }
    let mut left = most_bytes;
    let total = names.len() as u64;
    for (number, name) in names.iter().enumerate() {
        progress(number as u64, total);
        let mut entry = zip.by_name(name).map_err(broken)?;
        if entry.is_dir() || name == MANIFEST {
            continue;
        }
        let Some(path) = entry.enclosed_name() else {
            return Err(refuse(format!(
                "its entry `{name}` leads out of the archive"
            )));
        };
        let path = if *name == weights {
            PathBuf::from(WEIGHTS)
        } else {
            path
        };
        if !files::is_model_file(&path) {
            continue;
        }
        let target = folder.join(&path);
        let written = files::write(&mut entry.by_ref().take(left + 1), archive, &target)?;
        if written > left {
            return Err(refuse(format!(
                "its files have more than {most_bytes} bytes together"
            )));
        }
        left -= written;
    }
    progress(total, total);
    let model = manifest.model;
    let version = model
        .model_version
        .unwrap_or_else(|| UNVERSIONED.to_owned());
    Ok((model.model_name, version))
}

fn manifest(zip: &mut ZipArchive<File>, archive: &Path) -> Result<Manifest, StoreError> {
    let refuse = |reason: String| StoreError::NotImportable {
        source_path: archive.to_owned(),
        reason,
    };
    let entry = zip.by_name(MANIFEST);
    let entry =
        entry.map_err(|_| refuse(format!("it is no model archive: it has no {MANIFEST}")))?;
    let mut bytes = Vec::new();
    entry
        .take(MAX_MANIFEST_BYTES)
        .read_to_end(&mut bytes)
        .map_err(|source| files::io("read", archive, source))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| refuse(format!("its {MANIFEST} can't be read: {error}")))
}

/// Packs a folder's files, given by their paths inside it.
pub(super) fn pack(
    folder: &Path,
    paths: &[String],
    reference: &ModelReference,
    kind: ModelKind,
    archive: &Path,
) -> Result<(), StoreError> {
    // The meaning that this crate gives the files.
    let handler = match kind {
        ModelKind::SentenceEncoder => "millrace_sentence_encoder",
        ModelKind::CrossEncoder => "millrace_cross_encoder",
    };
    let broken = |source| StoreError::Archive {
        path: archive.to_owned(),
        source,
    };
    let failed = |source| files::io("write", archive, source);
    let mut zip = ZipWriter::new(File::create(archive).map_err(failed)?);
    let manifest = Manifest {
        created_on: String::new(),
        // The values that TorchServe knows; the handler is what says that it is another's.
        runtime: "python".to_owned(),
        model: ArchivedModel {
            model_name: reference.name.clone(),
            model_version: reference.version.clone(),
            serialized_file: Some(WEIGHTS.to_owned()),
            handler: Some(handler.to_owned()),
        },
        archiver_version: concat!("millrace-", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    let text = serde_json::to_vec_pretty(&manifest).map_err(|error| failed(error.into()))?;
    let deflated = SimpleFileOptions::default();
    zip.start_file(MANIFEST, deflated).map_err(broken)?;
    zip.write_all(&text).map_err(failed)?;
    for path in paths {
        // Floats hardly shrink.
        let options = if path == WEIGHTS {
            deflated
                .compression_method(CompressionMethod::Stored)
                .large_file(true)
        } else {
            deflated
        };
        zip.start_file(path, options).map_err(broken)?;
        let source = folder.join(path);
        let mut file = File::open(&source).map_err(|error| files::io("open", &source, error))?;
        files::transfer(&mut file, &source, &mut zip, archive)?;
    }
    zip.finish().map_err(broken)?.sync_all().map_err(failed)
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, Result};

    use super::*;

    #[test]
    fn the_files_of_an_archive_have_one_limit_together() -> Result<()> {
        let root = tempfile::tempdir()?;
        let paths = ["a.json", "b.json"].map(str::to_owned);
        for path in &paths {
            std::fs::write(root.path().join(path), " ".repeat(1_000))?;
        }
        let archive = root.path().join("blank.mar");
        let kind = ModelKind::SentenceEncoder;
        pack(root.path(), &paths, &"blank:v1".parse()?, kind, &archive)?;
        let unpacked = |most_bytes: u64| {
            let folder = root.path().join(most_bytes.to_string());
            unpack(&archive, &folder, most_bytes, &mut |_, _| {})
        };
        assert_eq!(unpacked(2_000)?, ("blank".to_owned(), "v1".to_owned()));
        let refused = unpacked(1_999).err().context("unpacked")?.to_string();
        assert!(
            refused.contains("more than 1999 bytes together"),
            "{refused}"
        );
        Ok(())
    }
}
