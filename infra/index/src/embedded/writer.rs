//! The writer thread: the only one that changes a generation.
//!
//! A commit costs about 0.1 s however little it holds, so requests that arrive while one runs
//! share the next. A request is answered after the commit that holds it; the mirror changes after
//! that commit too. When a commit fails, the writer is made anew and the mirror is read from the
//! last commit again: both are as if the group had never been sent.

use std::collections::HashMap;
use std::error::Error as _;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use tantivy::indexer::IndexWriterOptions;
use tantivy::{IndexWriter, TantivyDocument, TantivyError};
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::storage_error;
use super::store::Shared;
use crate::admission::refuse;
use crate::{BulkAction, IndexError, ItemOutcome, Obstacle, Record};

/// Memory in which tantivy gathers documents before it writes a segment.
const HEAP_BYTES: usize = 64 << 20;
/// A commit holds at most about this many actions: it bounds latency and memory.
const GROUP_ACTIONS: usize = 20_000;

/// What the thread is asked to do.
pub(super) enum Command {
    /// Writes; answers with an outcome an action.
    Bulk {
        actions: Vec<BulkAction>,
        reply: oneshot::Sender<Vec<ItemOutcome>>,
    },
    /// Removes tombstones with a version below; answers with their number.
    Sweep {
        older_than_version: i64,
        reply: oneshot::Sender<Result<u64, IndexError>>,
    },
}

/// Starts the thread; it ends when the sender is dropped.
pub(super) fn start(
    shared: Arc<Shared>,
) -> Result<(mpsc::Sender<Command>, JoinHandle<()>), IndexError> {
    let path = shared.path.clone();
    let (sender, commands) = mpsc::channel();
    let tantivy = new_writer(&shared).map_err(|e| storage_error(&path, OPEN_FAILED, e))?;
    let tantivy = match remove_leftovers(&tantivy) {
        Ok(()) => Some(tantivy),
        Err(error) => {
            // A full disk, perhaps: it can be read all the same, and the first write tries again.
            warn!(path = %path.display(), %error, "files of a commit that was cut off cannot be removed");
            None
        }
    };
    let mut writer = Writer { tantivy, shared };
    let thread = thread::Builder::new()
        .name("index-writer".to_owned())
        .spawn(move || writer.run(&commands))
        .map_err(|error| storage_error(&path, "the writer thread cannot start", error))?;
    Ok((sender, thread))
}

const OPEN_FAILED: &str = "the index cannot be opened for writing";

fn new_writer(shared: &Shared) -> tantivy::Result<IndexWriter> {
    let options = IndexWriterOptions::builder()
        .num_worker_threads(1)
        .num_merge_threads(1)
        .memory_budget_per_thread(HEAP_BYTES)
        .build();
    shared.index.writer_with_options(options)
}

/// A commit that was cut off, by a kill or a full disk, may have written files that no meta file
/// names. Their names hold the number of operations so far, so the same commit again would want the
/// same names, and fail for ever.
fn remove_leftovers(writer: &IndexWriter) -> tantivy::Result<()> {
    writer.garbage_collect_files().wait().map(drop)
}

struct Bulk {
    actions: Vec<BulkAction>,
    reply: oneshot::Sender<Vec<ItemOutcome>>,
}

struct Writer {
    shared: Arc<Shared>,
    /// Absent after a failure that could not be recovered from yet.
    tantivy: Option<IndexWriter>,
}

impl Writer {
    fn run(&mut self, commands: &mpsc::Receiver<Command>) {
        while let Ok(first) = commands.recv() {
            let mut waiting = Some(first);
            let mut group = Vec::new();
            let mut actions = 0;
            while let Some(command) = waiting.take() {
                match command {
                    Command::Bulk {
                        actions: more,
                        reply,
                    } => {
                        actions += more.len();
                        group.push(Bulk {
                            actions: more,
                            reply,
                        });
                        if actions < GROUP_ACTIONS {
                            waiting = commands.try_recv().ok();
                        }
                    }
                    Command::Sweep {
                        older_than_version,
                        reply,
                    } => {
                        self.write_group(std::mem::take(&mut group));
                        // Nobody waiting any more is no error.
                        let _ = reply.send(self.sweep(older_than_version));
                    }
                }
            }
            self.write_group(group);
        }
    }

