//! The model store that machines share, in a folder or a bucket: `NAME/VERSION/` holds a version's
//! files, and `millrace.json` with their checksums, which is written last. A version without it is not
//! there; one that has it never changes, and is held to its checksums wherever it is fetched.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use futures::StreamExt;
use millrace_models::store::{
    ModelCard, ModelFile, ModelReference, RELEASE_FILE, Release, is_model_file,
};
use millrace_models::{ModelFingerprint, ModelStore};
use millrace_objects::{ObjectStores, ObjectUri, ObjectWriter, ReadError};
use tokio::io::AsyncWriteExt;

use crate::config::Config;

/// No `millrace.json` is near it.
const MAX_RELEASE_BYTES: u64 = 1 << 20;

/// A model store that machines share.
#[derive(Clone, Debug)]
pub struct SharedStore {
    stores: ObjectStores,
    root: ObjectUri,
}

impl SharedStore {
    /// The configured one.
    ///
    /// # Errors
    /// `model.shared_store` names nothing that can be opened.
    pub fn of(config: &Config) -> anyhow::Result<Option<Self>> {
        let Some(place) = &config.model.shared_store else {
            return Ok(None);
        };
        let named = || format!("model.shared_store is `{place}`");
        // Its own permissions: what documents may be read from says nothing of models.
        let mut objects = config.objects.clone();
        (objects.allowed_roots, objects.allowed_buckets) = (Vec::new(), Vec::new());
        let root = if place.contains("://") {
            ObjectUri::parse(place).with_context(named)?
        } else {
            let path = std::path::absolute(place).with_context(named)?;
            ObjectUri::file(&path).with_context(named)?
        };
        match root.path() {
            Some(path) => {
                std::fs::create_dir_all(path).with_context(named)?;
                objects.allowed_roots = vec![path.to_owned()];
            }
            None => objects.allowed_buckets = vec![place.clone()],
        }
        let stores = ObjectStores::new(&objects).with_context(named)?;
        Ok(Some(Self { stores, root }))
    }

    /// Where it is.
    pub fn root(&self) -> &ObjectUri {
        &self.root
    }

    /// All versions, by name and version.
    ///
    /// # Errors
    /// The store is away, or what lies there is no model store.
    pub async fn list(&self) -> anyhow::Result<Vec<Release>> {
        let mut found = Vec::new();
        let mut entries = self.stores.list(&self.root);
        while let Some(entry) = entries.next().await {
            let entry = match entry {
                Ok(entry) => entry,
                // Nothing was ever brought there.
                Err(error) if matches!(error.source, ReadError::NotFound) => continue,
                Err(error) => return Err(error).context("the shared model store can't be listed"),
            };
            if entry.uri.to_string().ends_with(&format!("/{RELEASE_FILE}")) {
                found.extend(self.release_at(&entry.uri).await?);
            }
        }
        found.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
        Ok(found)
    }

    /// Brings an imported version there; one that is there already must be the same.
    ///
    /// # Errors
    /// It was never imported, its files changed since, the store has another model under its name, or
    /// can't be written to.
    pub async fn put(&self, card: &ModelCard) -> anyhow::Result<()> {
        let Some(release) = &card.release else {
            bail!(
                "{} is no imported version: `millrace model import` makes it one",
                card.name
            );
        };
        if let Some(file) = card.damaged() {
            bail!(
                "`{}` of {} is not the file that was imported",
                file.path,
                card.name
            );
        }
        let place = self.place(&release.name, &release.version)?;
        if let Some(there) = self.release_at(&place.child(RELEASE_FILE)?).await? {
            ensure!(
                fingerprint(&there) == card.fingerprint,
                "{}:{} is another model in {}, of fingerprint {} and not {}: a version never changes; \
                 give this one another with `--as`",
                release.name,
                release.version,
                self.root,
                fingerprint(&there),
                card.fingerprint
            );
            return Ok(());
        }
        let last = [PathBuf::from(RELEASE_FILE)];
        let files = release.files.iter().map(|file| PathBuf::from(&file.path));
        for path in files.chain(last) {
            let content = tokio::fs::read(card.folder.join(&path)).await;
            let content = content.with_context(|| format!("{} can't be read", path.display()))?;
            let target = place.child(&path.to_string_lossy())?;
            if let Some(folder) = target.path().and_then(Path::parent) {
                tokio::fs::create_dir_all(folder).await?;
            }
            ObjectWriter::of(self.stores.clone(), target)
                .put(content)
                .await?;
        }
        Ok(())
    }

