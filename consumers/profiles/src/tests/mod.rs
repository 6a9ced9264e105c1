//! Applying as a whole, against a model of it.

mod model;