    fn write_group(&mut self, group: Vec<Bulk>) {
        if group.is_empty() {
            return;
        }
        let (requests, replies): (Vec<_>, Vec<_>) = group
            .into_iter()
            .map(|bulk| (bulk.actions, bulk.reply))
            .unzip();
        let sizes: Vec<usize> = requests.iter().map(Vec::len).collect();
        let outcomes = match self.commit(requests) {
            Ok(outcomes) => outcomes,
            Err(failure) => {
                error!(path = %self.shared.path.display(), reason = failure.obstacle.reason,
                    "a commit failed; nothing of it was kept");
                self.tantivy = None;
                let outcome = failure.outcome();
                sizes
                    .iter()
                    .map(|len| vec![outcome.clone(); *len])
                    .collect()
            }
        };
        for (reply, outcomes) in replies.into_iter().zip(outcomes) {
            // Nobody waiting any more is no error: the writes are committed or not all the same.
            let _ = reply.send(outcomes);
        }
    }

    fn commit(&mut self, requests: Vec<Vec<BulkAction>>) -> Result<Vec<Vec<ItemOutcome>>, Failure> {
        self.recover()?;
        let shared = Arc::clone(&self.shared);
        let writer = self.writer()?;
        // Last record of each id written in this group; versions are compared with it first.
        let mut written: HashMap<String, Record> = HashMap::new();
        let mut outcomes = Vec::with_capacity(requests.len());
        for actions in requests {
            let mut answers = Vec::with_capacity(actions.len());
            for action in actions {
                let record = stored_form(action.into_record());
                if let Some(rejection) = refuse(&record, shared.dimension) {
                    answers.push(ItemOutcome::Reject(rejection));
                    continue;
                }
                let earlier = written.get(&record.id).map(|earlier| earlier.version);
                let current = earlier.or_else(|| shared.committed().mirror.version(&record.id));
                if current.is_some_and(|current| current > record.version) {
                    answers.push(ItemOutcome::Stale);
                    continue;
                }
                if current.is_some() {
                    writer.delete_term(shared.fields.id_term(&record.id));
                }
                let document = shared
                    .fields
                    .document(&record)
                    .map_err(|error| Failure::record(&error))?;
                add(writer, document, &shared.path)?;
                written.insert(record.id.clone(), record);
                answers.push(ItemOutcome::Indexed);
            }
            outcomes.push(answers);
        }
        if !written.is_empty() {
            writer
                .commit()
                .map_err(|error| Failure::storage(&error, &shared.path))?;
            shared
                .publish(|mirror| written.values().for_each(|record| mirror.put(record)))
                .map_err(|error| Failure::storage(&error, &shared.path))?;
        }
        Ok(outcomes)
    }

    fn sweep(&mut self, older_than_version: i64) -> Result<u64, IndexError> {
        let shared = Arc::clone(&self.shared);
        let swept = (|| {
            self.recover()?;
            let old = shared
                .committed()
                .mirror
                .tombstones_below(older_than_version);
            if old.is_empty() {
                return Ok(0);
            }
            let writer = self.writer()?;
            for id in &old {
                writer.delete_term(shared.fields.id_term(id));
            }
            let failed = |error| Failure::storage(&error, &shared.path);
            writer.commit().map_err(failed)?;
            shared
                .publish(|mirror| old.iter().for_each(|id| mirror.remove(id)))
                .map_err(failed)?;
            Ok(old.len() as u64)
        })();
        swept.map_err(|failure: Failure| {
            self.tantivy = None;
            let source = io::Error::other(failure.obstacle.reason);
            storage_error(&shared.path, "tombstones cannot be removed", source)
        })
    }

