//! The embedded index: a folder, no server.
//!
//! tantivy is the one durable store: a record's text, vector, metadata and version become durable
//! and visible by one commit, and `bulk` returns after it. The vectors are mirrored in memory
//! (about 2 KB a chunk of 384 dimensions) and scanned exactly; the mirror is rebuilt on opening.
//! One process at a time has the folder.
//!
//! Survives `kill -9` at any point, a full disk, and power loss as far as the disk honours fsync.
//! Meant for up to 250,000 chunks: above that the linear scan is slow, use OpenSearch.

mod analyzer;
mod filter;
mod folder;
mod mirror;
mod schema;
mod search;
mod simd;
mod statistics;
mod store;
mod vectors;
mod writer;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use async_trait::async_trait;
use tokio::sync::oneshot;

use crate::{
    BoxError, BulkAction, Generation, Generations, Hit, IndexCounts, IndexDescription, IndexError,
    IndexSpec, ItemOutcome, Record, SearchIndex, SearchRequest, generation_name,
};
pub use analyzer::tokens;
use folder::{Folder, GenerationMeta};
use store::{Shared, Store};
use writer::Command;

/// A generation of the embedded index; several share the folder, each by a handle of its own.
pub struct EmbeddedIndex {
    inner: Arc<Inner>,
    ensured: RwLock<Option<Arc<Ensured>>>,
}

/// What all handles have in common.
struct Inner {
    folder: Folder,
    /// What is open, by the generation's name: it has one writer, and closes with its last handle.
    stores: Mutex<BTreeMap<String, Weak<Store>>>,
}

/// What `ensure` settled.
struct Ensured {
    spec: IndexSpec,
    meta: GenerationMeta,
    store: Arc<Store>,
}

impl fmt::Debug for EmbeddedIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedIndex")
            .field("folder", &self.inner.folder)
            .finish_non_exhaustive()
    }
}

impl EmbeddedIndex {
    /// Takes the folder at `path`, creating it where needed.
    ///
    /// # Errors
    /// [`IndexError::Locked`] while another process has it, [`IndexError::Storage`] when it
    /// cannot be created.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, IndexError> {
        let inner = Inner {
            folder: Folder::take(path.into())?,
            stores: Mutex::default(),
        };
        Ok(Self::beside(&Arc::new(inner)))
    }

    fn beside(inner: &Arc<Inner>) -> Self {
        Self {
            inner: Arc::clone(inner),
            ensured: RwLock::default(),
        }
    }

    fn ensured(&self) -> Result<Arc<Ensured>, IndexError> {
        // Only ever replaced whole, so a panic elsewhere leaves it sound.
        let ensured = self.ensured.read().unwrap_or_else(PoisonError::into_inner);
        let ensured = ensured.clone().ok_or(IndexError::NotEnsured)?;
        if ensured.store.is_retired() {
            let name = ensured.spec.index_name();
            return Err(IndexError::NoSuchGeneration { name });
        }
        Ok(ensured)
    }

    /// Runs `work` on the blocking pool with this generation.
    async fn reading<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, IndexError> + Send + 'static,
    ) -> Result<T, IndexError> {
        let ensured = self.ensured()?;
        blocking(move || work(ensured.store.shared())).await
    }

    /// Runs `work` on the blocking pool with the folder.
    async fn with_folder<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, IndexError> + Send + 'static,
    ) -> Result<T, IndexError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || work(&inner)).await
    }
}

impl Inner {
    fn ensure(&self, spec: &IndexSpec) -> Result<Ensured, IndexError> {
        spec.validate()?;
        // Held while it opens: two handles must not open one generation at once.
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        let meta = self.folder.ensure_generation(spec)?;
        let name = spec.index_name();
        let store = match stores.get(&name).and_then(Weak::upgrade) {
            Some(store) => store,
            None => {
                let path = self.folder.generation(&spec.name, spec.generation);
                let store = Arc::new(Store::open(&path, spec.dimension)?);
                stores.insert(name, Arc::downgrade(&store));
                store
            }
        };
        if self.resolve(&spec.name)?.is_none() {
            self.folder.write_alias(&spec.name, spec.generation)?;
        }
        Ok(Ensured {
            spec: spec.clone(),
            meta,
            store,
        })
    }

