//! The state in a folder: fjall, a log-structured store whose batches are atomic.
//!
//! One keyspace holds everything; a key is `generation | partition | kind | table | key`, big endian.
//! The folder is one consumer's, and locked: one process has it.
//!
//! Durability: a commit is in the operating system's hands when it returns, so it outlives the
//! process. It is not synced to the disk: after a loss of power the state is as it was some commits
//! ago, whole and with the offsets of that moment, and the records since are read again. Outputs
//! repeat with the same origins then, as after any crash.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::{Change, Claim, FIRST_GENERATION, Position, Shard, StateError, StateStore, Table};

/// Of keys and values; another one is refused.
const FORMAT: u32 = 2;
// Kinds of keys.
const META: u8 = 0;
const CLAIM: u8 = 1;
const VALUE: u8 = 2;
/// Keys removed at a time when a generation is dropped.
const REMOVED_AT_ONCE: usize = 10_000;

/// The state in a folder of this machine.
#[derive(Clone)]
pub struct EmbeddedState {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    database: Database,
    keyspace: Keyspace,
    /// fjall's batches do not compare before they write.
    writing: Mutex<()>,
}

impl EmbeddedState {
    /// Opens the folder, or makes it.
    ///
    /// # Errors
    /// Another process has it, it cannot be read, or another version wrote it.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let unusable = |reason: &str, source: Option<fjall::Error>| StateError::Unusable {
            location: path.display().to_string(),
            reason: reason.to_owned(),
            source: source.map(Into::into),
        };
        let broken = |error: fjall::Error| match error {
            fjall::Error::Locked => unusable("another process has it; stop that one", None),
            error => unusable("it cannot be opened", Some(error)),
        };
        std::fs::create_dir_all(path).map_err(|error| broken(fjall::Error::Io(error)))?;
        let database = Database::builder(path).open().map_err(broken)?;
        let keyspace = database
            .keyspace("state", KeyspaceCreateOptions::default)
            .map_err(broken)?;
        let state = Self {
            inner: Arc::new(Inner {
                path: path.to_owned(),
                database,
                keyspace,
                writing: Mutex::default(),
            }),
        };
        let key = meta_key("format");
        match state.inner.keyspace.get(&key).map_err(broken)? {
            None => state
                .inner
                .keyspace
                .insert(key, FORMAT.to_be_bytes())
                .map_err(broken)?,
            Some(format) if format.as_ref() == FORMAT.to_be_bytes() => {}
            Some(_) => {
                return Err(unusable(
                    "another version of millrace wrote it; remove it, and it is rebuilt from the topics",
                    None,
                ));
            }
        }
        Ok(state)
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, StateError> {
        let inner = Arc::clone(&self.inner);
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(done) => done,
            Err(error) => Err(StateError::Unavailable(error.into())),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = self.database.persist(PersistMode::SyncAll) {
            tracing::warn!(path = %self.path.display(), %error, "the state could not be synced to the disk");
        }
    }
}

impl Inner {
    fn failed(&self, error: fjall::Error) -> StateError {
        StateError::Unusable {
            location: self.path.display().to_string(),
            reason: "reading or writing failed; see the disk, then restart".to_owned(),
            source: Some(error.into()),
        }
    }

    fn live(&self) -> Result<u32, StateError> {
        let value = self
            .keyspace
            .get(meta_key("live"))
            .map_err(|error| self.failed(error))?;
        let number =
            value.and_then(|value| Some(u32::from_be_bytes(value.as_ref().try_into().ok()?)));
        Ok(number.unwrap_or(FIRST_GENERATION))
    }

    fn refuse_superseded(&self, shard: Shard) -> Result<(), StateError> {
        let live = self.live()?;
        if shard.generation < live {
            return Err(StateError::Superseded {
                generation: shard.generation,
                live,
            });
        }
        Ok(())
    }

    fn claimed(&self, shard: Shard) -> Result<Option<Claim>, StateError> {
        let value = self
            .keyspace
            .get(claim_key(shard))
            .map_err(|error| self.failed(error))?;
        value
            .map(|value| {
                postcard::from_bytes(&value).map_err(|error| StateError::Unusable {
                    location: self.path.display().to_string(),
                    reason: format!("the position of {shard} cannot be read"),
                    source: Some(error.into()),
                })
            })
            .transpose()
    }

    fn write_claim(
        &self,
        shard: Shard,
        claim: &Claim,
        changes: Vec<Change>,
    ) -> Result<(), StateError> {
        let mut batch = self.database.batch();
        for change in changes {
            let key = data_key(shard, change.table, &change.key);
            match change.value {
                Some(value) => batch.insert(&self.keyspace, key, value),
                None => batch.remove(&self.keyspace, key),
            }
        }
        let value = postcard::to_stdvec(claim).unwrap_or_else(|_| {
            unreachable!("texts and integers are always encodable, and memory grows as needed")
        });
        batch.insert(&self.keyspace, claim_key(shard), value);
        batch
            .durability(Some(PersistMode::Buffer))
            .commit()
            .map_err(|error| self.failed(error))
    }
}

