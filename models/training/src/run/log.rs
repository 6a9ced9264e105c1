//! The run's log: a line a step, kept over restarts, and the curve that is drawn from it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::durable;
use crate::error::TrainingError;
use crate::plot::LossCurve;

const LOG: &str = "log.jsonl";
const PLOT: &str = "loss.svg";

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(super) enum Line {
    Step {
        /// From 1.
        step: usize,
        loss: f32,
        learning_rate: f64,
        tokens: usize,
        seconds: f64,
    },
    Dev {
        /// Steps taken before.
        step: usize,
        dev_loss: f32,
    },
}

pub(super) struct Log {
    path: PathBuf,
    file: File,
    losses: Vec<f32>,
    dev: Vec<(usize, f32)>,
}

/// Where a run's curve is.
pub(super) fn plot_path(run: &Path) -> PathBuf {
    run.join(PLOT)
}

impl Log {
    /// Opens the log as it was after `steps` steps: what came after the checkpoint is taken again.
    pub fn open(run: &Path, steps: usize) -> Result<Self, TrainingError> {
        let path = run.join(LOG);
        let failed = |source| TrainingError::Write {
            path: path.clone(),
            source,
        };
        let before = match std::fs::read_to_string(&path) {
            _ if steps == 0 => String::new(),
            Ok(text) => text,
            // Without its log a run is whole all the same: only its curve begins later.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(TrainingError::Read { path, source }),
        };
        let (mut losses, mut dev, mut kept) = (Vec::new(), Vec::new(), String::new());
        for text in before.lines() {
            // The last line may have been cut off.
            match serde_json::from_str(text) {
                Ok(Line::Step { step, loss, .. }) if step <= steps => losses.push(loss),
                Ok(Line::Dev { step, dev_loss }) if step <= steps => dev.push((step, dev_loss)),
                _ => break,
            }
            kept.push_str(text);
            kept.push('\n');
        }
        durable::replace(&path, |out| out.write_all(kept.as_bytes())).map_err(failed)?;
        let file = OpenOptions::new()
            .append(true)
            .open(&path)
            .map_err(failed)?;
        Ok(Self {
            path,
            file,
            losses,
            dev,
        })
    }

    pub fn add(&mut self, line: &Line) -> Result<(), TrainingError> {
        match line {
            Line::Step { loss, .. } => self.losses.push(*loss),
            Line::Dev { step, dev_loss } => self.dev.push((*step, *dev_loss)),
        }
        let mut text = serde_json::to_vec(line).unwrap_or_default();
        text.push(b'\n');
        self.file
            .write_all(&text)
            .map_err(|source| TrainingError::Write {
                path: self.path.clone(),
                source,
            })
    }

    /// Loss of each step.
    pub fn losses(&self) -> &[f32] {
        &self.losses
    }

    /// The dev split's, with the steps taken before.
    pub fn dev(&self) -> &[(usize, f32)] {
        &self.dev
    }

    /// Draws the curve.
    pub fn plot(&self, run: &Path, title: &str) -> Result<(), TrainingError> {
        let path = plot_path(run);
        let svg = LossCurve {
            title,
            train: &self.losses,
            dev: &self.dev,
        }
        .svg();
        durable::replace(&path, |out| out.write_all(svg.as_bytes()))
            .map_err(|source| TrainingError::Write { path, source })
    }
}
