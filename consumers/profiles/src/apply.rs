//! What feedback does to the profiles of one partition, without any input or output.
//!
//! A batch of records and what the state holds of their keys go in; changes of the state come out.
//! Nothing here reads a clock or waits, so a test can play any interleaving.
//!
//! An origin is applied once. Origins are remembered as bits, a chunk of offsets in one value: what
//! comes together lies together, so a batch reads and writes a few of them, and a week of them is
//! small. They are remembered in the time of the *records*, not of the events: a repetition comes from
//! a joiner that reads `behavior.by-item` again, so no later than that topic keeps its records, while
//! an event itself may be of any age.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use millrace_features::{FeedbackPosition, Profile, ProfileSettings};
use millrace_schemas::Feedback;
use millrace_state::{Cache, Change, Table};
use millrace_stateful::{BrokenValue, read, write};

use crate::values::{
    ChunkKey, FORGETTING, PROFILES, PROGRESS, Progress, SEEN, SeenChunk, chunk_key, hour,
    read_profile,
};

/// How feedback is applied.
#[derive(Clone, Debug)]
pub(crate) struct Applies {
    pub settings: ProfileSettings,
    /// Of the vectors that profiles are to be made of.
    pub model_version: String,
    pub deduplication_hours: i64,
    pub cached_users: usize,
}

/// A record of `feedback` that can be read.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    /// When it was written, ms since 1970; not ahead of this machine's clock.
    pub written_ms: i64,
    /// Where a profile stands after it.
    pub position: FeedbackPosition,
    pub feedback: Feedback,
}

/// What one batch did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    pub applied: u64,
    pub duplicates: u64,
}

/// What a batch comes to.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub changes: Vec<Change>,
    pub done: Done,
}

/// One partition's profiles. Made from the state, and thrown away where a write fails.
pub(crate) struct Applying {
    applies: Applies,
    progress: Progress,
    profiles: Cache<Option<Profile>>,
    /// The batch's own, from here on.
    seen: HashMap<ChunkKey, SeenChunk>,
    changed_users: BTreeSet<String>,
    changed_chunks: BTreeSet<ChunkKey>,
    /// Chunks to look at again, each with its hour.
    forget: BTreeSet<(i64, ChunkKey)>,
    step: Step,
}

impl Applying {
    /// From the value of [`PROGRESS`].
    pub fn open(applies: Applies, progress: Option<&[u8]>) -> Result<Self, BrokenValue> {
        let progress = progress.map(|value| read(PROGRESS, value)).transpose()?;
        Ok(Self {
            progress: progress.unwrap_or_default(),
            profiles: Cache::new(applies.cached_users),
            applies,
            seen: HashMap::new(),
            changed_users: BTreeSet::new(),
            changed_chunks: BTreeSet::new(),
            forget: BTreeSet::new(),
            step: Step::default(),
        })
    }

    /// The keys whose values [`Applying::load`] must be given before [`Applying::apply`].
    pub fn wanted(&mut self, batch: &[Input]) -> Vec<(Table, Vec<u8>)> {
        let mut keys = BTreeSet::new();
        for Input { feedback, .. } in batch {
            let user_id = &feedback.event.user_id;
            if !self.profiles.touch(user_id) {
                keys.insert((PROFILES, user_id.clone().into_bytes()));
            }
            keys.insert((SEEN, chunk_key(&feedback.origin).to_vec()));
        }
        keys.into_iter().collect()
    }

    /// Takes the values of wanted keys.
    pub fn load(
        &mut self,
        keys: Vec<(Table, Vec<u8>)>,
        values: Vec<Option<Bytes>>,
    ) -> Result<(), BrokenValue> {
        for ((table, key), value) in keys.into_iter().zip(values) {
            match table {
                PROFILES => {
                    let profile = value.map(|value| read_profile(&value)).transpose()?;
                    let user_id = String::from_utf8_lossy(&key).into_owned();
                    self.profiles.insert(user_id, profile);
                }
                _ => {
                    let chunk = value.map(|value| read(table, &value)).transpose()?;
                    if let Ok(key) = key.as_slice().try_into() {
                        self.seen.insert(key, chunk.unwrap_or_default());
                    }
                }
            }
        }
        Ok(())
    }

