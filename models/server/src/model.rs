//! What computes the rows of requests: a model that serves, whatever it makes of texts.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use millrace_models::{ModelError, Segments};

use crate::rate::Rate;

/// A model that serves.
pub(crate) trait Model: Debug + Send + Sync {
    /// Tells one load of a model from another.
    fn id(&self) -> u64;

    /// How fast it computes.
    fn rate(&self) -> &Rate;

    /// Its numbers for each sequence, in order: a vector, or one score. Blocks.
    fn compute(&self, sequences: &[Segments<'_>]) -> Result<Vec<Vec<f32>>, ModelError>;
}

/// A number that no other load of a model has.
pub(crate) fn next_id() -> u64 {
    static LOADS: AtomicU64 = AtomicU64::new(0);
    LOADS.fetch_add(1, Relaxed)
}

/// Brings weights into the caches and workers to life, and measures: `compute` is called with eight
/// texts of half of what the model reads, which is about what texts have.
pub(crate) fn warm_up(
    max_tokens: usize,
    vocabulary: usize,
    compute: impl Fn(&[Segments<'_>]) -> Result<(), ModelError>,
) -> Result<Rate, ModelError> {
    let length = (max_tokens / 2).max(1);
    let ids = (0..length).map(|index| (index % vocabulary) as u32);
    let sequence: Vec<u32> = ids.collect();
    let batch = vec![Segments::alone(&sequence); 8];
    compute(&batch)?;
    let start = Instant::now();
    compute(&batch)?;
    Ok(Rate::measured(length * batch.len(), start.elapsed()))
}
