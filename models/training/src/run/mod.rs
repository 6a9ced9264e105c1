//! A whole run: dataset and base model in, a folder with log, plot, checkpoint and model out.
//!
//! ```text
//! RUN/run.json                 what the run is of: base, data, options
//!     log.jsonl                a line a step, a line a judgement of the dev split
//!     checkpoint.safetensors   to go on from
//!     best.safetensors         parameters of the best judgement, where there is a dev split
//!     loss.svg                 the curve
//!     NAME/                    the model, once the run is over
//! ```

mod folder;
mod log;
mod model;

use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::Device;
use millrace_models::{ModelConfig, ModelFingerprint, Tokenizer, version_of};
use serde::Serialize;

use crate::batches::{Examples, Pick};
use crate::checkpoint::{self, Best, Progress};
use crate::dataset::Dataset;
use crate::error::{Kept, NotFinite, TrainingError};
use crate::loss::ContrastiveLoss;
use crate::network::Network;
use crate::optimizer::{AdamWOptions, Moments, learning_rate};
use crate::options::TrainingOptions;
use crate::parameters::ParameterLayout;
use crate::trainer::Trainer;
use folder::{Identity, RunFolder};
use log::Line;

/// What is to be trained, on what, and where it goes.
pub struct Run<'a> {
    /// The sentence-transformers folder to start from.
    pub base: &'a Path,
    /// What to learn from.
    pub dataset: &'a Dataset,
    /// The run's folder; its name is the model's.
    pub out: &'a Path,
    /// How.
    pub options: &'a TrainingOptions,
    /// What computes.
    pub device: &'a Device,
    /// Whether to go on with the run that is in the folder.
    pub resume: bool,
}

/// How far a run is, after each step.
#[derive(Clone, Copy, Debug)]
pub struct StepReport {
    /// Steps taken.
    pub done: usize,
    /// Steps in all, unless the dev split ends the run earlier.
    pub steps: usize,
    /// The step's loss.
    pub loss: f32,
    /// Its learning rate.
    pub learning_rate: f64,
    /// Tokens a second of this step.
    pub tokens_per_second: f64,
    /// The dev split's last loss.
    pub dev_loss: Option<f32>,
    /// Bytes that training holds at most, as far as it is known beforehand.
    pub expected_bytes: Option<usize>,
}

/// What became of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Name and fingerprint of the model.
    pub model_version: String,
    /// Its folder.
    pub model: PathBuf,
    /// The curve.
    pub plot: PathBuf,
    /// Steps taken.
    pub steps: usize,
    /// Whether the dev split ended the run.
    pub stopped_early: bool,
    /// Mean loss of the first ten steps.
    pub first_loss: f32,
    /// Mean loss of the last ten steps.
    pub last_loss: f32,
    /// The dev split's best loss, and after how many steps; the model is of then.
    pub best: Option<Best>,
    /// Seconds that the steps took, of all processes that worked on them.
    pub seconds: f64,
    /// Tokens a second.
    pub tokens_per_second: f64,
    /// The most memory that this process held, in bytes; 0 where the system does not tell.
    pub peak_memory_bytes: u64,
    /// SHA-256 of the dataset's manifest.
    pub dataset_sha256: String,
}