    fn look(&self, spec: &IndexSpec) -> Result<Option<IndexDescription>, IndexError> {
        spec.validate()?;
        let meta = self.folder.fitting(spec)?;
        meta.map(|meta| self.description(spec, &meta)).transpose()
    }

    fn description(
        &self,
        spec: &IndexSpec,
        meta: &GenerationMeta,
    ) -> Result<IndexDescription, IndexError> {
        let reads = self.folder.read_alias(&spec.name)?;
        Ok(IndexDescription {
            adapter: "embedded",
            engine_version: tantivy::version_string().to_owned(),
            reads: reads
                .map(|generation| generation_name(&spec.name, generation))
                .unwrap_or_default(),
            writes: spec.index_name(),
            dimension: meta.dimension,
            model_version: meta.model_version.clone(),
            model_fingerprint: meta.model_fingerprint.clone(),
        })
    }

    /// An alias of a generation that is gone is none, as in a cluster.
    fn resolve(&self, name: &str) -> Result<Option<Generation>, IndexError> {
        match self.folder.read_alias(name)? {
            Some(generation) => self.generation(name, generation),
            None => Ok(None),
        }
    }

    fn generation(&self, name: &str, generation: u32) -> Result<Option<Generation>, IndexError> {
        let meta = self.folder.meta(name, generation)?;
        Ok(meta.map(|meta| Generation {
            generation,
            index: generation_name(name, generation),
            dimension: meta.dimension,
            model_version: meta.model_version,
            model_fingerprint: meta.model_fingerprint,
        }))
    }

    fn list(&self, name: &str) -> Result<Vec<Generation>, IndexError> {
        let mut found = Vec::new();
        for generation in self.folder.generations(name)? {
            found.extend(self.generation(name, generation)?);
        }
        Ok(found)
    }

    fn swap(&self, name: &str, from: Option<u32>, to: u32) -> Result<(), IndexError> {
        // Held, so that two swaps do not both find what they expect.
        let _stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        if self.folder.meta(name, to)?.is_none() {
            return Err(IndexError::NoSuchGeneration {
                name: generation_name(name, to),
            });
        }
        let found = self.resolve(name)?.map(|serving| serving.generation);
        if found != from {
            let named = |generation: Option<u32>| {
                generation.map_or_else(|| "nothing".to_owned(), |it| generation_name(name, it))
            };
            return Err(IndexError::AliasMoved {
                alias: name.to_owned(),
                expected: named(from),
                found: named(found),
            });
        }
        self.folder.write_alias(name, to)
    }

    fn delete(&self, name: &str, generation: u32) -> Result<bool, IndexError> {
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        let index = generation_name(name, generation);
        if self.folder.read_alias(name)? == Some(generation) {
            return Err(IndexError::Serves { name: index });
        }
        if let Some(store) = stores.remove(&index).and_then(|store| store.upgrade()) {
            store.retire();
        }
        self.folder.remove_generation(name, generation)
    }
}

#[async_trait]
impl Generations for EmbeddedIndex {
    async fn resolve(&self, name: &str) -> Result<Option<Generation>, IndexError> {
        let name = name.to_owned();
        self.with_folder(move |inner| inner.resolve(&name)).await
    }

    async fn list(&self, name: &str) -> Result<Vec<Generation>, IndexError> {
        let name = name.to_owned();
        self.with_folder(move |inner| inner.list(&name)).await
    }

    async fn open(&self, spec: &IndexSpec) -> Result<Arc<dyn SearchIndex>, IndexError> {
        let handle = Self::beside(&self.inner);
        handle.ensure(spec).await?;
        Ok(Arc::new(handle))
    }

    async fn look(&self, spec: &IndexSpec) -> Result<Option<IndexDescription>, IndexError> {
        let spec = spec.clone();
        self.with_folder(move |inner| inner.look(&spec)).await
    }

