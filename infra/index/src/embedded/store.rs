//! One generation on disk with its mirror: opening, reading, and what a commit makes visible.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, mpsc};
use std::thread::JoinHandle;

use tantivy::directory::MmapDirectory;
use tantivy::schema::IndexRecordOption;
use tantivy::{
    DocAddress, DocSet, Index, IndexReader, ReloadPolicy, Searcher, TERMINATED, TantivyDocument,
};

use super::analyzer;
use super::mirror::Mirror;
use super::schema::{Fields, schema};
use super::statistics::TextCounts;
use super::storage_error;
use super::writer::{self, Command};
use crate::{IndexError, Record};

/// Blocks of the document store kept decompressed.
const STORE_CACHE_BLOCKS: usize = 64;

/// What searches see: the last commit and the mirror that belongs to it.
pub(super) struct Committed {
    pub(super) searcher: Searcher,
    pub(super) mirror: Mirror,
    pub(super) text_counts: TextCounts,
}

/// The parts that readers and the writer thread share.
pub(super) struct Shared {
    pub(super) path: PathBuf,
    pub(super) index: Index,
    pub(super) reader: IndexReader,
    pub(super) fields: Fields,
    pub(super) dimension: usize,
    committed: RwLock<Committed>,
}

/// One generation. Dropping it waits for a commit under way.
pub(super) struct Store {
    shared: Arc<Shared>,
    writer: Option<(mpsc::Sender<Command>, JoinHandle<()>)>,
    /// Its folder is gone, or is about to be.
    retired: AtomicBool,
}

