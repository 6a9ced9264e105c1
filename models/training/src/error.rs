//! What can stand in the way of a dataset or of training.

use std::io;
use std::path::PathBuf;

use millrace_index::IndexError;
use millrace_models::{ModelError, StoreError};

/// Why a dataset could not be built or read.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// A file could not be read.
    #[error("failed to read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A file could not be written.
    #[error("failed to write `{}`; nothing of the dataset was put in its place", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A line is not what the file should hold.
    #[error("`{}`, line {line}: expected {expected}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Its number, from 1.
        line: usize,
        /// What a line should be.
        expected: &'static str,
        /// Where the JSON breaks.
        #[source]
        source: serde_json::Error,
    },
    /// A text is so large that it is no passage.
    #[error(
        "`{}`, line {line} is longer than {limit} bytes: no passage is; cut the document into \
         passages first", path.display()
    )]
    GiantText {
        /// The file.
        path: PathBuf,
        /// Its number, from 1.
        line: usize,
        /// The most that is read.
        limit: usize,
    },
    /// A text has nothing to learn from.
    #[error("`{}`, line {line}: {what} is empty", path.display())]
    EmptyText {
        /// The file.
        path: PathBuf,
        /// Its number, from 1.
        line: usize,
        /// Such as `query`.
        what: &'static str,
    },
    /// There is nothing to learn from.
    #[error("no pairs of query and passage: {why}")]
    NoPairs {
        /// What was there instead.
        why: String,
    },
    /// An option has a value that can't be followed.
    #[error("{option} is {found}; {rule}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        rule: &'static str,
    },
    /// The index that finds hard negatives failed.
    #[error("failed to find hard negatives")]
    Index(#[from] IndexError),
    /// A file that the dataset is built from is another now than when it was read.
    #[error("`{}` changed while the dataset was built from it; build it again", path.display())]
    SourceChanged {
        /// The file.
        path: PathBuf,
    },
    /// A file of the dataset is not the one that its manifest names.
    #[error(
        "`{}` has SHA-256 {found}, its manifest says {expected}; build the dataset again",
        path.display()
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// What the manifest says.
        expected: String,
        /// What is there.
        found: String,
    },
}

/// Why a model could not be trained.
#[derive(Debug, thiserror::Error)]
pub enum TrainingError {
    /// The base model can't be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The base model's files can't be listed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The dataset can't be used.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The tokenizer makes ids that the model has no vectors for.
    #[error(
        "the tokenizer in `{}` has ids up to {largest}, the model's word table ends at {last}: they \
         are not of one model; take both from the same folder", folder.display()
    )]
    TokenizerMismatch {
        /// The base model's folder.
        folder: PathBuf,
        /// The largest id of the tokenizer.
        largest: usize,
        /// The last row of the word table.
        last: usize,
    },
    /// An option has a value that can't be followed.
    #[error("training option `{option}` is {found}; {rule}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        rule: String,
    },
    /// A step could not be taken.
    #[error(transparent)]
    Diverged(#[from] NotFinite),
    /// A run ended because something is not a number any more.
    #[error(
        "step {step}: {what}; training stopped {}. {} {}",
        what.stopped(), kept.describe(), what.advice()
    )]
    NotFinite {
        /// The step, from 1.
        step: usize,
        /// What is not finite.
        what: NotFinite,
        /// What is left of the run.
        kept: Kept,
    },
    /// A checkpoint could not be written.
    #[error(
        "failed to write the checkpoint `{}`; the one before it is whole. Free {bytes} bytes there \
         and go on with --resume", path.display()
    )]
    WriteCheckpoint {
        /// The file.
        path: PathBuf,
        /// How large it is.
        bytes: usize,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A file of the run or of the base model could not be read.
    #[error("failed to read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A file of the run could not be written.
    #[error("failed to write `{}`; free space there and go on with --resume", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A checkpoint can't be read.
    #[error("checkpoint `{}`: {reason}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A run goes on with something else than it began with.
    #[error(
        "the run in `{}` began with {what} {began}, this is {now}; go on with what it began with, or \
         start another run", folder.display()
    )]
    OtherRun {
        /// The run's folder.
        folder: PathBuf,
        /// What differs.
        what: String,
        /// Its value at the beginning.
        began: String,
        /// Its value now.
        now: String,
    },
    /// The run's folder has a run in it.
    #[error(
        "`{}` holds a run already; go on with it by --resume, or name another folder", folder.display()
    )]
    RunExists {
        /// The run's folder.
        folder: PathBuf,
    },
    /// What is no model of a run is where the run's model would go.
    #[error(
        "`{}` is there already, and the run's model would go there; move it away, or name another \
         folder for the run", path.display()
    )]
    ModelExists {
        /// The model's place.
        path: PathBuf,
    },
    /// There is nothing to go on with.
    #[error("`{}` holds no checkpoint to resume from; start without --resume", folder.display())]
    NothingToResume {
        /// The run's folder.
        folder: PathBuf,
    },
    /// The worker threads could not be started.
    #[error("failed to start {threads} training threads")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// What the thread pool said.
        #[source]
        source: rayon::ThreadPoolBuildError,
    },
    /// A parameter received no gradient: an operation without a backward is in its way.
    #[error("parameter `{parameter}` received no gradient")]
    NoGradient {
        /// The tensor's name.
        parameter: String,
    },
    /// The device failed while computing.
    #[error("the device failed while computing")]
    Device(#[from] candle_core::Error),
}

/// What is NaN or infinite.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum NotFinite {
    /// A batch's loss.
    #[error("the loss is {0}")]
    Loss(f32),
    /// The gradient of a batch's vectors, of a loss that is finite.
    #[error("the loss is {0}, and its gradient is not finite")]
    Gradient(f32),
    /// The dev split's loss.
    #[error("the dev split's loss is {0}")]
    DevLoss(f32),
    /// A parameter, after a step.
    #[error("a parameter is not finite any more")]
    Parameter,
    /// One of the optimizer's moments, after a step.
    #[error("a moment of the optimizer is not finite any more")]
    Moment,
}

impl NotFinite {
    fn stopped(self) -> &'static str {
        match self {
            Self::Loss(_) | Self::Gradient(_) => "before the step changed anything",
            Self::DevLoss(_) | Self::Parameter | Self::Moment => "before any of it was kept",
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::Loss(_) | Self::Gradient(_) => {
                "Lower the learning rate, or look for damaged texts"
            }
            Self::DevLoss(_) => {
                "Lower the learning rate, or look for damaged texts in the dev split"
            }
            Self::Parameter | Self::Moment => "Lower the learning rate",
        }
    }
}

/// What is left of a run that stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Nothing: no checkpoint was written yet.
    Nothing,
    /// The checkpoint of this step.
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// The step after which it was written.
        step: usize,
    },
}

impl Kept {
    fn describe(&self) -> String {
        match self {
            Self::Nothing => "There was no checkpoint yet.".to_owned(),
            Self::Checkpoint { path, step } => format!(
                "The checkpoint of step {step} is kept in `{}`.",
                path.display()
            ),
        }
    }
}
