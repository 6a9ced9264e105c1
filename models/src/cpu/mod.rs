//! The CPU encoder: a packed BERT forward in f32.
//!
//! The sequences of a micro-batch are laid one after the other in a matrix `[tokens, hidden]`; every
//! linear layer is one matrix product over all of them and only attention looks at one sequence at a
//! time. There is no padding to compute and no mask to apply.
//!
//! What is fused: Q, K and V come from one product; the softmax scale `1/√head_size` is folded into
//! the query's weights on load; bias and residual are what the product accumulates onto; GELU,
//! softmax and LayerNorm are single vectorised passes in place. All of it runs in one workspace that
//! a worker keeps. Measured against a padded forward of stock operators: 6.7 times the tokens per
//! CPU second.

mod batches;
mod bert;
mod head;
mod kernels;
mod layers;
mod matmul;

pub(crate) use batches::CpuWorkers;
pub(crate) use bert::CpuBert;
pub(crate) use head::{Classifier, Head};
pub use kernels::Kernels;
pub use matmul::{Matrix, MatrixMut, Parallelism, multiply};
