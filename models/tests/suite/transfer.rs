//! Versions of the store: imported from folders and archives, exported to both, and what is refused.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use millrace_models::store::ModelReference;
use millrace_models::{Encoder, EncoderOptions, ModelStore, StoreError};
use tempfile::TempDir;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::model_folder;

const TEXT: &str = "A shark terrorises a seaside town.";

/// A writable copy of the real model, with what training leaves beside it.
fn source(root: &Path) -> Result<PathBuf> {
    let folder = root.join("custom-emb");
    copy(model_folder(), &folder)?;
    std::fs::write(folder.join("optimizer.pt"), "not the model's")?;
    std::fs::write(
        folder.join("millrace.json"),
        r#"{"metrics": {"ndcg_at_10": 0.76}, "lineage": {"base": "all-MiniLM-L6-v2"}}"#,
    )?;
    Ok(folder)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn store() -> Result<(TempDir, ModelStore)> {
    let root = tempfile::tempdir()?;
    let store = ModelStore::at(root.path().join("models"));
    Ok((root, store))
}

fn import(store: &ModelStore, source: &Path, named: &str) -> Result<ModelReference, StoreError> {
    let named: ModelReference = named.parse()?;
    store.import(source, Some(&named), &mut |_, _| {})?;
    Ok(named)
}

fn vector(folder: &Path) -> Result<Vec<f32>> {
    let encoder = Encoder::load(folder, EncoderOptions::default())?;
    Ok(encoder.encode(&[TEXT])?.remove(0))
}

#[test]
fn a_version_goes_through_folder_and_archive_unchanged() -> Result<()> {
    let (root, store) = store()?;
    let folder = source(root.path())?;
    let mut seen = Vec::new();
    let card = store.import(&folder, None, &mut |done, total| seen.push((done, total)))?;
    assert!(
        seen.last()
            .is_some_and(|(done, total)| done == total && *total > 5)
    );
    let release = card.release.as_ref().context("no release")?;
    assert_eq!(release.name, "custom-emb");
    assert_eq!(release.version, card.fingerprint.as_str()[..12]);
    assert_eq!(release.metrics["ndcg_at_10"], 0.76);
    assert_eq!(release.lineage["base"], "all-MiniLM-L6-v2");
    assert!(card.files.iter().all(|file| file.path != "optimizer.pt"));
    // The name alone is its only version.
    assert_eq!(
        store.show(&"custom-emb".parse()?)?.fingerprint,
        card.fingerprint
    );
    assert_eq!(card.version, card.fingerprint.version("custom-emb"));

    import(&store, &folder, "custom-emb:v1")?;
    let ambiguous = store
        .show(&"custom-emb".parse()?)
        .err()
        .context("found one")?;
    assert!(
        matches!(ambiguous, StoreError::SeveralVersions { .. }),
        "{ambiguous}"
    );
    assert_eq!(store.list()?.len(), 2);
    let absent = store
        .show(&"custom-emb:v9".parse()?)
        .err()
        .context("found")?;
    assert!(absent.to_string().contains("custom-emb:v1"), "{absent}");

    let wanted = vector(model_folder())?;
    for target in ["exported", "exported.mar"] {
        let target = root.path().join(target);
        store.export(&"custom-emb:v1".parse()?, &target, &mut |_, _| {})?;
        let again = store.export(&"custom-emb:v1".parse()?, &target, &mut |_, _| {});
        assert!(matches!(again, Err(StoreError::TargetExists { .. })));
        let other = ModelStore::at(root.path().join("other"));
        let card = other.import(&target, Some(&"copy:1".parse()?), &mut |_, _| {})?;
        assert_eq!(
            card.release.context("no release")?.metrics["ndcg_at_10"],
            0.76
        );
        assert_eq!(vector(&other.folder("copy:1"))?, wanted);
        std::fs::remove_dir_all(other.root())?;
    }
    // An archive names itself.
    let archive = root.path().join("exported.mar");
    let card = ModelStore::at(root.path().join("third")).import(&archive, None, &mut |_, _| {})?;
    let release = card.release.context("no release")?;
    assert_eq!(
        (release.name.as_str(), release.version.as_str()),
        ("custom-emb", "v1")
    );
    Ok(())
}

#[test]
fn a_version_never_changes() -> Result<()> {
    let (root, store) = store()?;
    let folder = source(root.path())?;
    import(&store, &folder, "emb:v1")?;
    // The same once more is no other.
    import(&store, &folder, "emb:v1")?;
    std::fs::write(
        folder.join("sentence_bert_config.json"),
        r#"{"max_seq_length": 64}"#,
    )?;
    let refused = import(&store, &folder, "emb:v1")
        .err()
        .context("replaced")?;
    assert!(
        matches!(refused, StoreError::VersionExists { .. }),
        "{refused}"
    );
    import(&store, &folder, "emb:v2")?;

    let stored = store.folder("emb:v2").join("tokenizer_config.json");
    std::fs::write(stored, "{}")?;
    let target = root.path().join("out");
    let refused = store.export(&"emb:v2".parse()?, &target, &mut |_, _| {});
    assert!(matches!(refused, Err(StoreError::Damaged { .. })));
    assert!(!target.exists());
    Ok(())
}

/// TorchServe's archives may have names that the store can't.
#[test]
fn an_archive_may_be_called_otherwise_here() -> Result<()> {
    let (root, store) = store()?;
    let misnamed = ModelReference {
        name: "my model".to_owned(),
        version: Some("2".to_owned()),
    };
    let other = ModelStore::at(root.path().join("other"));
    std::fs::create_dir(other.root())?;
    copy(model_folder(), &other.folder(&misnamed.to_string()))?;
    let archive = root.path().join("misnamed.mar");
    other.export(&misnamed, &archive, &mut |_, _| {})?;

    let refused = store.import(&archive, None, &mut |_, _| {});
    let refused = refused.err().context("imported")?;
    assert!(matches!(refused, StoreError::Reference(_)), "{refused}");
    import(&store, &archive, "emb")?;
    // The version is its own.
    store.show(&"emb:2".parse()?)?;
    import(&store, &archive, "emb:v3")?;
    store.show(&"emb:v3".parse()?)?;
    Ok(())
}

/// An archive of these entries.
fn archive(root: &Path, name: &str, entries: &[(&str, &[u8])]) -> Result<PathBuf> {
    let path = root.join(name);
    let mut zip = ZipWriter::new(File::create(&path)?);
    for (name, content) in entries {
        zip.start_file(*name, SimpleFileOptions::default())?;
        zip.write_all(content)?;
    }
    zip.finish()?;
    Ok(path)
}

#[test]
fn what_cannot_serve_is_refused_and_leaves_nothing() -> Result<()> {
    let (root, store) = store()?;
    let broken = |name: &str, change: &dyn Fn(&Path) -> std::io::Result<()>| -> Result<PathBuf> {
        let folder = root.path().join(name);
        copy(model_folder(), &folder)?;
        change(&folder)?;
        Ok(folder)
    };
    let manifest = |model: &str| format!(r#"{{"model": {{"modelName": "m", {model}}}}}"#);
    let python = manifest(r#""serializedFile": "model.safetensors", "handler": "handler.py""#);
    let pickled = manifest(r#""serializedFile": "model.pt""#);
    let plain = manifest(r#""modelVersion": "1""#);
    const MANIFEST: &str = "MAR-INF/MANIFEST.json";
    let sources = [
        (root.path().join("nowhere"), "there is nothing"),
        (
            broken("roberta", &|folder| {
                std::fs::write(folder.join("config.json"), r#"{"model_type": "roberta"}"#)
            })?,
            "model_type `roberta`",
        ),
        (
            broken("weightless", &|folder| {
                std::fs::remove_file(folder.join("model.safetensors"))
            })?,
            "no `model.safetensors`",
        ),
        (
            broken("torn", &|folder| {
                let weights = folder.join("model.safetensors");
                File::options()
                    .write(true)
                    .open(weights)?
                    .set_len(1_000_000)
            })?,
            "weights",
        ),
        (
            broken("forged", &|folder| {
                let forged = r#"{"files": [{"path": "vocab.txt", "bytes": 1, "sha256": "00"}]}"#;
                std::fs::write(folder.join("millrace.json"), forged)
            })?,
            "`vocab.txt` is not the file",
        ),
        (
            archive(root.path(), "python.mar", &[(MANIFEST, python.as_bytes())])?,
            "handler `handler.py` is Python",
        ),
        (
            archive(
                root.path(),
                "hidden.mar",
                &[(MANIFEST, plain.as_bytes()), ("code/run.py", b"")],
            )?,
            "`code/run.py` is Python",
        ),
        (
            archive(
                root.path(),
                "pickled.mar",
                &[(MANIFEST, pickled.as_bytes())],
            )?,
            "are no safetensors",
        ),
        (
            archive(
                root.path(),
                "escaping.mar",
                &[(MANIFEST, plain.as_bytes()), ("../../evil.json", b"{}")],
            )?,
            "leads out of the archive",
        ),
        (
            archive(root.path(), "empty.mar", &[("a.txt", b"")])?,
            "it has no MAR-INF/MANIFEST.json",
        ),
        (
            archive(root.path(), "bare.mar", &[(MANIFEST, plain.as_bytes())])?,
            "no `config.json`",
        ),
    ];
    for (source, says) in sources {
        let refused = import(&store, &source, "emb:v1");
        let error = refused.err().with_context(|| format!("{says}: imported"))?;
        let message = millrace_retry::error_chain(&error);
        assert!(message.contains(says), "{says}: {message}");
        let left = std::fs::read_dir(store.root()).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{says}");
    }
    let no_zip = root.path().join("text.mar");
    std::fs::write(&no_zip, "no zip")?;
    let refused = import(&store, &no_zip, "emb:v1");
    assert!(matches!(refused, Err(StoreError::Archive { .. })));
    Ok(())
}