/// Trains, or goes on, to the end; `progress` is told of each step.
///
/// # Errors
/// [`TrainingError`]; whatever it is, the last checkpoint is whole and the run can go on from it.
pub fn train(
    run: &Run<'_>,
    progress: &mut dyn FnMut(&StepReport),
) -> Result<Report, TrainingError> {
    let options = run.options;
    let config = ModelConfig::read(run.base)?;
    options.validate(config.hidden_size, config.max_tokens)?;
    if let Some(patience) = options.patience
        && run.dataset.dev.is_empty()
    {
        return Err(TrainingError::Option {
            option: "patience",
            found: patience.to_string(),
            rule: "the dataset has no dev split to judge by; build one with a share for it"
                .to_owned(),
        });
    }
    let tokenizer = Tokenizer::load(&run.base.join("tokenizer.json"), options.max_tokens)?;
    if tokenizer.id_bound() > config.vocab_size {
        return Err(TrainingError::TokenizerMismatch {
            folder: run.base.to_owned(),
            largest: tokenizer.id_bound() - 1,
            last: config.vocab_size - 1,
        });
    }
    let identity = Identity {
        base: ModelFingerprint::of_folder(run.base)?.as_str().to_owned(),
        dataset: run.dataset.sha256.clone(),
        device: device_kind(run.device).to_owned(),
        options: options.clone(),
    };
    let folder = RunFolder::open(run.out, &identity, run.resume)?;

    let layout = ParameterLayout::new(&config);
    let (parameters, moments, state) = if run.resume {
        checkpoint::read(folder.path(), layout.len())?
    } else {
        let moments = Moments::zero(layout.len());
        (layout.read(run.base)?, moments, Progress::default())
    };
    let network = Network::new(&config, &layout, run.device, options.threads)?;
    let loss = ContrastiveLoss {
        scale: options.scale,
        dimensions: options.loss_dimensions(config.hidden_size),
    };
    let optimizer = AdamWOptions {
        weight_decay: options.weight_decay,
        ..AdamWOptions::default()
    };
    let trainer = Trainer::new(
        network,
        layout.clone(),
        parameters,
        moments,
        loss,
        optimizer,
    )
    .with_grad_cache(options.grad_cache);
    let mut running = Running {
        options,
        train: Examples::tokenize(&run.dataset.train, &tokenizer)?,
        dev: Examples::tokenize(&run.dataset.dev, &tokenizer)?,
        log: log::Log::open(folder.path(), state.steps)?,
        saved: run.resume.then_some(state.steps),
        folder,
        trainer,
        state,
        layout,
    };
    running.run_to_end(progress)?;
    running.finish(run, &identity)
}

/// A run while it runs.
struct Running<'a> {
    options: &'a TrainingOptions,
    train: Examples,
    dev: Examples,
    folder: RunFolder,
    log: log::Log,
    trainer: Trainer,
    layout: ParameterLayout,
    state: Progress,
    /// The step of the checkpoint that is there.
    saved: Option<usize>,
}