    async fn swap_alias(&self, name: &str, from: Option<u32>, to: u32) -> Result<(), IndexError> {
        let name = name.to_owned();
        self.with_folder(move |inner| inner.swap(&name, from, to))
            .await
    }

    async fn delete(&self, name: &str, generation: u32) -> Result<bool, IndexError> {
        let name = name.to_owned();
        self.with_folder(move |inner| inner.delete(&name, generation))
            .await
    }
}

#[async_trait]
impl SearchIndex for EmbeddedIndex {
    async fn ensure(&self, spec: &IndexSpec) -> Result<(), IndexError> {
        // Opening reads the whole store, once.
        let spec = spec.clone();
        let ensured = self.with_folder(move |inner| inner.ensure(&spec)).await?;
        let mut slot = self.ensured.write().unwrap_or_else(PoisonError::into_inner);
        *slot = Some(Arc::new(ensured));
        Ok(())
    }

    async fn bulk(&self, actions: Vec<BulkAction>) -> Result<Vec<ItemOutcome>, IndexError> {
        if actions.is_empty() {
            return Ok(Vec::new());
        }
        let (reply, answer) = oneshot::channel();
        let ensured = self.ensured()?;
        if !ensured.store.send(Command::Bulk { actions, reply }) {
            return Err(writer_gone());
        }
        answer.await.map_err(|_| writer_gone())
    }

    async fn fetch(
        &self,
        ids: &[String],
        with_vectors: bool,
    ) -> Result<Vec<Option<Record>>, IndexError> {
        let ids = ids.to_vec();
        self.reading(move |shared| {
            let searcher = shared.committed().searcher.clone();
            shared.fetch(&searcher, &ids, with_vectors)
        })
        .await
    }

    async fn search(&self, request: &SearchRequest) -> Result<Vec<Hit>, IndexError> {
        let request = request.clone();
        self.reading(move |shared| {
            request.validate(shared.dimension)?;
            search::search(shared, &request)
        })
        .await
    }

    async fn count(&self) -> Result<IndexCounts, IndexError> {
        let ensured = self.ensured()?;
        Ok(ensured.store.shared().committed().mirror.counts())
    }

    async fn headers(
        &self,
        uri_prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Record>, IndexError> {
        let (prefix, after) = (uri_prefix.to_owned(), after.map(str::to_owned));
        self.reading(move |shared| {
            let searcher = shared.committed().searcher.clone();
            shared.headers(&searcher, &prefix, after.as_deref(), limit)
        })
        .await
    }

    async fn warm_up(&self) -> Result<(), IndexError> {
        self.reading(search::warm_up).await
    }

    async fn refresh(&self) -> Result<(), IndexError> {
        // A commit is visible as soon as `bulk` returns.
        self.ensured().map(|_| ())
    }

    async fn sweep(&self, older_than_version: i64) -> Result<u64, IndexError> {
        let (reply, answer) = oneshot::channel();
        let ensured = self.ensured()?;
        if !ensured.store.send(Command::Sweep {
            older_than_version,
            reply,
        }) {
            return Err(writer_gone());
        }
        answer.await.map_err(|_| writer_gone())?
    }

    async fn describe(&self) -> Result<IndexDescription, IndexError> {
        let ensured = self.ensured()?;
        self.with_folder(move |inner| inner.description(&ensured.spec, &ensured.meta))
            .await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, IndexError> + Send + 'static,
) -> Result<T, IndexError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(IndexError::Unavailable {
            what: "reading the embedded index was cut short".to_owned(),
            source: Some(Box::new(error)),
        }),
    }
}

fn writer_gone() -> IndexError {
    IndexError::Unavailable {
        what: "the writer thread has ended; restart the process".to_owned(),
        source: None,
    }
}

fn storage_error(path: &Path, what: &str, source: impl Into<BoxError>) -> IndexError {
    IndexError::Storage {
        path: path.to_owned(),
        what: what.to_owned(),
        source: source.into(),
    }
}
