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

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use tokio::sync::oneshot;

use crate::{
    BoxError, BulkAction, Hit, IndexCounts, IndexDescription, IndexError, IndexSpec, ItemOutcome,
    Record, SearchIndex, SearchRequest,
};
pub use analyzer::tokens;
use folder::{Folder, GenerationMeta};
use store::{Shared, Store};
use writer::Command;

/// The embedded index.
pub struct EmbeddedIndex {
    inner: Arc<Inner>,
}

struct Inner {
    folder: Folder,
    state: RwLock<Option<Arc<Generations>>>,
}

/// What `ensure` settled.
#[derive(Clone)]
struct Generations {
    spec: IndexSpec,
    meta: GenerationMeta,
    writes: Arc<Store>,
    reads: Arc<Store>,
    read_generation: u32,
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
            state: RwLock::new(None),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Runs `work` on the blocking pool with the generation that searches read.
    async fn reading<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, IndexError> + Send + 'static,
    ) -> Result<T, IndexError> {
        let store = Arc::clone(&self.inner.generations()?.reads);
        blocking(move || work(store.shared())).await
    }

    /// Runs `work` on the blocking pool with the generation that is written.
    async fn written<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, IndexError> + Send + 'static,
    ) -> Result<T, IndexError> {
        let store = Arc::clone(&self.inner.generations()?.writes);
        blocking(move || work(store.shared())).await
    }
}

impl Inner {
    fn ensure_now(&self, spec: &IndexSpec) -> Result<(), IndexError> {
        spec.validate()?;
        let meta = self.folder.ensure_generation(spec)?;
        // The slot is only ever replaced whole, so a panic elsewhere leaves it sound.
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = &*state
            && open.spec.index_name() == spec.index_name()
        {
            return Ok(());
        }
        // The store that is open now goes first: a generation has one writer.
        *state = None;
        let path = self.folder.generation(spec, spec.generation);
        let writes = Arc::new(Store::open(&path, spec.dimension)?);
        let read_generation = match self.folder.read_alias(spec)? {
            Some(generation) => generation,
            None => {
                self.folder.write_alias(spec, spec.generation)?;
                spec.generation
            }
        };
        let reads = self.open_reads(spec, read_generation, &writes)?;
        *state = Some(Arc::new(Generations {
            spec: spec.clone(),
            meta,
            writes,
            reads,
            read_generation,
        }));
        Ok(())
    }

    fn open_reads(
        &self,
        spec: &IndexSpec,
        generation: u32,
        writes: &Arc<Store>,
    ) -> Result<Arc<Store>, IndexError> {
        if generation == spec.generation {
            return Ok(Arc::clone(writes));
        }
        let Some(meta) = self.folder.meta(spec, generation)? else {
            let name = spec.generation_name(generation);
            return Err(IndexError::NoSuchGeneration { name });
        };
        let path = self.folder.generation(spec, generation);
        Store::open_for_reading(&path, meta.dimension).map(Arc::new)
    }

    fn swap_now(&self, generation: u32) -> Result<(), IndexError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = state.as_ref() else {
            return Err(IndexError::NotEnsured);
        };
        let reads = self.open_reads(&open.spec, generation, &open.writes)?;
        self.folder.write_alias(&open.spec, generation)?;
        *state = Some(Arc::new(Generations {
            reads,
            read_generation: generation,
            ..Generations::clone(open)
        }));
        Ok(())
    }

    fn generations(&self) -> Result<Arc<Generations>, IndexError> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.clone().ok_or(IndexError::NotEnsured)
    }
}

#[async_trait]
impl SearchIndex for EmbeddedIndex {
    async fn ensure(&self, spec: &IndexSpec) -> Result<(), IndexError> {
        // Opening reads the whole store, once.
        let (inner, spec) = (Arc::clone(&self.inner), spec.clone());
        blocking(move || inner.ensure_now(&spec)).await
    }

    async fn bulk(&self, actions: Vec<BulkAction>) -> Result<Vec<ItemOutcome>, IndexError> {
        if actions.is_empty() {
            return Ok(Vec::new());
        }
        let (reply, answer) = oneshot::channel();
        let store = Arc::clone(&self.inner.generations()?.writes);
        if !store.send(Command::Bulk { actions, reply }) {
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
        self.written(move |shared| {
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
        Ok(self
            .inner
            .generations()?
            .writes
            .shared()
            .committed()
            .mirror
            .counts())
    }

    async fn headers(
        &self,
        uri_prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Record>, IndexError> {
        let (prefix, after) = (uri_prefix.to_owned(), after.map(str::to_owned));
        self.written(move |shared| {
            let searcher = shared.committed().searcher.clone();
            shared.headers(&searcher, &prefix, after.as_deref(), limit)
        })
        .await
    }

    async fn swap_alias(&self, generation: u32) -> Result<(), IndexError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.swap_now(generation)).await
    }

    async fn warm_up(&self) -> Result<(), IndexError> {
        self.reading(search::warm_up).await
    }

    async fn refresh(&self) -> Result<(), IndexError> {
        // A commit is visible as soon as `bulk` returns.
        self.inner.generations().map(|_| ())
    }

    async fn sweep(&self, older_than_version: i64) -> Result<u64, IndexError> {
        let (reply, answer) = oneshot::channel();
        let store = Arc::clone(&self.inner.generations()?.writes);
        if !store.send(Command::Sweep {
            older_than_version,
            reply,
        }) {
            return Err(writer_gone());
        }
        answer.await.map_err(|_| writer_gone())?
    }

    async fn describe(&self) -> Result<IndexDescription, IndexError> {
        let open = self.inner.generations()?;
        Ok(IndexDescription {
            adapter: "embedded",
            engine_version: tantivy::version_string().to_owned(),
            reads: open.spec.generation_name(open.read_generation),
            writes: open.spec.index_name(),
            dimension: open.meta.dimension,
            model_version: open.meta.model_version.clone(),
            model_fingerprint: open.meta.model_fingerprint.clone(),
        })
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
