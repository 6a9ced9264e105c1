//! The vectors of all items, in 8 bits a component and one after the other: what a walk over all of
//! them reads. A quarter of the exact vectors' size, which stay with their signals and rank what the
//! walk finds.

use std::sync::Arc;

use millrace_schemas::Signal;

/// Rows of one dimension; freed ones are used again.
#[derive(Debug, Default)]
pub(super) struct Matrix {
    /// That of the first vector; vectors of another one are of another space and are left out.
    dimension: usize,
    rows: Vec<i8>,
    /// What one step of a row is worth.
    scales: Vec<f32>,
    signals: Vec<Option<Arc<Signal>>>,
    free: Vec<usize>,
}

impl Matrix {
    /// Adds an item's vector; gives its row.
    pub fn insert(&mut self, signal: &Arc<Signal>) -> Option<usize> {
        if self.signals.len() == self.free.len() && !signal.vector.is_empty() {
            // Nothing is here: whatever comes first says what fits.
            *self = Self {
                dimension: signal.vector.len(),
                ..Self::default()
            };
        }
        if signal.vector.len() != self.dimension || self.dimension == 0 {
            return None;
        }
        let (row, scale) = quantised(&signal.vector);
        let at = match self.free.pop() {
            Some(at) => at,
            None => {
                self.rows.resize(self.rows.len() + self.dimension, 0);
                self.scales.push(0.0);
                self.signals.push(None);
                self.signals.len() - 1
            }
        };
        self.rows[at * self.dimension..(at + 1) * self.dimension].copy_from_slice(&row);
        self.scales[at] = scale;
        self.signals[at] = Some(Arc::clone(signal));
        Some(at)
    }

    /// Frees a row.
    pub fn remove(&mut self, at: usize) {
        if self.signals.get_mut(at).and_then(Option::take).is_some() {
            self.free.push(at);
        }
    }

    /// Components of a row.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Rows in use: vector, what one step is worth, item.
    #[inline(always)]
    pub fn rows(&self) -> impl Iterator<Item = (&[i8], f32, &Arc<Signal>)> {
        let rows = self.rows.chunks_exact(self.dimension.max(1));
        rows.zip(&self.scales)
            .zip(&self.signals)
            .filter_map(|((row, scale), signal)| Some((row, *scale, signal.as_ref()?)))
    }
}

/// The vector in 8 bits, and what one step is worth.
pub(super) fn quantised(vector: &[f32]) -> (Vec<i8>, f32) {
    let greatest = vector.iter().fold(f32::MIN_POSITIVE, |m, x| m.max(x.abs()));
    let scale = greatest / 127.0;
    // In range by construction; the cast saturates anyway, and makes 0 of what is no number.
    let row = vector.iter().map(|x| (x / scale).round() as i8).collect();
    (row, scale)
}
