//! The first look at a recording: what must be known of it before it can be played.

use std::path::Path;

use millrace_models::Encoder;
use millrace_producers::behavior::BehaviorConfig;
use millrace_producers::recording::{Recorded, Recording};
use millrace_vectorizer::Passage;

use super::{ReplayError, ranking_of};

/// What a recording holds.
#[derive(Debug, Default)]
pub struct Outline {
    /// Token ids of the items' texts, as the encoder reads them.
    pub texts: Vec<Vec<u32>>,
    /// Request ids of its rankings.
    pub request_ids: Vec<String>,
    /// The first event's time and the last one's, ms since 1970; none where there is none.
    pub times_ms: Option<(i64, i64)>,
    /// Lines that could not be read.
    pub unreadable: u64,
}

impl Outline {
    /// Reads a whole recording, telling `progress` the bytes read and the file's. Blocking.
    ///
    /// # Errors
    /// The file cannot be read to its end. A line that cannot be read is counted and told to the log.
    pub fn read(
        path: &Path,
        behavior: &BehaviorConfig,
        encoder: &Encoder,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, ReplayError> {
        let mut recording = Recording::open(path, behavior, 0)?;
        let read = recording.progress();
        let mut outline = Self::default();
        while let Some((number, line)) = recording.next_line()? {
            match line {
                // Key phrases are of no account to the encoder.
                Ok(Recorded::Item(notice)) => {
                    let passage = Passage::read(&notice, encoder, 0)?;
                    outline.texts.push(passage.token_ids().to_vec());
                }
                Ok(Recorded::Behavior(events)) => {
                    for event in &events {
                        let time = event.event_time_ms;
                        let (first, last) = outline.times_ms.unwrap_or((time, time));
                        outline.times_ms = Some((first.min(time), last.max(time)));
                    }
                    let ranking = ranking_of(&events);
                    outline
                        .request_ids
                        .extend(ranking.map(|ranking| ranking.request_id));
                }
                Ok(Recorded::PassedOver(_)) => {}
                Err(error) => {
                    outline.unreadable += 1;
                    tracing::warn!(
                        file = %path.display(),
                        line = number,
                        error = &error as &dyn std::error::Error,
                        "a line is left out"
                    );
                }
            }
            progress(read.read_bytes(), read.total_bytes);
        }
        Ok(outline)
    }
}