    /// Fetches a version into this machine's store; `progress` is told bytes done and in all.
    ///
    /// # Errors
    /// It is not there, its files are not those of its checksums, or it can't be used.
    pub async fn fetch(
        &self,
        reference: &ModelReference,
        store: &ModelStore,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> anyhow::Result<ModelCard> {
        let release = self.find(reference).await?;
        let place = self.place(&release.name, &release.version)?;
        tokio::fs::create_dir_all(store.root()).await?;
        // Beside its place, so that it is on the disk that has room for models; listings leave it out.
        let staging = tempfile::Builder::new()
            .prefix(".fetch-")
            .tempdir_in(store.root())?;
        let total = release.files.iter().map(|file| file.bytes).sum();
        let mut done = 0;
        for file in &release.files {
            ensure!(
                is_model_file(Path::new(&file.path)),
                "`{}` of {place} is no file of a model",
                file.path
            );
            let target = staging.path().join(&file.path);
            if let Some(folder) = target.parent() {
                tokio::fs::create_dir_all(folder).await?;
            }
            self.download(&place.child(&file.path)?, file, &target, &mut |bytes| {
                done += bytes;
                progress(done, total);
            })
            .await?;
        }
        let kept = serde_json::to_vec(&release)?;
        tokio::fs::write(staging.path().join(RELEASE_FILE), kept).await?;
        let (store, origin) = (store.clone(), place.to_string());
        let import = move || {
            let named = ModelReference {
                name: release.name,
                version: Some(release.version),
            };
            store.import_from(&origin, staging.path(), Some(&named), &mut |_, _| {})
        };
        let imported = tokio::task::spawn_blocking(import).await?;
        imported.with_context(|| format!("what was fetched from {place} can't be used"))
    }

    /// A version by its name; a name alone stands for its only version.
    async fn find(&self, reference: &ModelReference) -> anyhow::Result<Release> {
        let all = self.list().await?;
        let fits = |release: &&Release| {
            release.name == reference.name
                && (reference.version.as_ref()).is_none_or(|version| *version == release.version)
        };
        let mut fitting = all.iter().filter(fits);
        match (fitting.next(), fitting.next()) {
            (Some(only), None) => Ok(only.clone()),
            (None, _) => bail!(
                "{reference} is not in the shared model store {}, which has {}",
                self.root,
                names(all.iter())
            ),
            (Some(_), Some(_)) => bail!(
                "{reference} is in the shared model store in several versions; name one: {}",
                names(all.iter().filter(fits))
            ),
        }
    }

    /// The version of this fingerprint, whatever it is called.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn with_fingerprint(&self, wanted: &str) -> anyhow::Result<Option<ModelReference>> {
        let all = self.list().await?;
        let found = all
            .into_iter()
            .find(|release| fingerprint(release).as_str() == wanted);
        Ok(found.map(|release| ModelReference {
            name: release.name,
            version: Some(release.version),
        }))
    }

    fn place(&self, name: &str, version: &str) -> anyhow::Result<ObjectUri> {
        Ok(self.root.child(name)?.child(version)?)
    }

    async fn release_at(&self, uri: &ObjectUri) -> anyhow::Result<Option<Release>> {
        let object = match self.stores.read(uri, None, MAX_RELEASE_BYTES).await {
            Ok(object) => object,
            Err(ReadError::NotFound) => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("{uri} can't be read")),
        };
        let release = serde_json::from_slice(&object.bytes);
        release.with_context(|| format!("{uri} tells of no version of a model"))
    }

    /// Part by part: weights may be larger than what should be held.
    async fn download(
        &self,
        uri: &ObjectUri,
        file: &ModelFile,
        target: &Path,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> anyhow::Result<()> {
        let failed = || format!("{uri} can't be fetched");
        if let Some(path) = uri.path() {
            let copied = tokio::fs::copy(path, target).await.with_context(failed)?;
            progress(copied);
            return Ok(());
        }
        let mut object = self.stores.stream(uri).await.with_context(failed)?;
        let mut written = tokio::fs::File::create(target).await?;
        let mut bytes = 0;
        while let Some(part) = object.next().await.with_context(failed)? {
            bytes += part.len() as u64;
            ensure!(
                bytes <= file.bytes,
                "{uri} has more than the {} bytes that its version tells of",
                file.bytes
            );
            written.write_all(&part).await?;
            progress(part.len() as u64);
        }
        written.sync_all().await?;
        Ok(())
    }
}

fn fingerprint(release: &Release) -> ModelFingerprint {
    let files = release.files.iter();
    let checksums: Vec<_> = files
        .map(|file| (file.path.as_str(), file.sha256.as_str()))
        .collect();
    ModelFingerprint::of_checksums(&checksums)
}

fn names<'a>(releases: impl Iterator<Item = &'a Release>) -> String {
    let names: Vec<String> = releases
        .map(|release| format!("{}:{}", release.name, release.version))
        .collect();
    if names.is_empty() {
        "nothing".to_owned()
    } else {
        names.join(", ")
    }
}
