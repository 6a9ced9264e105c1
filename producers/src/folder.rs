//! A watched folder: what is created, changed or removed below it becomes notices.
//!
//! A file is noticed once it has been quiet for a while, so that a slow copy is one notice and not
//! a hundred. The event time is the time of observation. What is watched is what
//! [`ObjectStores::list`] lists: nothing hidden, no links to folders. Corpora become a notice a line
//! (see [`crate::corpus`]).
//!
//! Changes may be announced in any number and order, or lost when the system's queue overflows: an
//! announcement only says where to look. What is there then is compared with what was published
//! last (path and tag of every file, in memory), and an overflow makes it look everywhere.
//!
//! Not seen here: what happened while nobody watched, and lines that vanish from a corpus or vanish
//! with it. The reconciler finds both: `up` compares a folder with the index once it is watched,
//! and tells the watch what it has seen ([`FolderWatch::adopt`]).

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt, TryStreamExt};
use millrace_kafka::ProduceError;
use millrace_objects::{ObjectStores, ObjectUri, ReadError, UriError};
use millrace_retry::error_chain;
use millrace_schemas::{DocumentEvent, DocumentNotice, Layout};
use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::listing::{self, Listed};
use crate::publish::{Noticed, Published, Publisher};

/// More places to look at than this, and looking everywhere is less work.
const MAX_PLACES: usize = 100_000;
/// After the brokers failed, or a folder could not be listed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How a folder is watched.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FolderConfig {
    /// A file is noticed when nothing has happened to it for this long, in milliseconds;
    /// default 500.
    pub quiet_ms: u64,
    /// Whether all files are noticed at the start; default true. Without, see
    /// [`FolderWatch::adopt`].
    pub initial_listing: bool,
}

impl Default for FolderConfig {
    fn default() -> Self {
        Self {
            quiet_ms: 500,
            initial_listing: true,
        }
    }
}

/// Why a folder cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The path names no folder.
    #[error("the folder to watch cannot be named")]
    Name(#[source] UriError),
    /// It is outside the allow-list, or not there.
    #[error("the folder to watch cannot be read")]
    Read(#[source] ReadError),
    /// The system refuses; on Linux often the limit `fs.inotify.max_user_watches`.
    #[error("the folder {} cannot be watched", path.display())]
    Watch {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: notify::Error,
    },
}

/// What a watch has published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FolderCounts {
    /// Documents created or changed.
    pub created: u64,
    /// Documents removed.
    pub removed: u64,
    /// Lines of corpora that went to the dead-letter topic.
    pub rejected: u64,
}

/// Where to look.
#[derive(Default)]
struct Places {
    /// The last announcement for each path.
    announced: HashMap<PathBuf, Instant>,
    everywhere: bool,
}

#[derive(Default)]
struct Announcements {
    places: Mutex<Places>,
    arrived: tokio::sync::Notify,
}

/// What was published of a file.
struct Known {
    /// `None`: not known to be published.
    tag: Option<String>,
    /// The look in which it was last there.
    look: u64,
}

/// A watch on a folder and everything below it.
pub struct FolderWatch {
    root: PathBuf,
    stores: ObjectStores,
    publisher: Publisher,
    quiet: Duration,
    announcements: Arc<Announcements>,
    known: BTreeMap<PathBuf, Known>,
    looks: u64,
    counts: FolderCounts,
    _watcher: RecommendedWatcher,
}

impl FolderWatch {
    /// Begins to watch; what happens from here on is not missed, though it is published only by
    /// [`FolderWatch::run`].
    ///
    /// # Errors
    /// The folder is not there, not allowed, or cannot be watched.
    pub fn open(
        folder: &Path,
        stores: ObjectStores,
        publisher: Publisher,
        config: &FolderConfig,
    ) -> Result<Self, FolderError> {
        let uri = ObjectUri::file(folder).map_err(FolderError::Name)?;
        stores
            .allow_list()
            .permits(&uri)
            .map_err(FolderError::Read)?;
        let root = uri.path().map(Path::to_owned).unwrap_or_default();
        let announcements = Arc::new(Announcements::default());
        let heard = announcements.clone();
        let failed = |source| FolderError::Watch {
            path: root.clone(),
            source,
        };
        let mut watcher =
            notify::recommended_watcher(move |event| heard.hear(event)).map_err(failed)?;
        watcher
            .watch(&root, RecursiveMode::Recursive)
            .map_err(failed)?;
        if config.initial_listing {
            announcements.look_everywhere();
        }
        Ok(Self {
            root,
            stores,
            publisher,
            quiet: Duration::from_millis(config.quiet_ms),
            announcements,
            known: BTreeMap::new(),
            looks: 0,
            counts: FolderCounts::default(),
            _watcher: watcher,
        })
    }

