//! Applying as a whole, against a model of it, and what becomes of profiles with another encoder.

mod model;
mod samples;
mod spaces;