fn meta_key(name: &str) -> Vec<u8> {
    let mut key = 0_u32.to_be_bytes().to_vec();
    key.push(META);
    key.extend_from_slice(name.as_bytes());
    key
}

fn shard_key(shard: Shard) -> Vec<u8> {
    let mut key = shard.generation.to_be_bytes().to_vec();
    key.extend_from_slice(&shard.partition.to_be_bytes());
    key
}

fn claim_key(shard: Shard) -> Vec<u8> {
    let mut key = shard_key(shard);
    key.push(CLAIM);
    key
}

fn table_key(shard: Shard, table: Table) -> Vec<u8> {
    let mut key = shard_key(shard);
    key.push(VALUE);
    key.extend_from_slice(&table.prefix());
    key
}

fn data_key(shard: Shard, table: Table, key: &[u8]) -> Vec<u8> {
    let mut data_key = table_key(shard, table);
    data_key.extend_from_slice(key);
    data_key
}

#[async_trait]
impl StateStore for EmbeddedState {
    async fn live_generation(&self) -> Result<u32, StateError> {
        self.run(Inner::live).await
    }

    async fn switch(&self, live: u32, next: u32) -> Result<(), StateError> {
        self.run(move |inner| {
            let _one = inner.writing.lock().unwrap_or_else(PoisonError::into_inner);
            let found = inner.live()?;
            if found != live {
                return Err(StateError::Superseded {
                    generation: live,
                    live: found,
                });
            }
            inner
                .keyspace
                .insert(meta_key("live"), next.to_be_bytes())
                .and_then(|()| inner.database.persist(PersistMode::SyncAll))
                .map_err(|error| inner.failed(error))
        })
        .await
    }

    async fn claim(&self, shard: Shard) -> Result<Claim, StateError> {
        self.run(move |inner| {
            let _one = inner.writing.lock().unwrap_or_else(PoisonError::into_inner);
            inner.refuse_superseded(shard)?;
            let mut claim = inner.claimed(shard)?.unwrap_or_default();
            claim.epoch += 1;
            inner.write_claim(shard, &claim, Vec::new())?;
            Ok(claim)
        })
        .await
    }

    async fn position(&self, shard: Shard) -> Result<Position, StateError> {
        self.run(move |inner| Ok(inner.claimed(shard)?.unwrap_or_default().position))
            .await
    }

    async fn get(
        &self,
        shard: Shard,
        keys: Vec<(Table, Vec<u8>)>,
    ) -> Result<Vec<Option<Bytes>>, StateError> {
        self.run(move |inner| {
            let read = |(table, key): (Table, Vec<u8>)| {
                let value = inner.keyspace.get(data_key(shard, table, &key));
                let value = value.map_err(|error| inner.failed(error))?;
                Ok(value.map(|value| Bytes::copy_from_slice(&value)))
            };
            keys.into_iter().map(read).collect()
        })
        .await
    }

    async fn scan(
        &self,
        shard: Shard,
        table: Table,
        enough: usize,
    ) -> Result<Vec<(Vec<u8>, Bytes)>, StateError> {
        self.run(move |inner| {
            let prefix = table_key(shard, table);
            let mut found = Vec::new();
            for entry in inner.keyspace.prefix(&prefix).take(enough) {
                let (key, value) = entry.into_inner().map_err(|error| inner.failed(error))?;
                found.push((key[prefix.len()..].to_vec(), Bytes::copy_from_slice(&value)));
            }
            Ok(found)
        })
        .await
    }

    async fn commit(
        &self,
        shard: Shard,
        claim: &Claim,
        next: &Position,
        changes: Vec<Change>,
    ) -> Result<(), StateError> {
        let expected = claim.clone();
        let next = Claim {
            epoch: claim.epoch,
            position: next.clone(),
        };
        self.run(move |inner| {
            let _one = inner.writing.lock().unwrap_or_else(PoisonError::into_inner);
            inner.refuse_superseded(shard)?;
            let found = inner.claimed(shard)?.unwrap_or_default();
            if found != expected {
                return Err(StateError::Refused {
                    shard,
                    epoch: found.epoch,
                    position: found.position,
                });
            }
            inner.write_claim(shard, &next, changes)
        })
        .await
    }

    async fn drop_generation(&self, generation: u32) -> Result<(), StateError> {
        self.run(move |inner| {
            let _one = inner.writing.lock().unwrap_or_else(PoisonError::into_inner);
            let live = inner.live()?;
            if generation == live {
                return Err(StateError::Unusable {
                    location: inner.path.display().to_string(),
                    reason: format!("generation {generation} is live and is not dropped"),
                    source: None,
                });
            }
            loop {
                let mut batch = inner.database.batch();
                for entry in inner
                    .keyspace
                    .prefix(generation.to_be_bytes())
                    .take(REMOVED_AT_ONCE)
                {
                    let (key, _) = entry.into_inner().map_err(|error| inner.failed(error))?;
                    batch.remove(&inner.keyspace, key);
                }
                if batch.is_empty() {
                    return Ok(());
                }
                batch.commit().map_err(|error| inner.failed(error))?;
            }
        })
        .await
    }
}