impl Running<'_> {
    fn run_to_end(&mut self, progress: &mut dyn FnMut(&StepReport)) -> Result<(), TrainingError> {
        let options = self.options;
        let an_epoch = self.train.len().div_ceil(options.batch);
        let steps = an_epoch * options.epochs;
        let warm_up = (steps as f64 * options.warm_up).round() as usize;
        let largest = self
            .train
            .largest_batch_tokens(options.batch, options.negatives);
        let expected_bytes = self.trainer.peak_bytes(largest);
        while self.state.steps < steps && !self.state.finished {
            let (epoch, first) = (self.state.steps / an_epoch, self.state.steps % an_epoch);
            let batches = (self.train).epoch(options.seed, epoch, options.batch, options.negatives);
            for picks in &batches[first..] {
                let rate = learning_rate(options.learning_rate, self.state.steps, warm_up, steps);
                let (loss, tokens_per_second) = self.step(picks, rate)?;
                progress(&StepReport {
                    done: self.state.steps,
                    steps,
                    loss,
                    learning_rate: rate,
                    tokens_per_second,
                    dev_loss: self.log.dev().last().map(|(_, loss)| *loss),
                    expected_bytes,
                });
                let ends_epoch = self.state.steps.is_multiple_of(an_epoch);
                if ends_epoch || self.state.steps.is_multiple_of(options.checkpoint_every) {
                    self.keep(ends_epoch, steps)?;
                }
            }
        }
        Ok(())
    }

    fn step(&mut self, picks: &[Pick], rate: f64) -> Result<(f32, f64), TrainingError> {
        let started = Instant::now();
        let batch = self.train.batch(picks);
        let step = self.state.steps + 1;
        let loss = match self.trainer.step(&batch, step, rate) {
            Err(TrainingError::Diverged(what)) => return Err(self.not_finite(step, what)),
            taken => taken?,
        };
        let seconds = started.elapsed().as_secs_f64();
        self.state.steps = step;
        self.state.seconds += seconds;
        self.state.tokens += batch.tokens() as u64;
        self.log.add(&Line::Step {
            step,
            loss,
            learning_rate: rate,
            tokens: batch.tokens(),
            seconds,
        })?;
        Ok((loss, batch.tokens() as f64 / seconds))
    }

    /// Writes a checkpoint, after an epoch with the dev split's judgement in it. A step's loss is of
    /// before the step: what it made of parameters and moments would show later, so all of them are
    /// looked at before any are kept.
    fn keep(&mut self, ends_epoch: bool, steps: usize) -> Result<(), TrainingError> {
        if let Err(what) = self.trainer.check() {
            return Err(self.not_finite(self.state.steps, what));
        }
        if ends_epoch {
            self.judge()?;
            self.state.finished |= self.state.steps == steps;
        }
        self.save()
    }

    /// Judges by the dev split, where there is one, and keeps what was best.
    fn judge(&mut self) -> Result<(), TrainingError> {
        if self.dev.is_empty() {
            return Ok(());
        }
        let (mut sum, mut queries) = (0.0, 0);
        for picks in self
            .dev
            .in_order(self.options.batch, self.options.negatives)
        {
            let batch = self.dev.batch(&picks);
            sum += f64::from(self.trainer.evaluate(&batch)?) * batch.queries as f64;
            queries += batch.queries;
        }
        let loss = (sum / queries as f64) as f32;
        let steps = self.state.steps;
        if !loss.is_finite() {
            return Err(self.not_finite(steps, NotFinite::DevLoss(loss)));
        }
        self.log.add(&Line::Dev {
            step: steps,
            dev_loss: loss,
        })?;
        if self.state.best.is_none_or(|best| loss < best.loss) {
            self.folder.keep_best(self.trainer.parameters())?;
            self.state.best = Some(Best { steps, loss });
            self.state.without_gain = 0;
        } else {
            self.state.without_gain += 1;
        }
        self.state.finished =
            (self.options.patience).is_some_and(|patience| self.state.without_gain >= patience);
        Ok(())
    }

    fn save(&mut self) -> Result<(), TrainingError> {
        checkpoint::write(
            self.folder.path(),
            self.trainer.parameters(),
            self.trainer.moments(),
            &self.state,
        )?;
        self.saved = Some(self.state.steps);
        self.log.plot(self.folder.path(), &self.folder.name())
    }

    fn not_finite(&self, step: usize, what: NotFinite) -> TrainingError {
        let kept = self.saved.map_or(Kept::Nothing, |step| Kept::Checkpoint {
            path: checkpoint::path(self.folder.path()),
            step,
        });
        TrainingError::NotFinite { step, what, kept }
    }

    fn finish(self, run: &Run<'_>, identity: &Identity) -> Result<Report, TrainingError> {
        let best = match self.state.best {
            Some(_) => Some(self.folder.best(self.layout.len())?),
            None => None,
        };
        let parameters = best.as_deref().unwrap_or(self.trainer.parameters());
        let losses = self.log.losses();
        let mean = |losses: &[f32]| losses.iter().sum::<f32>() / losses.len().max(1) as f32;
        let folder = self.folder.path();
        let mut report = Report {
            model_version: String::new(),
            model: self.folder.model(),
            plot: log::plot_path(folder),
            steps: self.state.steps,
            stopped_early: self.state.steps
                < self.train.len().div_ceil(self.options.batch) * self.options.epochs,
            first_loss: mean(&losses[..losses.len().min(10)]),
            last_loss: mean(&losses[losses.len().saturating_sub(10)..]),
            best: self.state.best,
            seconds: self.state.seconds,
            tokens_per_second: self.state.tokens as f64 / self.state.seconds.max(1e-9),
            peak_memory_bytes: peak_memory_bytes(),
            dataset_sha256: identity.dataset.clone(),
        };
        model::write(run, identity, &self.layout, parameters, &report)?;
        report.model_version = version_of(&report.model)?;
        Ok(report)
    }
}

/// As the run's identity has it: another GPU of the machine goes on with what the first began.
fn device_kind(device: &Device) -> &'static str {
    match device {
        Device::Cpu => "cpu",
        Device::Cuda(_) => "cuda",
        Device::Metal(_) => "metal",
    }
}

/// The most memory that this process held, as Linux tells it.
fn peak_memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|peak| peak.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
