//! Bringing a version into the store, and taking one out.
//!
//! An import is staged beside its place, checked there as it will serve (architecture, tensors,
//! checksums, a trial encode), and installed by one rename: a version is there whole and usable, or
//! not at all, and never changes.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use millrace_downloads::allow_others_to_read;

use super::card::ModelCard;
use super::error::StoreError;
use super::files;
use super::reference::{ModelReference, UNVERSIONED};
use super::release::{RELEASE_FILE, Release};
use super::{ModelStore, archive};
use crate::config::{ModelConfig, ModelKind};
use crate::cross_encoder::CrossEncoder;
use crate::encoder::{Encoder, EncoderOptions};
use crate::error::ModelError;

/// What a model must be able to compute before it may serve.
const TRIAL: [&str; 2] = ["The moon pulls the ocean twice a day.", "trial"];

impl ModelStore {
    /// Imports a sentence-transformers or cross-encoder folder, or a `.mar` archive that holds one. Without a name it
    /// has the folder's or the archive's own; without a version, a folder's is the beginning of its
    /// fingerprint. Blocks for seconds; `progress` is told files done and in all.
    ///
    /// # Errors
    /// [`StoreError::NotImportable`] with what is wrong with the source, [`StoreError::Model`] where
    /// the encoder can't compute it, [`StoreError::VersionExists`] where the version is another
    /// model already.
    pub fn import(
        &self,
        source: &Path,
        named: Option<&ModelReference>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<ModelCard, StoreError> {
        self.import_from(&source.to_string_lossy(), source, named, progress)
    }

    /// As [`Self::import`], of what was fetched to `source` from `origin`, which its card names.
    ///
    /// # Errors
    /// As [`Self::import`].
    pub fn import_from(
        &self,
        origin: &str,
        source: &Path,
        named: Option<&ModelReference>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<ModelCard, StoreError> {
        let is_archive = source
            .extension()
            .is_some_and(|extension| extension == "mar");
        if !source.exists() {
            return Err(StoreError::NotImportable {
                source_path: source.to_owned(),
                reason: "there is nothing".to_owned(),
            });
        }
        let root = self.root();
        std::fs::create_dir_all(root).map_err(|error| files::io("create", root, error))?;
        // The dot keeps it out of listings; a crash leaves it there and harms nothing.
        let staging = tempfile::Builder::new()
            .prefix(".import-")
            .tempdir_in(root)
            .map_err(|error| files::io("create a folder in", root, error))?;
        let (own_name, own_version) = if is_archive {
            let (name, version) =
                archive::unpack(source, staging.path(), archive::MAX_BYTES, progress)?;
            (name, Some(version))
        } else {
            // The architecture first: a folder of another kind is refused by its kind.
            ModelConfig::read_any(source).map_err(StoreError::Model)?;
            files::copy(
                source,
                &files::model_files(source)?,
                staging.path(),
                progress,
            )?;
            let own = own_reference(source);
            (own.name, own.version)
        };
        let card = self.check(source, staging.path())?;
        let name = named.map_or(own_name, |named| named.name.clone());
        let version = named
            .and_then(|named| named.version.clone())
            .or(own_version)
            .unwrap_or_else(|| card.fingerprint.as_str()[..12].to_owned());
        // What an archive calls itself is nobody's concern where it is called something else here.
        let reference: ModelReference = format!("{name}:{version}").parse()?;
        let release = Release {
            name: reference.name.clone(),
            version,
            imported_at_ms: now_ms(),
            source: origin.to_owned(),
            files: card.files.clone(),
            ..card.release.clone().unwrap_or_default()
        };
        write_release(staging.path(), &release)?;
        self.install(staging, &reference, &card)
    }

    /// Checks a staged model as it will serve.
    fn check(&self, source: &Path, staged: &Path) -> Result<ModelCard, StoreError> {
        let refuse = |reason: String| StoreError::NotImportable {
            source_path: source.to_owned(),
            reason,
        };
        let card = ModelCard::read(staged)?;
        if let Some(file) = card.damaged() {
            return Err(refuse(format!(
                "`{}` is not the file whose sha256 {} its {RELEASE_FILE} keeps: it was damaged or \
                 replaced",
                file.path, file.sha256
            )));
        }
        try_out(card.kind, staged)
            .map_err(StoreError::Model)?
            .map_err(refuse)?;
        Ok(card)
    }

    fn install(
        &self,
        staging: tempfile::TempDir,
        reference: &ModelReference,
        card: &ModelCard,
    ) -> Result<ModelCard, StoreError> {
        let place = self.folder(&reference.to_string());
        let failed = |source| files::io("install", &place, source);
        if place.exists() {
            let stored = ModelCard::read(&place)?;
            if stored.fingerprint == card.fingerprint {
                // The same once more: what is there may be in use.
                return Ok(stored);
            }
            return Err(StoreError::VersionExists {
                model: reference.to_string(),
                stored: stored.fingerprint.to_string(),
                other: card.fingerprint.to_string(),
            });
        }
        allow_others_to_read(staging.path()).map_err(failed)?;
        std::fs::rename(staging.path(), &place).map_err(failed)?;
        let _moved = staging.keep();
        ModelCard::read(&place)
    }

    /// Writes a stored version as a sentence-transformers folder or, where `target` ends in `.mar`,
    /// as an archive. What is there already is not replaced.
    ///
    /// # Errors
    /// The version is not stored, its files are not those that were imported, or `target` exists or
    /// can't be written.
    pub fn export(
        &self,
        reference: &ModelReference,
        target: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<ModelCard, StoreError> {
        let folder = self.locate(reference)?;
        let card = ModelCard::read(&folder)?;
        if let Some(file) = card.damaged() {
            return Err(StoreError::Damaged {
                model: reference.to_string(),
                file: file.path.clone(),
            });
        }
        if target.exists() {
            return Err(StoreError::TargetExists {
                path: target.to_owned(),
            });
        }
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let staging = tempfile::Builder::new()
            .prefix(".export-")
            .tempdir_in(&parent)
            .map_err(|error| files::io("create a folder in", &parent, error))?;
        let staged = staging.path().join("model");
        let paths = files::model_files(&folder)?;
        if target
            .extension()
            .is_some_and(|extension| extension == "mar")
        {
            let names: Vec<String> = paths
                .iter()
                .map(|path| path.to_string_lossy().into_owned())
                .collect();
            let named = ModelReference {
                version: reference
                    .version
                    .clone()
                    .or_else(|| card.release.as_ref().map(|release| release.version.clone()))
                    .or_else(|| Some(UNVERSIONED.to_owned())),
                ..reference.clone()
            };
            archive::pack(&folder, &names, &named, card.kind, &staged)?;
            progress(1, 1);
        } else {
            files::copy(&folder, &paths, &staged, progress)?;
        }
        std::fs::rename(&staged, target).map_err(|error| files::io("write", target, error))?;
        Ok(card)
    }
}

/// Computes something with a staged model; what is wrong with it, where it loads and its weights are
/// not finite or all zero.
fn try_out(kind: ModelKind, staged: &Path) -> Result<Result<(), String>, ModelError> {
    match kind {
        ModelKind::SentenceEncoder => {
            let encoder = Encoder::load(staged, EncoderOptions::default())?;
            let vectors = encoder.encode(&TRIAL)?;
            for (text, vector) in TRIAL.iter().zip(&vectors) {
                let squares: f32 = vector.iter().map(|value| value * value).sum();
                let length = squares.sqrt();
                if !(0.99..1.01).contains(&length) {
                    return Ok(Err(format!(
                        "its vector of {text:?} has the length {length}, and not 1"
                    )));
                }
            }
        }
        ModelKind::CrossEncoder => {
            let scores = CrossEncoder::load(staged, None)?.score(TRIAL[0], &TRIAL)?;
            if let Some(score) = scores.iter().find(|score| !score.is_finite()) {
                return Ok(Err(format!("its score of {:?} is {score}", TRIAL[0])));
            }
        }
    }
    Ok(Ok(()))
}

/// What a folder calls itself. One whose name can't be a model's needs another.
fn own_reference(source: &Path) -> ModelReference {
    let real = source.canonicalize().unwrap_or_else(|_| source.to_owned());
    let name = real.file_name().unwrap_or_default().to_string_lossy();
    name.parse().unwrap_or_else(|_| ModelReference {
        name: "model".to_owned(),
        version: None,
    })
}

fn write_release(folder: &Path, release: &Release) -> Result<(), StoreError> {
    let path = folder.join(RELEASE_FILE);
    let text = serde_json::to_vec_pretty(release)
        .map_err(|error| files::io("write", &path, error.into()))?;
    // Read from memory, which does not fail.
    files::write(&mut text.as_slice(), &path, &path)?;
    Ok(())
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