    fn writer(&mut self) -> Result<&mut IndexWriter, Failure> {
        self.tantivy.as_mut().ok_or_else(|| Failure {
            halt: false,
            obstacle: obstacle("the index has no writer".to_owned()),
        })
    }

    /// After a failure: a new writer, and the mirror as of the last commit. A commit that failed
    /// late may be on disk nevertheless; reading it again is right in both cases.
    fn recover(&mut self) -> Result<(), Failure> {
        if self.tantivy.is_some() {
            return Ok(());
        }
        let path = &self.shared.path;
        let writer = new_writer(&self.shared).map_err(|error| Failure::storage(&error, path))?;
        remove_leftovers(&writer).map_err(|error| Failure::storage(&error, path))?;
        self.shared.reload().map_err(|error| Failure {
            halt: false,
            obstacle: obstacle(error.to_string()),
        })?;
        self.tantivy = Some(writer);
        info!(path = %path.display(), "the index can be written again");
        Ok(())
    }
}

fn add(writer: &IndexWriter, document: TantivyDocument, folder: &Path) -> Result<(), Failure> {
    let added = writer.add_document(document);
    added
        .map(|_| ())
        .map_err(|error| Failure::storage(&error, folder))
}

/// A tombstone keeps its identity and version alone.
fn stored_form(record: Record) -> Record {
    if !record.deleted {
        return record;
    }
    Record {
        id: record.id,
        doc_id: record.doc_id,
        chunk: record.chunk,
        version: record.version,
        uri: record.uri,
        deleted: true,
        ..Record::default()
    }
}

/// Why a group was not committed.
struct Failure {
    /// Only a person (or freed space) helps.
    halt: bool,
    obstacle: Obstacle,
}

impl Failure {
    fn storage(error: &TantivyError, folder: &Path) -> Self {
        // A worker thread that failed leaves only a text behind: then the disk itself is asked.
        let kind = io_kind(error).or_else(|| probe(folder).err().map(|error| error.kind()));
        let halt = kind.is_some_and(|kind| {
            matches!(
                kind,
                ErrorKind::StorageFull
                    | ErrorKind::QuotaExceeded
                    | ErrorKind::FileTooLarge
                    | ErrorKind::ReadOnlyFilesystem
                    | ErrorKind::PermissionDenied
            )
        });
        let reason = match kind {
            Some(kind) => format!("{kind}: {error}"),
            None => error.to_string(),
        };
        Self {
            halt,
            obstacle: obstacle(reason),
        }
    }

    fn record(error: &serde_json::Error) -> Self {
        Self {
            halt: false,
            obstacle: obstacle(error.to_string()),
        }
    }

    fn outcome(self) -> ItemOutcome {
        if self.halt {
            ItemOutcome::Halt(self.obstacle)
        } else {
            ItemOutcome::Retry(self.obstacle)
        }
    }
}

fn obstacle(reason: String) -> Obstacle {
    Obstacle {
        error_type: "storage".to_owned(),
        reason,
        status: None,
    }
}

fn io_kind(error: &TantivyError) -> Option<ErrorKind> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = match error {
        // tantivy names no source here.
        TantivyError::IoError(error) => Some(&**error),
        other => other.source(),
    };
    while let Some(error) = cause {
        // An `Other` is a wrapper that says nothing; what it wraps may.
        match error.downcast_ref::<io::Error>() {
            Some(io) if io.kind() != ErrorKind::Other => return Some(io.kind()),
            Some(io) => cause = io.get_ref().map(|inner| inner as _),
            None => cause = error.source(),
        }
    }
    None
}

/// Whether the folder takes a file of one segment's order of size.
fn probe(folder: &Path) -> io::Result<()> {
    let path = folder.join("write-probe");
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(&vec![0; 1 << 20])
            .and_then(|()| file.sync_all())
    });
    let removed = fs::remove_file(&path);
    written.and(removed)
}