    /// Takes `path` as published with `tag`: it is told again only once it differs, or is gone. For
    /// what somebody else compared, after the watch was opened.
    pub fn adopt(&mut self, path: PathBuf, tag: Option<String>) {
        self.known.insert(path, Known { tag, look: 0 });
    }

    /// Publishes what happens until cancelled. While the brokers are away it keeps trying, and
    /// publishes the state in which the files are then.
    pub async fn run(mut self, cancelled: CancellationToken) -> FolderCounts {
        loop {
            let wait = async {
                match self.announcements.next_due(self.quiet) {
                    Some(due) => tokio::select! {
                        () = tokio::time::sleep_until(due.into()) => {}
                        () = self.announcements.arrived.notified() => {}
                    },
                    None => self.announcements.arrived.notified().await,
                }
            };
            tokio::select! {
                () = cancelled.cancelled() => return self.counts,
                () = wait => {}
            }
            for place in self.announcements.take_due(self.quiet, &self.root) {
                let look = tokio::select! {
                    () = cancelled.cancelled() => return self.counts,
                    look = self.look_at(&place) => look,
                };
                if let Err(reason) = look {
                    tracing::warn!(path = %place.display(), reason, "will look again");
                    // A retry is due `quiet` after the announcement.
                    let again = Instant::now() + RETRY_AFTER.saturating_sub(self.quiet);
                    self.announcements.lock().announced.insert(place, again);
                }
            }
        }
    }

    /// Publishes the difference between what is at or below `place` and what was published of it.
    async fn look_at(&mut self, place: &Path) -> Result<(), String> {
        self.looks += 1;
        let look = self.looks;
        let uri = ObjectUri::file(place).map_err(|error| error.to_string())?;
        // A root that is gone with its file system is no removal; `list` tells them apart.
        let mut incomplete = None;
        let (stores, publisher) = (self.stores.clone(), self.publisher.clone());
        let known = &mut self.known;
        let reader = stores.clone();
        let noticed = stores
            .list(&uri)
            .filter_map(|entry| {
                let changed = match entry {
                    Ok(entry) => {
                        let path = entry.uri.path().map(Path::to_owned).unwrap_or_default();
                        let before = known.insert(
                            path,
                            Known {
                                tag: entry.meta.etag.clone(),
                                look,
                            },
                        );
                        let same =
                            before.is_some_and(|b| b.tag.is_some() && b.tag == entry.meta.etag);
                        (!same).then_some(entry)
                    }
                    Err(error) => {
                        // The place itself is not there: all that was below is gone.
                        if !matches!(error.source, ReadError::NotFound) {
                            incomplete = Some(error_chain(&error));
                        }
                        None
                    }
                };
                std::future::ready(changed)
            })
            .flat_map(move |entry| listing::objects(reader.clone(), entry, "folder"))
            .filter_map(|listed| {
                std::future::ready(match listed {
                    Ok(Listed::Noticed(noticed)) => Some(noticed),
                    Ok(Listed::Corpus(_) | Listed::CorpusEnd(_)) => None,
                    Err(error) => {
                        tracing::warn!(error = %error_chain(&error), "left out");
                        None
                    }
                })
            });
        let counts = &mut self.counts;
        let published = publisher
            .publish_all(noticed)
            .try_for_each(|published| {
                match published {
                    Published::Document(_) => counts.created += 1,
                    Published::Rejected(_) => counts.rejected += 1,
                }
                std::future::ready(Ok(()))
            })
            .await;
        if let Err(error) = published {
            self.forget(place, look);
            return Err(error_chain(&error));
        }
        if let Some(reason) = incomplete {
            return Err(reason);
        }
        self.remove_vanished(place, look)
            .await
            .map_err(|error| error_chain(&error))
    }

