//! Ranks candidates by their features, learns how to from clicks, and keeps a list varied.
//!
//! ```text
//! queries with grades ─► TrainingSet ─► LightGbm::train ─► LightGBM's text ─► RankerModel ─► file
//!                                       (native library)                          │
//! feature rows ─► Ranker::score (Forest or WeightedDefault) ─► mmr ─► Exploration ─► list
//! ```
//!
//! Training calls LightGBM's C interface in the official shared library, which is loaded at run time
//! ([`LightGbm`]). Serving needs no native library: [`Forest`] reads LightGBM's text model, so a model
//! trained elsewhere, in Python for one, is served as it is.
//!
//! Promises:
//! - A [`Forest`] gives the scores that LightGBM gives for the same `f32` row, missing values and
//!   categories included; a model file that it can't evaluate is refused with the line.
//! - A training set that LightGBM can't learn from is refused before the library is called.
//! - The same sets, options and seed train the same model.
//! - A [`RankerModel`] is served only for the feature version it was trained on.
//! - What a request explores depends on its id alone and can be recomputed, with its propensity.
//!
//! Left to others: computing features and naming their version, recall, the time split, and when a
//! model is deployed.

pub mod diversity;
pub mod evaluation;
pub mod exploration;
mod forest;
mod lightgbm;
mod package;
mod ranker;
mod training;
mod weighted;

pub use exploration::Exploration;
pub use forest::{Forest, ForestError, Importance, RowsError};
pub use lightgbm::{Booster, BoosterError, LibraryError, LightGbm, LightGbmError, Prediction};
pub use millrace_features::FeatureSpec;
pub use package::{PackageError, RankerModel};
pub use ranker::Ranker;
pub use training::{
    Iteration, LambdaMartOptions, Query, TrainError, Trained, TrainingSet, TrainingSetError,
};
pub use weighted::{WeightedDefault, WeightsError};
