//! LambdaMART by LightGBM, from queries with grades to a text model.

mod options;
mod set;
mod train;

pub use options::LambdaMartOptions;
pub use set::{Query, TrainingSet, TrainingSetError};
pub use train::{Iteration, TrainError, Trained};