    /// What was seen in this look may not have been published.
    fn forget(&mut self, place: &Path, look: u64) {
        let below = self.known.range_mut(place.to_owned()..);
        for (_, known) in below.take_while(|(path, _)| path.starts_with(place)) {
            if known.look == look {
                known.tag = None;
            }
        }
    }

    async fn remove_vanished(&mut self, place: &Path, look: u64) -> Result<(), ProduceError> {
        let below = self.known.range(place.to_owned()..);
        let vanished: Vec<PathBuf> = below
            .take_while(|(path, _)| path.starts_with(place))
            .filter(|(_, known)| known.look != look)
            .map(|(path, _)| path.clone())
            .collect();
        let now_ms = crate::now_ms();
        let notices: Vec<Noticed> = vanished
            .iter()
            .filter_map(|path| removal(path, now_ms))
            .collect();
        let publisher = self.publisher.clone();
        let mut removals = std::pin::pin!(publisher.publish_all(stream::iter(notices)));
        while removals.try_next().await?.is_some() {
            self.counts.removed += 1;
        }
        for path in &vanished {
            self.known.remove(path);
        }
        Ok(())
    }
}

fn removal(path: &Path, now_ms: i64) -> Option<Noticed> {
    let uri = ObjectUri::file(path).ok()?;
    Some(Noticed::Document(Box::new(DocumentNotice {
        uri: uri.to_string(),
        event: DocumentEvent::Removed,
        event_time_ms: now_ms,
        etag: None,
        size_bytes: None,
        media_type: None,
        content: None,
        title: None,
        layout: Layout::Document,
        metadata: BTreeMap::new(),
        min_version: None,
        source: "folder".to_owned(),
    })))
}

impl Announcements {
    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_everywhere(&self) {
        let mut places = self.lock();
        places.announced.clear();
        places.everywhere = true;
        drop(places);
        self.arrived.notify_one();
    }

    /// Called on the watcher's thread; keeps at most [`MAX_PLACES`] paths.
    fn hear(&self, event: notify::Result<notify::Event>) {
        let event = match event {
            Ok(event) if !event.need_rescan() => event,
            Ok(_) => return self.look_everywhere(),
            Err(error) => {
                tracing::warn!(%error, "the watch may have missed something");
                return self.look_everywhere();
            }
        };
        let changes = match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
            EventKind::Access(_) => false,
            EventKind::Any
            | EventKind::Create(_)
            | EventKind::Modify(_)
            | EventKind::Remove(_)
            | EventKind::Other => true,
        };
        if !changes {
            return;
        }
        let mut places = self.lock();
        if places.everywhere || places.announced.len() + event.paths.len() > MAX_PLACES {
            drop(places);
            return self.look_everywhere();
        }
        let now = Instant::now();
        places
            .announced
            .extend(event.paths.into_iter().map(|path| (path, now)));
        drop(places);
        self.arrived.notify_one();
    }

    fn next_due(&self, quiet: Duration) -> Option<Instant> {
        let places = self.lock();
        if places.everywhere {
            return Some(Instant::now());
        }
        places
            .announced
            .values()
            .min()
            .map(|announced| *announced + quiet)
    }

    /// Takes the places where it has been quiet; without what is hidden.
    fn take_due(&self, quiet: Duration, root: &Path) -> Vec<PathBuf> {
        let mut places = self.lock();
        if std::mem::take(&mut places.everywhere) {
            places.announced.clear();
            return vec![root.to_owned()];
        }
        let now = Instant::now();
        let mut due = vec![];
        places.announced.retain(|path, announced| {
            let is_due = *announced + quiet <= now;
            if is_due && is_visible(path, root) {
                due.push(path.clone());
            }
            !is_due
        });
        due.sort_unstable();
        due
    }
}

fn is_visible(path: &Path, root: &Path) -> bool {
    path.strip_prefix(root).is_ok_and(|below| {
        below
            .iter()
            .all(|name| !name.as_encoded_bytes().starts_with(b"."))
    })
}
