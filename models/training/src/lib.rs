//! Training data for sentence encoders, and their training.
//!
//! ```text
//! pairs ─► dataset: hard negatives, split, manifest ─► batches: tokens, order, company
//!                                                           │
//!       checkpoint ◄─ optimizer ◄─ gradients ◄─ loss ◄─ vectors ◄─ network
//!           │
//!           └─► run: log, plot, sentence-transformers folder with card
//! ```
//!
//! Promises:
//! - Every parameter receives its gradient, and each is held against finite differences and against
//!   the same network in candle's own operations.
//! - On a CPU a run is repeated bit for bit by its dataset, base, options and number of threads, also
//!   where it was killed in between and resumed.
//! - A loss, or a gradient of its vectors, that is not finite ends the run before it changes the model.
//!   Parameters and moments are checked before anything is kept of them, so a checkpoint is finite
//!   throughout; one that can't be written leaves the one before.
//! - A finished model is a sentence-transformers folder whose card names the exact data and base.
//!
//! Left to others: keeping versions of models, serving them, judging whether one is better.

mod batches;
pub mod checkpoint;
pub mod dataset;
mod durable;
mod error;
mod loss;
mod network;
mod optimizer;
mod options;
mod parameters;
mod plot;
mod run;
mod tensors;
mod trainer;

pub use candle_core::Device;

pub use batches::{Batch, Examples, Pick};
pub use error::{DatasetError, Kept, NotFinite, TrainingError};
pub use loss::{ContrastiveLoss, LossGradient};
pub use network::{Network, Tape};
pub use optimizer::{AdamWOptions, Moments, learning_rate};
pub use options::TrainingOptions;
pub use parameters::{ParameterLayout, Place};
pub use run::{Report, Run, StepReport, train};
pub use trainer::Trainer;
