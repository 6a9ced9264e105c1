//! Training on small models that are made here, and on the real one against PyTorch.
#![allow(clippy::unwrap_used)]

mod building;
mod crash;
mod gradients;
mod reference;
mod refusals;
mod running;
mod small;