    /// The users whose profile is of another model than the vectors which the batch adds to it.
    pub fn of_another_space(&self, batch: &[Input]) -> BTreeSet<String> {
        let model_version = &self.applies.model_version;
        let events = batch.iter().map(|input| &input.feedback);
        let of_model = events.filter(|feedback| feedback.item.model_version == *model_version);
        let users = of_model.map(|feedback| &feedback.event.user_id);
        let another = users.filter(|user_id| {
            let profile = self.profile(user_id);
            profile.is_some_and(|profile| profile.model_version() != model_version)
        });
        another.cloned().collect()
    }

    /// The profile of a user of the batch, as loaded.
    pub fn profile(&self, user_id: &str) -> Option<&Profile> {
        self.profiles.get(user_id)?.as_ref()
    }

    /// Has another profile of a user of the batch in its place.
    pub fn replace(&mut self, user_id: String, profile: Profile) {
        self.profiles.insert(user_id, Some(profile));
    }

    /// Applies a batch whose values were loaded.
    pub fn apply(&mut self, batch: Vec<Input>) {
        for input in batch {
            self.apply_one(input);
        }
    }

    fn apply_one(&mut self, input: Input) {
        let Input {
            written_ms,
            position,
            feedback,
        } = input;
        let newest_ms = self.progress.newest_ms.max(Some(written_ms));
        self.progress.newest_ms = newest_ms;
        let key = chunk_key(&feedback.origin);
        let Some(chunk) = self.seen.get_mut(&key) else {
            unreachable!("the chunk of {} was wanted and loaded", feedback.origin)
        };
        if !chunk.insert(&feedback.origin) {
            self.step.done.duplicates += 1;
            return;
        }
        self.changed_chunks.insert(key);
        let forget_hour =
            hour(newest_ms.unwrap_or(written_ms)) + self.applies.deduplication_hours + 1;
        if chunk.forget_hour < forget_hour {
            chunk.forget_hour = forget_hour;
            self.forget.insert((forget_hour, key));
            self.progress.forget_hours.insert(forget_hour);
        }
        let user_id = &feedback.event.user_id;
        let Some(profile) = self.profiles.get_mut(user_id) else {
            unreachable!("the profile of {user_id} was wanted and loaded")
        };
        let profile =
            profile.get_or_insert_with(|| Profile::new(user_id, &self.applies.model_version));
        profile.apply(&feedback, &self.applies.settings);
        profile.stand_at(position);
        self.changed_users.insert(feedback.event.user_id);
        self.step.done.applied += 1;
    }

    /// The first hour whose chunks are to be looked at now.
    pub fn hour_to_forget(&self) -> Option<i64> {
        let now = hour(self.progress.newest_ms?);
        let first = self.progress.forget_hours.first().copied();
        first.filter(|&hour| hour <= now)
    }

    /// Whether the batch has the value of this chunk already, which may be newer than the state's.
    pub fn knows(&self, chunk: &[u8]) -> bool {
        let key = ChunkKey::try_from(chunk);
        key.is_ok_and(|key| self.seen.contains_key(&key))
    }

    /// Forgets loaded chunks, those to which nothing was added since; the hour itself where they
    /// were all it had.
    pub fn forget(&mut self, hour: i64, chunks: Vec<Vec<u8>>, all: bool) {
        for chunk in chunks {
            let key = ChunkKey::try_from(chunk.as_slice()).unwrap_or_default();
            if self
                .seen
                .get(&key)
                .is_some_and(|seen| seen.forget_hour <= hour)
            {
                self.seen.remove(&key);
                self.change(SEEN, chunk.clone(), None);
            }
            self.change(FORGETTING.part(hour), chunk, None);
        }
        if all {
            self.progress.forget_hours.remove(&hour);
        }
    }

    /// Ends the batch: what to write.
    pub fn finish(&mut self) -> Step {
        for user_id in std::mem::take(&mut self.changed_users) {
            let value = self.profile(&user_id).map(Profile::to_bytes);
            self.change(PROFILES, user_id.into_bytes(), value);
        }
        for key in std::mem::take(&mut self.changed_chunks) {
            let value = self.seen.get(&key).map(write);
            self.change(SEEN, key.to_vec(), value);
        }
        for (hour, key) in std::mem::take(&mut self.forget) {
            self.change(FORGETTING.part(hour), key.to_vec(), Some(Vec::new()));
        }
        let progress = write(&self.progress);
        self.change(PROGRESS, Vec::new(), Some(progress));
        self.seen.clear();
        self.profiles.age();
        std::mem::take(&mut self.step)
    }

    fn change(&mut self, table: Table, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.step.changes.push(Change { table, key, value });
    }
}