impl Store {
    /// Opens or creates the generation at `path`, with its writer thread.
    pub(super) fn open(path: &Path, dimension: usize) -> Result<Self, IndexError> {
        let failed = |error| storage_error(path, "the index cannot be opened", error);
        let (schema, fields) = schema();
        let directory = MmapDirectory::open(path)
            .map_err(|error| storage_error(path, "the index cannot be opened", error))?;
        let index = Index::open_or_create(directory, schema).map_err(failed)?;
        index
            .tokenizers()
            .register(analyzer::NAME, analyzer::english());
        let reader: IndexReader = index
            .reader_builder()
            .reload_policy(ReloadPolicy::Manual)
            .doc_store_cache_num_blocks(STORE_CACHE_BLOCKS)
            .try_into()
            .map_err(failed)?;
        let committed = RwLock::new(load(path, &reader, fields, dimension)?);
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            index,
            reader,
            fields,
            dimension,
            committed,
        });
        let writer = writer::start(Arc::clone(&shared))?;
        Ok(Self {
            shared,
            writer: Some(writer),
            retired: AtomicBool::new(false),
        })
    }

    /// From here on there is no such generation.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// Hands a command to the writer thread; false when there is none.
    pub(super) fn send(&self, command: Command) -> bool {
        let sender = self.writer.as_ref().map(|(sender, _)| sender);
        sender.is_some_and(|sender| sender.send(command).is_ok())
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.writer.take() {
            drop(sender);
            // A panic there was reported to whoever waited for an answer.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// What searches see now.
    pub(super) fn committed(&self) -> RwLockReadGuard<'_, Committed> {
        // Nothing panics while holding the lock for writing but on a broken invariant of the
        // mirror; the store below is whole then, and reading it is better than not.
        self.committed
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the last commit visible: `change` brings the mirror to it.
    pub(super) fn publish(&self, change: impl FnOnce(&mut Mirror)) -> tantivy::Result<()> {
        self.reader.reload()?;
        let searcher = self.reader.searcher();
        let counts = self
            .committed()
            .text_counts
            .update(&searcher, self.fields.text)?;
        let mut committed = self
            .committed
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        change(&mut committed.mirror);
        committed.searcher = searcher;
        committed.text_counts = counts;
        Ok(())
    }

    /// Reads everything again from the last commit.
    pub(super) fn reload(&self) -> Result<(), IndexError> {
        let failed = |error| storage_error(&self.path, "the index cannot be read again", error);
        self.reader.reload().map_err(failed)?;
        let fresh = load(&self.path, &self.reader, self.fields, self.dimension)?;
        *self
            .committed
            .write()
            .unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// The records with these ids as committed last.
    pub(super) fn fetch(
        &self,
        searcher: &Searcher,
        ids: &[String],
        with_vectors: bool,
    ) -> Result<Vec<Option<Record>>, IndexError> {
        let failed = |error| storage_error(&self.path, "a record cannot be read", error);
        let read = |id: &String| {
            let Some(address) = self.find(searcher, id).map_err(failed)? else {
                return Ok(None);
            };
            let document: TantivyDocument = searcher.doc(address).map_err(failed)?;
            self.fields
                .record(&document, with_vectors, &self.path)
                .map(Some)
        };
        ids.iter().map(read).collect()
    }

    fn find(&self, searcher: &Searcher, id: &str) -> tantivy::Result<Option<DocAddress>> {
        let term = self.fields.id_term(id);
        for (ord, segment) in searcher.segment_readers().iter().enumerate() {
            let index = segment.inverted_index(self.fields.id)?;
            let Some(mut postings) = index.read_postings(&term, IndexRecordOption::Basic)? else {
                continue;
            };
            while postings.doc() != TERMINATED {
                if !segment.is_deleted(postings.doc()) {
                    return Ok(Some(DocAddress::new(ord as u32, postings.doc())));
                }
                postings.advance();
            }
        }
        Ok(None)
    }

    /// One page of the walk over headers in the order of their URIs.
    pub(super) fn headers(
        &self,
        searcher: &Searcher,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Record>, IndexError> {
        let failed = |error| storage_error(&self.path, "headers cannot be read", error);
        let io_failed = |error| storage_error(&self.path, "headers cannot be read", error);
        let mut found: Vec<(String, DocAddress)> = Vec::new();
        for (ord, segment) in searcher.segment_readers().iter().enumerate() {
            let index = segment
                .inverted_index(self.fields.header_uri)
                .map_err(failed)?;
            let range = match after {
                Some(after) if after >= prefix => index.terms().range().gt(after),
                _ => index.terms().range().ge(prefix),
            };
            let mut terms = range.into_stream().map_err(io_failed)?;
            let mut taken = 0;
            while taken < limit && terms.advance() {
                if !terms.key().starts_with(prefix.as_bytes()) {
                    break;
                }
                let mut postings = index
                    .read_postings_from_terminfo(terms.value(), IndexRecordOption::Basic)
                    .map_err(io_failed)?;
                while postings.doc() != TERMINATED {
                    if !segment.is_deleted(postings.doc()) {
                        let uri = String::from_utf8_lossy(terms.key()).into_owned();
                        found.push((uri, DocAddress::new(ord as u32, postings.doc())));
                        taken += 1;
                    }
                    postings.advance();
                }
            }
        }
        found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        found.truncate(limit);
        let read = |(_, address): (String, DocAddress)| {
            let document: TantivyDocument = searcher.doc(address).map_err(failed)?;
            self.fields.record(&document, false, &self.path)
        };
        found.into_iter().map(read).collect()
    }
}

/// Reads the last commit into a new mirror.
fn load(
    path: &Path,
    reader: &IndexReader,
    fields: Fields,
    dimension: usize,
) -> Result<Committed, IndexError> {
    let failed = |error| storage_error(path, "the index cannot be read", error);
    let searcher = reader.searcher();
    let mut mirror = Mirror::new(dimension);
    for segment in searcher.segment_readers() {
        let store = segment
            .get_store_reader(STORE_CACHE_BLOCKS)
            .map_err(|error| storage_error(path, "the index cannot be read", error))?;
        for document in store.iter::<TantivyDocument>(segment.alive_bitset()) {
            let record = fields.record(&document.map_err(failed)?, true, path)?;
            mirror.put(&record);
        }
    }
    let text_counts = TextCounts::default()
        .update(&searcher, fields.text)
        .map_err(failed)?;
    Ok(Committed {
        searcher,
        mirror,
        text_counts,
    })
}
