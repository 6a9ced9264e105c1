//! `millrace train embedding`: fine-tunes a sentence encoder.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use millrace_models::ModelStore;
use millrace_models::store::ModelReference;
use millrace_training::dataset::Dataset;
use millrace_training::{Report, Run, TrainingOptions, train};

use crate::output::Output;

/// Fine-tune a sentence encoder on queries and the passages that answer them.
///
/// The run's folder gets log, loss curve, checkpoint and, in a folder of the run's name, the model: a
/// sentence-transformers folder for `model.path` or `model import`. Where the dataset has a dev split,
/// it is that of the epoch with the lowest dev loss, else that of the last. A run that was cut off goes
/// on with `--resume` as if it had not been.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A dataset of `millrace dataset build`.
    #[arg(long, value_name = "DIR")]
    dataset: PathBuf,
    /// The model to start from: its name in the store, or a sentence-transformers folder.
    #[arg(long, default_value = "all-MiniLM-L6-v2", value_name = "MODEL")]
    base: String,
    /// The run's folder; its name is the model's.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Go on with the run that is in the folder.
    #[arg(long)]
    resume: bool,
    /// How often the training split is gone through; the epoch with the lowest dev loss is kept.
    #[arg(long, default_value_t = TrainingOptions::default().epochs)]
    epochs: usize,
    /// Pairs a step.
    #[arg(long, default_value_t = TrainingOptions::default().batch)]
    batch: usize,
    /// Hard negatives a pair, drawn anew each epoch.
    #[arg(long, default_value_t = TrainingOptions::default().negatives)]
    negatives: usize,
    /// Where texts are cut, in tokens.
    #[arg(long, default_value_t = TrainingOptions::default().max_tokens)]
    max_tokens: usize,
    /// The highest learning rate.
    #[arg(long, default_value_t = TrainingOptions::default().learning_rate)]
    learning_rate: f64,
    /// Share of the steps in which the rate rises to it.
    #[arg(long, default_value_t = TrainingOptions::default().warm_up)]
    warm_up: f64,
    /// AdamW's decay.
    #[arg(long, default_value_t = TrainingOptions::default().weight_decay)]
    weight_decay: f32,
    /// What cosines are multiplied by in the loss.
    #[arg(long, default_value_t = TrainingOptions::default().scale)]
    scale: f64,
    /// Lengths that vectors may be cut to (Matryoshka), such as 384,256,128,64. Default: the whole alone.
    #[arg(long, value_delimiter = ',', value_name = "LENGTHS")]
    dimensions: Vec<usize>,
    /// Of the order of the data and the negatives drawn.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Compute each batch twice, in memory that does not grow with it: for large batches.
    #[arg(long)]
    grad_cache: bool,
    /// Epochs without a lower dev loss after which the run ends; needs a dev split. Default: it does not
    /// end early. Where there is a dev split, the model of the lowest dev loss is kept either way.
    #[arg(long, value_name = "EPOCHS")]
    patience: Option<usize>,
    /// Steps between checkpoints; there is one after each epoch too.
    #[arg(long, default_value_t = TrainingOptions::default().checkpoint_every, value_name = "STEPS")]
    checkpoint_every: usize,
    /// Threads to train on. Another number may change the last bits of a model. Default: one a core.
    #[arg(long)]
    threads: Option<NonZeroUsize>,
    /// Train on this NVIDIA GPU instead of the CPU; needs a build with `--features cuda`.
    #[arg(long, value_name = "NUMBER")]
    cuda: Option<usize>,
}

impl Args {
    fn options(&self) -> TrainingOptions {
        let default = TrainingOptions::default();
        TrainingOptions {
            epochs: self.epochs,
            batch: self.batch,
            negatives: self.negatives,
            max_tokens: self.max_tokens,
            learning_rate: self.learning_rate,
            warm_up: self.warm_up,
            weight_decay: self.weight_decay,
            scale: self.scale,
            dimensions: self.dimensions.clone(),
            seed: self.seed,
            grad_cache: self.grad_cache,
            patience: self.patience,
            checkpoint_every: self.checkpoint_every,
            threads: self.threads.map_or(default.threads, NonZeroUsize::get),
        }
    }
}

pub async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let base = base(&args.base)?;
    let training = tokio::task::spawn_blocking(move || follow(&args, &base, output));
    let report = training.await.context("training was cut off")??;
    output.result(&report, || describe(&report))?;
    Ok(ExitCode::SUCCESS)
}

/// The base model's folder: a path where there is one, else a model of the store.
fn base(name: &str) -> anyhow::Result<PathBuf> {
    let path = Path::new(name);
    if path.is_dir() {
        return Ok(path.to_owned());
    }
    let located = || -> anyhow::Result<PathBuf> {
        let reference: ModelReference = name.parse()?;
        Ok(ModelStore::from_env()?.locate(&reference)?)
    };
    located().with_context(|| format!("{name} is no folder, and no model of the store"))
}

fn follow(args: &Args, base: &Path, output: Output) -> anyhow::Result<Report> {
    let dataset = Dataset::read(&args.dataset)?;
    let device = device(args.cuda)?;
    let options = args.options();
    let run = Run {
        base,
        dataset: &dataset,
        out: &args.out,
        options: &options,
        device: &device,
        resume: args.resume,
    };
    let bar = output.progress(None, "steps");
    bar.enable_steady_tick(Duration::from_secs(1));
    let mut first = true;
    let report = train(&run, &mut |step| {
        if first {
            // What came before a restart is not part of the rate.
            bar.set_position(step.done as u64 - 1);
            bar.reset_eta();
            first = false;
            if let Some(bytes) = step.expected_bytes {
                bar.println(format!("memory: about {} MiB", bytes >> 20));
            }
        }
        bar.set_length(step.steps as u64);
        bar.set_position(step.done as u64);
        let dev = step
            .dev_loss
            .map_or_else(String::new, |loss| format!(" · dev {loss:.4}"));
        bar.set_message(format!(
            "· loss {:.4}{dev} · rate {:.1e} · {:.0} tokens/s",
            step.loss, step.learning_rate, step.tokens_per_second
        ));
    });
    bar.finish_and_clear();
    Ok(report?)
}

#[cfg(feature = "cuda")]
fn device(number: Option<usize>) -> anyhow::Result<millrace_training::Device> {
    match number {
        None => Ok(millrace_training::Device::Cpu),
        Some(number) => millrace_training::Device::new_cuda(number)
            .with_context(|| format!("the GPU {number} can't be used")),
    }
}

#[cfg(not(feature = "cuda"))]
fn device(number: Option<usize>) -> anyhow::Result<millrace_training::Device> {
    match number {
        None => Ok(millrace_training::Device::Cpu),
        Some(_) => {
            anyhow::bail!("--cuda needs a build with `--features cuda`; this one has the CPU only")
        }
    }
}

fn describe(report: &Report) -> String {
    let dev = report.best.map_or_else(String::new, |best| {
        format!(" · dev {:.4} after {} steps", best.loss, best.steps)
    });
    let early = if report.stopped_early {
        ", stopped early"
    } else {
        ""
    };
    format!(
        "{}: {} steps{early} in {:.0} s · {:.0} tokens/s · loss {:.4} to {:.4}{dev} · {} MiB\n\
         model: {}\nloss curve: {}",
        report.model_version,
        report.steps,
        report.seconds,
        report.tokens_per_second,
        report.first_loss,
        report.last_loss,
        report.peak_memory_bytes >> 20,
        report.model.display(),
        report.plot.display()
    )
}
