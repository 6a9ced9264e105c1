//! The model store that machines share, in a folder or a bucket: `NAME/VERSION/` holds a version's
//! files, and `millrace.json` with their checksums, which is written last. A version without it is not
//! there; one that has it is not written again, and is held to its checksums wherever it is fetched.
//! Two machines that bring different models under one name at the same moment spoil that version: no
//! store of a bucket's objects has a lock, and no machine will take it.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use futures::StreamExt;
use millrace_models::ModelStore;
use millrace_models::store::{
    ModelCard, ModelFile, ModelReference, RELEASE_FILE, Release, UNVERSIONED, is_model_file,
};
use millrace_objects::{ObjectStores, ObjectUri, ObjectWriter, ReadError};
use millrace_retry::error_chain;
use tokio::io::AsyncWriteExt;

use crate::config::Config;

/// No `millrace.json` is near it.
const MAX_RELEASE_BYTES: u64 = 1 << 20;

/// No version that fits.
#[derive(Debug, thiserror::Error)]
#[error("{wanted} is not in the shared model store {root}, which has {known}")]
pub struct NotShared {
    wanted: String,
    root: String,
    known: String,
}

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
        Self::open(config, false)
    }

    /// As [`Self::of`], to bring something there: a folder is made where there is none yet.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn to_write(config: &Config) -> anyhow::Result<Option<Self>> {
        Self::open(config, true)
    }

    fn open(config: &Config, make: bool) -> anyhow::Result<Option<Self>> {
        let Some(place) = &config.model.shared_store else {
            return Ok(None);
        };
        let opened = || {
            let root = match place.contains("://") {
                true => ObjectUri::parse(place)?,
                false => ObjectUri::file(&std::path::absolute(place)?)?,
            };
            // Its own permissions: what documents may be read from says nothing of models.
            let mut objects = config.objects.clone();
            (objects.allowed_roots, objects.allowed_buckets) = (Vec::new(), Vec::new());
            match root.path() {
                Some(path) => {
                    if make {
                        std::fs::create_dir_all(path)?;
                    }
                    objects.allowed_roots = vec![path.to_owned()];
                }
                None => objects.allowed_buckets = vec![place.clone()],
            }
            let stores = ObjectStores::new(&objects)?;
            anyhow::Ok(Self { stores, root })
        };
        let opened = opened().with_context(|| format!("model.shared_store is `{place}`"))?;
        Ok(Some(opened))
    }

    /// Where it is.
    pub fn root(&self) -> &ObjectUri {
        &self.root
    }

    /// All versions, by name and version. What can't be read of them is warned of and passed over: one
    /// that is damaged must not hide the others.
    ///
    /// # Errors
    /// The store is away.
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
            let Some(reference) = self.reference_of(&entry.uri) else {
                continue;
            };
            match self.release_of(&reference).await {
                Ok(release) => found.extend(release),
                // One that can't be asked for may be the one that is wanted.
                Err(error) if is_away(&error) => return Err(error),
                Err(error) => tracing::warn!(
                    model = %reference,
                    error = error_chain(error.as_ref()),
                    "a version in the shared model store can't be read"
                ),
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
        let reference = release.reference();
        let place = self.place(&reference)?;
        if let Some(there) = self.release_of(&reference).await? {
            ensure!(
                there.fingerprint() == card.fingerprint,
                "{reference} is another model in {}, of fingerprint {} and not {}: a version never changes; \
                 give this one another with `--as`",
                self.root,
                there.fingerprint(),
                card.fingerprint
            );
            return Ok(());
        }
        let last = [PathBuf::from(RELEASE_FILE)];
        let files = release.files.iter().map(|file| PathBuf::from(&file.path));
        for path in files.chain(last) {
            let target = place.child(&path.to_string_lossy())?;
            if let Some(folder) = target.path().and_then(Path::parent) {
                tokio::fs::create_dir_all(folder).await?;
            }
            ObjectWriter::of(self.stores.clone(), target)
                .put_file(&card.folder.join(&path))
                .await?;
        }
        Ok(())
    }

    /// Fetches a version into this machine's store, unless it is there; `progress` is told bytes done
    /// and in all.
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
        let named = release.reference();
        if let Ok(stored) = store.show(&named)
            && stored.fingerprint == release.fingerprint()
        {
            return Ok(stored);
        }
        let place = self.place(&named)?;
        tokio::fs::create_dir_all(store.root()).await?;
        // Beside its place, so that it is on the disk that has room for models; listings leave it out.
        let staging = tempfile::Builder::new()
            .prefix(".fetch-")
            .tempdir_in(store.root())?;
        let total = release
            .files
            .iter()
            .fold(0_u64, |sum, file| sum.saturating_add(file.bytes));
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
        let import =
            move || store.import_from(&origin, staging.path(), Some(&named), &mut |_, _| {});
        let imported = tokio::task::spawn_blocking(import).await?;
        imported.with_context(|| format!("what was fetched from {place} can't be used"))
    }

    /// A version by its name; a name alone stands for its only version.
    async fn find(&self, wanted: &ModelReference) -> anyhow::Result<Release> {
        if wanted.version.is_some()
            && let Some(release) = self.release_of(wanted).await?
        {
            return Ok(release);
        }
        let all = self.list().await?;
        let fits = |release: &&Release| wanted.version.is_none() && release.name == wanted.name;
        let fitting: Vec<&Release> = all.iter().filter(fits).collect();
        match fitting[..] {
            [only] => Ok(only.clone()),
            [] => Err(NotShared {
                wanted: wanted.to_string(),
                root: self.root.to_string(),
                known: names(all.iter()),
            }
            .into()),
            _ => bail!(
                "{wanted} is in the shared model store in several versions; name one: {}",
                names(fitting.into_iter())
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
            .find(|release| release.fingerprint().as_str() == wanted);
        Ok(found.as_ref().map(Release::reference))
    }

    /// Where a version lies. Its name and version hold nothing that leads elsewhere: they were parsed.
    fn place(&self, reference: &ModelReference) -> anyhow::Result<ObjectUri> {
        let version = reference.version.as_deref().unwrap_or(UNVERSIONED);
        Ok(self.root.child(&reference.name)?.child(version)?)
    }

    /// The version whose `millrace.json` this is.
    fn reference_of(&self, uri: &ObjectUri) -> Option<ModelReference> {
        let (uri, root) = (uri.to_string(), self.root.to_string());
        let inside = uri.strip_prefix(root.trim_end_matches('/'))?;
        let mut parts = inside.strip_prefix('/')?.split('/');
        let (name, version, file) = (parts.next()?, parts.next()?, parts.next()?);
        if file != RELEASE_FILE || parts.next().is_some() {
            return None;
        }
        format!("{name}:{version}").parse().ok()
    }

    /// What a version's `millrace.json` tells; none where there is none.
    async fn release_of(&self, wanted: &ModelReference) -> anyhow::Result<Option<Release>> {
        let uri = self.place(wanted)?.child(RELEASE_FILE)?;
        let object = match self.stores.read(&uri, None, MAX_RELEASE_BYTES).await {
            Ok(object) => object,
            Err(ReadError::NotFound) => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("{uri} can't be read")),
        };
        let release: Release = serde_json::from_slice(&object.bytes)
            .with_context(|| format!("{uri} tells of no version of a model"))?;
        ensure!(
            release.reference() == *wanted,
            "{uri} tells of {}: a version is copied by `model pull` and `model import`",
            release.reference()
        );
        Ok(Some(release))
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
            let found = self.stores.head(uri).await.with_context(failed)?;
            ensure!(
                found.size_bytes == file.bytes,
                "{uri} has {} bytes; its version tells of {}",
                found.size_bytes,
                file.bytes
            );
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

/// Whether a store of objects can't be reached: waiting may mend that.
pub fn is_away(error: &anyhow::Error) -> bool {
    let away = |cause: &ReadError| matches!(cause, ReadError::Unavailable { .. });
    error
        .chain()
        .any(|cause| cause.downcast_ref().is_some_and(away))
}

fn names<'a>(releases: impl Iterator<Item = &'a Release>) -> String {
    let names: Vec<String> = releases
        .map(|release| release.reference().to_string())
        .collect();
    if names.is_empty() {
        "nothing".to_owned()
    } else {
        names.join(", ")
    }
}
