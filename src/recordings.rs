//! Recordings of events, played for the commands that judge rankers and train them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use millrace_features::FeatureSet;
use millrace_models::Encoder;
use millrace_trainer::replay::{Outline, Player, Replay, Replayed};
use millrace_trainer::vectors::Vectors;

use crate::config::Config;
use crate::output::Output;
use crate::stack::{model, recommending};

/// Between the last event of one recording and the first of the next.
const GAP_MS: i64 = 1_000;

/// Recordings that were played, one after the other.
pub struct Played {
    /// All their rankings.
    pub replayed: Replayed,
    /// How many of those are of the first file.
    pub of_first: usize,
}

/// Plays files in this order, each shifted after the end of the one before.
///
/// # Errors
/// The encoder is missing, a file can't be read, or the first one has no rankings.
pub async fn play(config: &Config, files: Vec<PathBuf>, output: Output) -> anyhow::Result<Played> {
    let encoder = model::load(config).await?;
    let features = recommending::features(config, encoder.version())?;
    let config = config.clone();
    let playing = move || Playing::new(&config, &encoder, output)?.play(features, &files);
    tokio::task::spawn_blocking(playing)
        .await
        .context("playing the recording was cut off")?
}

struct Playing<'a> {
    config: &'a Config,
    encoder: &'a Arc<Encoder>,
    vectors: Vectors,
    output: Output,
}

impl<'a> Playing<'a> {
    fn new(config: &'a Config, encoder: &'a Arc<Encoder>, output: Output) -> anyhow::Result<Self> {
        let folder = millrace_downloads::cache_folder("MILLRACE_VECTORS", "vectors").context(
            "no folder to keep vectors in: set MILLRACE_VECTORS to one (XDG_CACHE_HOME and HOME are unset too)",
        )?;
        Ok(Self {
            vectors: Vectors::open(&folder, encoder)?,
            config,
            encoder,
            output,
        })
    }

    fn play(mut self, features: FeatureSet, files: &[PathBuf]) -> anyhow::Result<Played> {
        let outlines: Vec<Outline> = files
            .iter()
            .map(|file| self.outline(file))
            .collect::<anyhow::Result<_>>()?;
        let mut replay = Replay::new(&self.config.joiner, features, self.encoder.version())?;
        let player = Player {
            behavior: &self.config.behavior,
            encoder: self.encoder,
            vectors: &self.vectors,
            key_phrases: self.config.vectorizer.key_phrases,
        };
        let (mut of_first, mut end_ms) = (None, None);
        for (file, outline) in files.iter().zip(outlines) {
            if outline.request_ids.is_empty() {
                bail!(
                    "{} tells of no ranking; expected Metarank's events, one JSON object a line, with \
                     \"event\": \"ranking\" among them",
                    file.display()
                );
            }
            let shift_ms = outline.times_ms.map_or(0, |(first_ms, last_ms)| {
                let shift_ms = end_ms.map_or(0, |end_ms: i64| end_ms + GAP_MS - first_ms);
                end_ms = Some(last_ms + shift_ms);
                shift_ms
            });
            replay.announce(outline.request_ids);
            let bar = self.output.byte_progress(None).with_message("replaying");
            player.play(file, shift_ms, &mut replay, &mut |read, total| {
                show(&bar, read, total);
            })?;
            bar.finish_and_clear();
            of_first.get_or_insert(replay.rankings());
        }
        Ok(Played {
            replayed: replay.finish(),
            of_first: of_first.unwrap_or_default(),
        })
    }

    /// Looks at a file, and encodes what of it is not encoded yet.
    fn outline(&mut self, file: &Path) -> anyhow::Result<Outline> {
        let bar = self.output.byte_progress(None).with_message("reading");
        let outline = Outline::read(
            file,
            &self.config.behavior,
            self.encoder,
            &mut |read, total| {
                show(&bar, read, total);
            },
        )?;
        bar.finish_and_clear();
        let bar = self.output.progress(None, "texts encoded");
        self.vectors
            .add(self.encoder, &outline.texts, &mut |done, total| {
                show(&bar, done, total);
            })?;
        bar.finish_and_clear();
        Ok(outline)
    }
}

fn show(bar: &ProgressBar, done: u64, total: u64) {
    bar.set_length(total);
    bar.set_position(done);
}
