//! The packed forward on worker threads.

use std::num::NonZeroUsize;

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::cpu::bert::CpuBert;
use crate::cpu::matmul::Parallelism;
use crate::error::ModelError;
use crate::packing::{micro_batch_count, micro_batches};
use crate::sequence::Segments;

/// Tokens of a micro-batch: its matrices stay in the cache (256–4,096 are within 7 %).
const BATCH_TOKENS: usize = 512;
/// Below this many tokens a worker, a batch is better cut within the matrix products.
const MIN_BATCH_TOKENS: usize = 64;

/// Threads that tokenize and compute.
pub(crate) struct CpuWorkers(ThreadPool);

impl CpuWorkers {
    /// So many threads, called `name-0` and so on; without a number one a core.
    pub fn start(threads: Option<NonZeroUsize>, name: &'static str) -> Result<Self, ModelError> {
        let threads = threads.map_or(0, NonZeroUsize::get);
        ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(move |index| format!("{name}-{index}"))
            .build()
            .map(Self)
            .map_err(|source| ModelError::Threads { threads, source })
    }

    pub fn threads(&self) -> usize {
        self.0.current_num_threads()
    }

    /// Runs `work` here, with its parallel parts.
    pub fn install<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.0.install(work)
    }

    /// What the model makes of each sequence, in order.
    pub fn forward(&self, model: &CpuBert, sequences: &[Segments<'_>]) -> Vec<Vec<f32>> {
        let lengths: Vec<usize> = sequences
            .iter()
            .map(|sequence| sequence.ids.len())
            .collect();
        let count = micro_batch_count(
            lengths.iter().sum(),
            self.threads(),
            MIN_BATCH_TOKENS,
            BATCH_TOKENS,
        );
        let batches = micro_batches(&lengths, count);
        if batches.len() < 2 {
            // A query: the only work there is to share lies inside the matrix products.
            let parallelism = match self.threads() {
                1 => Parallelism::None,
                threads => Parallelism::Rayon(threads),
            };
            return self.install(|| {
                batches
                    .into_iter()
                    .flat_map(|batch| model.forward(&sequences[batch], parallelism))
                    .collect()
            });
        }
        self.install(|| {
            batches
                .into_par_iter()
                .with_max_len(1)
                .flat_map_iter(|batch| model.forward(&sequences[batch], Parallelism::None))
                .collect()
        })
    }
}
