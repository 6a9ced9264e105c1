//! A recording's lines, played.

use std::path::Path;

use millrace_models::Encoder;
use millrace_producers::behavior::BehaviorConfig;
use millrace_producers::recording::{Recorded, Recording};
use millrace_schemas::Origin;
use millrace_vectorizer::Passage;

use super::{Replay, ReplayError};
use crate::vectors::Vectors;

/// What recordings are read with.
#[derive(Clone, Copy)]
pub struct Player<'a> {
    /// How behavior is read.
    pub behavior: &'a BehaviorConfig,
    /// Whose tokenizer cuts the texts.
    pub encoder: &'a Encoder,
    /// The vectors of all texts ([`Outline::texts`](super::Outline::texts)).
    pub vectors: &'a Vectors,
    /// Key phrases of a signal.
    pub key_phrases: usize,
}

impl Player<'_> {
    /// Plays a recording whose outline was read, its times moved by `shift_ms`, telling `progress`
    /// the bytes read and the file's. Blocking.
    ///
    /// # Errors
    /// The file cannot be read to its end, or has a text that was not there at the first look.
    pub fn play(
        &self,
        path: &Path,
        shift_ms: i64,
        replay: &mut Replay,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), ReplayError> {
        let mut recording = Recording::open(path, self.behavior, shift_ms)?;
        let read = recording.progress();
        let before = replay.lines();
        while let Some((number, line)) = recording.next_line()? {
            match line {
                Ok(Recorded::Item(notice)) => {
                    let passage = Passage::read(&notice, self.encoder, self.key_phrases)?;
                    let vector = self.vectors.get(passage.token_ids());
                    let Some(vector) = vector.map(<[f32]>::to_vec) else {
                        return Err(ReplayError::Changed {
                            path: path.to_owned(),
                            line: number,
                        });
                    };
                    let origin = Origin {
                        topic: "recording".to_owned(),
                        partition: 0,
                        offset: i64::try_from(number).unwrap_or(i64::MAX),
                    };
                    let version = replay.next_document_version();
                    let model = self.encoder.version();
                    let signal = passage.signal(version, model, vector, origin);
                    replay.item(before + number, signal);
                }
                Ok(Recorded::Behavior(events)) => replay.behavior(before + number, events)?,
                Ok(Recorded::PassedOver(_)) => {}
                // The outline has told which.
                Err(_) => replay.unreadable(),
            }
            replay.read_to(before + number);
            progress(read.read_bytes(), read.total_bytes);
        }
        Ok(())
    }
}
